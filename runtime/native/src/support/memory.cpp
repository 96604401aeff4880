#include "support/memory.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace grt {

#if defined(__linux__)

void* allocate_aligned(size_t size) {
  constexpr size_t kHugePage = size_t{1} << 21;
  void* memory = nullptr;
  const size_t alignment = size < kHugePage ? Allocator::kAlignment : kHugePage;
  if (posix_memalign(&memory, alignment, size) != 0) return nullptr;
  if (size >= kHugePage) madvise(memory, size / kHugePage * kHugePage, MADV_HUGEPAGE);
  return memory;
}

#elif !defined(_WIN32)

void* allocate_aligned(size_t size) { return std::aligned_alloc(Allocator::kAlignment, size); }

#endif

}  // namespace grt
