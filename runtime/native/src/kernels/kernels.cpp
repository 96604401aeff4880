#include "kernels/kernels.hpp"

#include <initializer_list>

#include "kernels/processor.hpp"
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
  const Processor processor;
  if (instructions == GRT_INSTRUCTIONS_SSE4) return processor.has_sse4;
  if (instructions == GRT_INSTRUCTIONS_AVX2) return processor.has_avx2;
  return processor.has_avx512;
#elif defined(__aarch64__)
  return instructions == GRT_INSTRUCTIONS_NEON || has_neon_dot();
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
