#include "kernels/processor.hpp"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace grt {

#if defined(__x86_64__)

namespace {

// XCR0: the registers that the operating system saves.
uint32_t saved_registers() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

constexpr bool has_all(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

}  // namespace

// __builtin_cpu_supports would be shorter, but needs a run-time library that Zig has only an empty stub of.
Processor::Processor() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return;
  constexpr uint32_t kSsse3 = 1U << 9, kFma = 1U << 12, kSse41 = 1U << 19, kOsxsave = 1U << 27,
                     kAvx = 1U << 28, kF16c = 1U << 29;
  has_sse4 = has_all(c, kSsse3 | kSse41);
  if (!has_sse4 || !has_all(c, kFma | kOsxsave | kAvx | kF16c)) return;

  const uint32_t saved = saved_registers();
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return;
  constexpr uint32_t kAvx2 = 1U << 5, kAvx512 = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;  // F, DQ, BW, VL
  constexpr uint32_t kVnni = 1U << 11;
  has_avx2 = has_all(b, kAvx2) && has_all(saved, 0x6);
  has_avx512 = has_avx2 && has_all(b, kAvx512) && has_all(c, kVnni) && has_all(saved, 0xE6);
}

#elif defined(__aarch64__)

bool has_neon_dot() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & (1UL << 20)) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  return true;  // every 64-bit Mac
#elif defined(_WIN32)
  return IsProcessorFeaturePresent(43) != 0;  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
#else
  return false;
#endif
}

#endif

}  // namespace grt
