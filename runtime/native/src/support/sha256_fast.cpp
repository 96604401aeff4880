// SHA-256 by instructions of x86 (SHA extensions) and ARMv8 (SHA2). Both compute four rounds at a time, with
// the schedule of the next message words interleaved.
#include "support/sha256_kernels.hpp"

#if defined(__x86_64__) || defined(__i386__)
#define GRT_SHA256_X86 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && (defined(__ARM_FEATURE_SHA2) || defined(__ARM_FEATURE_CRYPTO))
#define GRT_SHA256_ARM 1
#define GRT_TARGET_SHA2
#include <arm_neon.h>
#elif defined(__aarch64__) && defined(__linux__) && (!defined(__clang__) || __clang_major__ >= 17)
// Newer compilers give a function instructions that the rest of the program does without.
#define GRT_SHA256_ARM 1
#define GRT_SHA256_ASK_LINUX 1
#include <arm_neon.h>
#include <sys/auxv.h>
#if defined(__clang__)
#define GRT_TARGET_SHA2 __attribute__((target("sha2")))
#else
#define GRT_TARGET_SHA2 __attribute__((target("+crypto")))
#endif
#endif

namespace grt::sha256 {

#if defined(GRT_SHA256_X86)

namespace {

__attribute__((target("sha,sse4.1"))) void compress_x86(uint32_t (&state)[8], const uint8_t* blocks,
                                                        size_t num_blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  // the instructions take the state as (a b e f) and (c d g h), the first letter uppermost
  const __m128i abcd = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i efgh = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i badc = _mm_shuffle_epi32(abcd, 0xB1), hgfe = _mm_shuffle_epi32(efgh, 0x1B);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; num_blocks > 0; num_blocks--, blocks += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i words[4];
    for (int i = 0; i < 4; i++) {
      const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks + 16 * i));
      words[i] = _mm_shuffle_epi8(raw, big_endian);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      const __m128i round = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kRound + 4 * i));
      const __m128i now = words[i % 4], sum = _mm_add_epi32(now, round);
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
      if (i < 12) {  // words 4 i + 16 ... 4 i + 19 take the place of those that were just used
        const __m128i middle = _mm_alignr_epi8(words[(i + 3) % 4], words[(i + 2) % 4], 4);
        const __m128i begun = _mm_add_epi32(_mm_sha256msg1_epu32(now, words[(i + 1) % 4]), middle);
        words[i % 4] = _mm_sha256msg2_epu32(begun, words[(i + 3) % 4]);
      }
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Compress fast_compress() {
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return nullptr;
  const bool has_sse41 = (c & (1u << 19)) != 0 && (c & (1u << 9)) != 0;
  if (!has_sse41 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return nullptr;
  return (b & (1u << 29)) != 0 ? compress_x86 : nullptr;
}

#elif defined(GRT_SHA256_ARM)

namespace {

GRT_TARGET_SHA2 void compress_arm(uint32_t (&state)[8], const uint8_t* blocks, size_t num_blocks) {
  uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
  for (; num_blocks > 0; num_blocks--, blocks += 64) {
    const uint32x4_t abcd_before = abcd, efgh_before = efgh;
    uint32x4_t words[4];
    for (int i = 0; i < 4; i++) words[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(blocks + 16 * i)));
    for (int i = 0; i < 16; i++) {
      const uint32x4_t now = words[i % 4], sum = vaddq_u32(now, vld1q_u32(kRound + 4 * i));
      const uint32x4_t abcd_old = abcd;
      abcd = vsha256hq_u32(abcd, efgh, sum);
      efgh = vsha256h2q_u32(efgh, abcd_old, sum);
      if (i < 12) {
        const uint32x4_t begun = vsha256su0q_u32(now, words[(i + 1) % 4]);
        words[i % 4] = vsha256su1q_u32(begun, words[(i + 2) % 4], words[(i + 3) % 4]);
      }
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(state, abcd);
  vst1q_u32(state + 4, efgh);
}

}  // namespace

Compress fast_compress() {
#if defined(GRT_SHA256_ASK_LINUX)
  constexpr unsigned long kHasSha2 = 1ul << 6;  // HWCAP_SHA2
  return (getauxval(AT_HWCAP) & kHasSha2) != 0 ? compress_arm : nullptr;
#else
  return compress_arm;  // what this is compiled for has them
#endif
}

#else

Compress fast_compress() { return nullptr; }

#endif

}  // namespace grt::sha256
