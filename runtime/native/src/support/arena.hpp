// Memory for many arrays that live and die together.
#pragma once

#include "support/memory.hpp"

namespace grt {

class Arena {
 public:
  explicit Arena(const Allocator& allocator = Allocator()) : allocator_(allocator) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    while (blocks_ != nullptr) {
      Block* next = blocks_->next;
      allocator_.release(blocks_, blocks_->size);
      blocks_ = next;
    }
  }

  // `count` zeros, aligned to 64 bytes; null and an error where there is no memory.
  template <typename T>
  T* array(uint64_t count, Error& error) {
    static_assert(std::is_trivially_copyable_v<T>);
    const uint64_t most = (SIZE_MAX / 4) / sizeof(T);
    void* memory = count > most ? nullptr : allocate(static_cast<size_t>(count) * sizeof(T));
    if (memory == nullptr) {
      error.fail(GRT_ERROR_OUT_OF_MEMORY,
                 "expected %llu bytes of memory, the allocator gave none; use a smaller model",
                 static_cast<unsigned long long>(count) * sizeof(T));
      return nullptr;
    }
    return static_cast<T*>(memory);
  }

  size_t bytes() const { return bytes_; }

 private:
  struct alignas(64) Block {
    Block* next;
    size_t size;
  };

  void* allocate(size_t size) {
    size = (size + 63) / 64 * 64;
    if (size > left_) {
      const size_t wanted = sizeof(Block) + size, block = wanted > next_block_ ? wanted : next_block_;
      if (next_block_ < kLargestBlock) next_block_ *= 2;
      auto* memory = static_cast<Block*>(allocator_.allocate(block));
      if (memory == nullptr) return nullptr;
      memory->next = blocks_;
      memory->size = block;
      blocks_ = memory;
      bytes_ += block;
      next_ = reinterpret_cast<uint8_t*>(memory) + sizeof(Block);
      left_ = block - sizeof(Block);
    }
    void* result = next_;
    next_ += size;
    left_ -= size;
    std::memset(result, 0, size);
    return result;
  }

  // Blocks grow, so that small models take little and large ones fill huge pages.
  static constexpr size_t kFirstBlock = size_t{1} << 18, kLargestBlock = size_t{1} << 21;

  Allocator allocator_;
  Block* blocks_ = nullptr;
  uint8_t* next_ = nullptr;
  size_t left_ = 0, bytes_ = 0, next_block_ = kFirstBlock;
};

}  // namespace grt
