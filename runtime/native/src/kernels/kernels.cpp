#include "kernels/kernels.hpp"

#include <initializer_list>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace grt {

const Kernels* kernels_scalar(bool int8);
#if defined(__x86_64__)
const Kernels* kernels_sse4(bool int8);
const Kernels* kernels_avx2(bool int8);
const Kernels* kernels_avx512(bool int8);
#elif defined(__aarch64__)
const Kernels* kernels_neon(bool int8);
const Kernels* kernels_neon_dot(bool int8);
#elif defined(__wasm_simd128__) || defined(__wasm__)
const Kernels* kernels_wasm(bool int8);
#endif

const Kernels* kernels_of(grt_instructions instructions, bool int8) {
  switch (instructions) {
    case GRT_INSTRUCTIONS_SCALAR:
      return kernels_scalar(int8);
#if defined(__x86_64__)
    case GRT_INSTRUCTIONS_SSE4:
      return kernels_sse4(int8);
    case GRT_INSTRUCTIONS_AVX2:
      return kernels_avx2(int8);
    case GRT_INSTRUCTIONS_AVX512:
      return kernels_avx512(int8);
#elif defined(__aarch64__)
    case GRT_INSTRUCTIONS_NEON:
      return kernels_neon(int8);
    case GRT_INSTRUCTIONS_NEON_DOT:
      return kernels_neon_dot(int8);
#elif defined(__wasm__)
    case GRT_INSTRUCTIONS_WASM:
      return kernels_wasm(int8);
#endif
    default:
      return nullptr;
  }
}

bool has_instructions(grt_instructions instructions) {
  if (instructions == GRT_INSTRUCTIONS_SCALAR) return true;
  if (kernels_of(instructions, true) == nullptr) return false;
#if defined(__x86_64__)
  if (instructions == GRT_INSTRUCTIONS_SSE4)
    return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
  if (instructions == GRT_INSTRUCTIONS_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
  if (instructions == GRT_INSTRUCTIONS_NEON) return true;
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & (1UL << 20)) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  return true;  // every 64-bit Mac
#else
  return false;
#endif
#else
  return true;
#endif
}

grt_instructions best_instructions() {
  for (grt_instructions one : {GRT_INSTRUCTIONS_AVX512, GRT_INSTRUCTIONS_AVX2, GRT_INSTRUCTIONS_SSE4,
                               GRT_INSTRUCTIONS_NEON_DOT, GRT_INSTRUCTIONS_NEON, GRT_INSTRUCTIONS_WASM}) {
    if (has_instructions(one)) return one;
  }
  return GRT_INSTRUCTIONS_SCALAR;
}

}  // namespace grt
