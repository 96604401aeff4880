// A list that grows, for what is read once while a world is loaded.
#pragma once

#include "support/memory.hpp"

namespace grt {

template <typename T>
class List {
 public:
  explicit List(const Allocator& allocator) : allocator_(allocator) {}

  // Puts a value at the end. On failure the list is as it was.
  [[nodiscard]] bool add(const T& value, Error& error) {
    if (size_ == buffer_.size()) {
      Buffer<T> larger;
      if (!larger.create(allocator_, size_ < 8 ? 16 : 2 * size_, error)) return false;
      for (size_t i = 0; i < size_; i++) larger[i] = buffer_[i];
      buffer_ = std::move(larger);
    }
    buffer_[size_++] = value;
    return true;
  }

  size_t size() const { return size_; }
  T& operator[](size_t i) { return buffer_[i]; }
  const T& operator[](size_t i) const { return buffer_[i]; }
  T* begin() { return buffer_.data(); }
  T* end() { return buffer_.data() + size_; }
  const T* begin() const { return buffer_.data(); }
  const T* end() const { return buffer_.data() + size_; }

 private:
  Allocator allocator_;
  Buffer<T> buffer_;
  size_t size_ = 0;
};

}  // namespace grt
