// Memory through the caller's hooks. Containers of the standard library are not used: they cannot fail
// softly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "support/error.hpp"

namespace grt {

#if !defined(_WIN32)
// Memory for `std::free`, aligned to 64 bytes, or null. From 2 MB on it lies on huge pages where Linux gives
// them, which made frames of the demo 1 to 3% shorter.
void* allocate_aligned(size_t size);
#endif

// The caller's hooks, or malloc and free. Copied by value; needs to be set up once.
class Allocator {
 public:
  static constexpr size_t kAlignment = 64;

  Allocator() = default;
  explicit Allocator(const grt_allocator& hooks) : hooks_(hooks) {}

  // `size` bytes aligned to 64, or null.
  void* allocate(size_t size) const {
    if (hooks_.allocate != nullptr) return hooks_.allocate(hooks_.user, size, kAlignment);
#if defined(_WIN32)
    return _aligned_malloc(size, kAlignment);
#else
    const size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    return rounded < size ? nullptr : allocate_aligned(rounded);
#endif
  }

  void release(void* memory, size_t size) const {
    if (memory == nullptr) return;
    if (hooks_.allocate != nullptr) return hooks_.release(hooks_.user, memory, size);
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
  }

 private:
  grt_allocator hooks_{};
};

// An array of plain values that is made once, aligned to 64 bytes, and freed with its owner.
template <typename T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(allocator_, other.allocator_);
    return *this;
  }
  ~Buffer() { allocator_.release(data_, size_ * sizeof(T)); }

  // Makes it `size` zeros, in place of what it was. On failure it is as it was.
  [[nodiscard]] bool create(const Allocator& allocator, size_t size, Error& error) {
    if (size > SIZE_MAX / sizeof(T))
      return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected fewer than %zu values", size);
    void* memory = nullptr;
    if (size > 0 && (memory = allocator.allocate(size * sizeof(T))) == nullptr) {
      return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected %zu bytes of memory, the allocator gave none",
                        size * sizeof(T));
    }
    if (size > 0) std::memset(memory, 0, size * sizeof(T));
    Buffer made;
    made.data_ = static_cast<T*>(memory);
    made.size_ = size;
    made.allocator_ = allocator;
    *this = std::move(made);
    return true;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
  Allocator allocator_{};
};

// A single object in the caller's memory: `make` and `destroy` are its new and delete. The object may be
// destroyed by its base class, if that has a virtual destructor and comes first: its size stands before it.
inline void* allocate_object(const Allocator& allocator, size_t size, Error& error) {
  const size_t bytes = Allocator::kAlignment + size;
  auto* memory = static_cast<unsigned char*>(allocator.allocate(bytes));
  if (memory == nullptr) {
    error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected %zu bytes of memory, the allocator gave none", bytes);
    return nullptr;
  }
  std::memcpy(memory, &bytes, sizeof bytes);
  return memory + Allocator::kAlignment;
}

inline void release_object(const Allocator& allocator, void* object) {
  unsigned char* memory = static_cast<unsigned char*>(object) - Allocator::kAlignment;
  size_t bytes;
  std::memcpy(&bytes, memory, sizeof bytes);
  allocator.release(memory, bytes);
}

template <typename T, typename... Arguments>
T* make(const Allocator& allocator, Error& error, Arguments&&... arguments) {
  static_assert(alignof(T) <= Allocator::kAlignment);
  void* memory = allocate_object(allocator, sizeof(T), error);
  return memory == nullptr ? nullptr : new (memory) T(std::forward<Arguments>(arguments)...);
}

template <typename T>
void destroy(Allocator allocator, T* object) {
  if (object == nullptr) return;
  object->~T();
  release_object(allocator, object);
}

}  // namespace grt
