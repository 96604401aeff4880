// For fuzzers: an allocator that counts, and what has to hold or the fuzzer stops.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "support/memory.hpp"

#define GRT_MUST(condition)                                                           \
  do {                                                                                \
    if (!(condition)) {                                                               \
      std::fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                   \
    }                                                                                 \
  } while (0)

namespace grt::fuzz {

// Stops the fuzzer where more than `most` bytes are held at once, or some at its end.
class Bounded {
 public:
  explicit Bounded(size_t most) : most_(most) {
    grt_allocator_init(&hooks_);
    hooks_.user = this;
    hooks_.allocate = [](void* user, size_t size, size_t alignment) -> void* {
      Bounded& self = *static_cast<Bounded*>(user);
      self.held_ += size;
      GRT_MUST(self.held_ <= self.most_);
      // of the exact size, so that a sanitizer sees what is read beyond it
      void* memory = nullptr;
      return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
    };
    hooks_.release = [](void* user, void* memory, size_t size) {
      static_cast<Bounded*>(user)->held_ -= size;
      std::free(memory);
    };
  }
  Bounded(const Bounded&) = delete;
  Bounded& operator=(const Bounded&) = delete;
  ~Bounded() { GRT_MUST(held_ == 0); }

  Allocator allocator() const { return Allocator(hooks_); }

 private:
  grt_allocator hooks_;
  size_t most_, held_ = 0;
};

// A refusal says what was found, and ends within its memory.
inline void check_refusal(const Error& error) {
  GRT_MUST(error.status == GRT_ERROR_BUNDLE);
  const size_t length = strnlen(error.message, sizeof error.message);
  GRT_MUST(length > 0 && length < sizeof error.message);
}

}  // namespace grt::fuzz
