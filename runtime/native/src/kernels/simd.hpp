// Vectors of 16 floats and of 16 integers, the same on every instruction set.
//
// Each operation does the same IEEE arithmetic in each lane whatever the hardware's vectors are, and sums add
// lanes in one fixed order, so results have the same bits everywhere. The only exception is `fused`, which
// products in float32 precision use, and nothing in int8 precision does.
//
// Included by one source file for each instruction set, which defines one GRT_ISA_* and with it GRT_ISA, the
// namespace that keeps them apart.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(GRT_ISA_AVX512) || defined(GRT_ISA_AVX2) || defined(GRT_ISA_SSE4)
#include <immintrin.h>
#elif defined(GRT_ISA_NEON) || defined(GRT_ISA_NEON_DOT)
#include <arm_neon.h>
#elif defined(GRT_ISA_WASM)
#include <wasm_simd128.h>
#endif

// Where code is to be small and quick to compile: sanitizers watch every line of what is written out.
#if defined(GRT_ISA_SCALAR) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GRT_COMPACT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define GRT_COMPACT 1
#endif
#endif

#if defined(GRT_COMPACT)
#define GRT_INLINE inline
#define GRT_INLINED
#else
#define GRT_INLINE [[gnu::always_inline]] inline
#define GRT_INLINED __attribute__((always_inline))
#endif

// A stage of a layer: kept as a function of its own, so that profiles show it.
#define GRT_STAGE [[gnu::noinline]] inline

#if defined(GRT_ISA_AVX512) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // both in gcc's own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace grt::GRT_ISA {

// body(0) ... body(N - 1), written out, so that arrays of registers stay in registers: indices are constants
// from the start. (A loop that is unrolled later comes too late for gcc.) The scalar build is small instead.
template <int N, typename Body>
GRT_INLINE void repeat(Body body) {
#if defined(GRT_COMPACT)
  for (int i = 0; i < N; i++) body(i);
#else
  [&]<int... i>(std::integer_sequence<int, i...>) GRT_INLINED {
    (body(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
#endif
}

// The head of such a body.
#define GRT_BODY(index) [&](auto index) GRT_INLINED

// ---- One vector of the hardware: V of floats, W of int32 -------------------------------------------------

#if defined(GRT_ISA_AVX512)

using V = __m512;
using W = __m512i;
inline constexpr int kLanes = 16;
GRT_INLINE V vload(const float* p) { return _mm512_loadu_ps(p); }
GRT_INLINE void vstore(float* p, V a) { _mm512_storeu_ps(p, a); }
GRT_INLINE V vset(float a) { return _mm512_set1_ps(a); }
GRT_INLINE V vadd(V a, V b) { return _mm512_add_ps(a, b); }
GRT_INLINE V vsub(V a, V b) { return _mm512_sub_ps(a, b); }
GRT_INLINE V vmul(V a, V b) { return _mm512_mul_ps(a, b); }
GRT_INLINE V vdiv(V a, V b) { return _mm512_div_ps(a, b); }
GRT_INLINE V vsqrt(V a) { return _mm512_sqrt_ps(a); }
GRT_INLINE V vfused(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
GRT_INLINE V vmin(V a, V b) { return _mm512_min_ps(a, b); }
GRT_INLINE V vmax(V a, V b) { return _mm512_max_ps(a, b); }
GRT_INLINE V vpick(V a, V b, V x, V y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
GRT_INLINE V vround(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
GRT_INLINE W wconvert(V a) { return _mm512_cvttps_epi32(a); }
GRT_INLINE V vconvert(W a) { return _mm512_cvtepi32_ps(a); }
GRT_INLINE V vscale(V a, W n) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(n, 23)));
}
GRT_INLINE W wload(const int32_t* p) { return _mm512_loadu_si512(p); }
GRT_INLINE void wstore(int32_t* p, W a) { _mm512_storeu_si512(p, a); }
GRT_INLINE W wadd(W a, W b) { return _mm512_add_epi32(a, b); }
GRT_INLINE W wset(int32_t a) { return _mm512_set1_epi32(a); }

#elif defined(GRT_ISA_AVX2)

using V = __m256;
using W = __m256i;
inline constexpr int kLanes = 8;
GRT_INLINE V vload(const float* p) { return _mm256_loadu_ps(p); }
GRT_INLINE void vstore(float* p, V a) { _mm256_storeu_ps(p, a); }
GRT_INLINE V vset(float a) { return _mm256_set1_ps(a); }
GRT_INLINE V vadd(V a, V b) { return _mm256_add_ps(a, b); }
GRT_INLINE V vsub(V a, V b) { return _mm256_sub_ps(a, b); }
GRT_INLINE V vmul(V a, V b) { return _mm256_mul_ps(a, b); }
GRT_INLINE V vdiv(V a, V b) { return _mm256_div_ps(a, b); }
GRT_INLINE V vsqrt(V a) { return _mm256_sqrt_ps(a); }
GRT_INLINE V vfused(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
GRT_INLINE V vmin(V a, V b) { return _mm256_min_ps(a, b); }
GRT_INLINE V vmax(V a, V b) { return _mm256_max_ps(a, b); }
GRT_INLINE V vpick(V a, V b, V x, V y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
GRT_INLINE V vround(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
GRT_INLINE W wconvert(V a) { return _mm256_cvttps_epi32(a); }
GRT_INLINE V vconvert(W a) { return _mm256_cvtepi32_ps(a); }
GRT_INLINE V vscale(V a, W n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(n, 23)));
}
GRT_INLINE W wload(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
GRT_INLINE void wstore(int32_t* p, W a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
GRT_INLINE W wadd(W a, W b) { return _mm256_add_epi32(a, b); }
GRT_INLINE W wset(int32_t a) { return _mm256_set1_epi32(a); }

#elif defined(GRT_ISA_SSE4)

using V = __m128;
using W = __m128i;
inline constexpr int kLanes = 4;
GRT_INLINE V vload(const float* p) { return _mm_loadu_ps(p); }
GRT_INLINE void vstore(float* p, V a) { _mm_storeu_ps(p, a); }
GRT_INLINE V vset(float a) { return _mm_set1_ps(a); }
GRT_INLINE V vadd(V a, V b) { return _mm_add_ps(a, b); }
GRT_INLINE V vsub(V a, V b) { return _mm_sub_ps(a, b); }
GRT_INLINE V vmul(V a, V b) { return _mm_mul_ps(a, b); }
GRT_INLINE V vdiv(V a, V b) { return _mm_div_ps(a, b); }
GRT_INLINE V vsqrt(V a) { return _mm_sqrt_ps(a); }
GRT_INLINE V vfused(V a, V b, V c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
GRT_INLINE V vmin(V a, V b) { return _mm_min_ps(a, b); }
GRT_INLINE V vmax(V a, V b) { return _mm_max_ps(a, b); }
GRT_INLINE V vpick(V a, V b, V x, V y) { return _mm_blendv_ps(y, x, _mm_cmplt_ps(a, b)); }
GRT_INLINE V vround(V a) { return _mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
GRT_INLINE W wconvert(V a) { return _mm_cvttps_epi32(a); }
GRT_INLINE V vconvert(W a) { return _mm_cvtepi32_ps(a); }
GRT_INLINE V vscale(V a, W n) {
  return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_slli_epi32(n, 23)));
}
GRT_INLINE W wload(const int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
GRT_INLINE void wstore(int32_t* p, W a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a); }
GRT_INLINE W wadd(W a, W b) { return _mm_add_epi32(a, b); }
GRT_INLINE W wset(int32_t a) { return _mm_set1_epi32(a); }

#elif defined(GRT_ISA_NEON) || defined(GRT_ISA_NEON_DOT)

using V = float32x4_t;
using W = int32x4_t;
inline constexpr int kLanes = 4;
GRT_INLINE V vload(const float* p) { return vld1q_f32(p); }
GRT_INLINE void vstore(float* p, V a) { vst1q_f32(p, a); }
GRT_INLINE V vset(float a) { return vdupq_n_f32(a); }
GRT_INLINE V vadd(V a, V b) { return vaddq_f32(a, b); }
GRT_INLINE V vsub(V a, V b) { return vsubq_f32(a, b); }
GRT_INLINE V vmul(V a, V b) { return vmulq_f32(a, b); }
GRT_INLINE V vdiv(V a, V b) { return vdivq_f32(a, b); }
GRT_INLINE V vsqrt(V a) { return vsqrtq_f32(a); }
GRT_INLINE V vfused(V a, V b, V c) { return vfmaq_f32(c, a, b); }
// As on x86: the second operand where one is NaN.
GRT_INLINE V vmin(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
GRT_INLINE V vmax(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
GRT_INLINE V vpick(V a, V b, V x, V y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
GRT_INLINE V vround(V a) { return vrndnq_f32(a); }
GRT_INLINE W wconvert(V a) { return vcvtq_s32_f32(a); }
GRT_INLINE V vconvert(W a) { return vcvtq_f32_s32(a); }
GRT_INLINE V vscale(V a, W n) {
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vshlq_n_s32(n, 23)));
}
GRT_INLINE W wload(const int32_t* p) { return vld1q_s32(p); }
GRT_INLINE void wstore(int32_t* p, W a) { vst1q_s32(p, a); }
GRT_INLINE W wadd(W a, W b) { return vaddq_s32(a, b); }
GRT_INLINE W wset(int32_t a) { return vdupq_n_s32(a); }

#elif defined(GRT_ISA_WASM)

using V = v128_t;
using W = v128_t;
inline constexpr int kLanes = 4;
GRT_INLINE V vload(const float* p) { return wasm_v128_load(p); }
GRT_INLINE void vstore(float* p, V a) { wasm_v128_store(p, a); }
GRT_INLINE V vset(float a) { return wasm_f32x4_splat(a); }
GRT_INLINE V vadd(V a, V b) { return wasm_f32x4_add(a, b); }
GRT_INLINE V vsub(V a, V b) { return wasm_f32x4_sub(a, b); }
GRT_INLINE V vmul(V a, V b) { return wasm_f32x4_mul(a, b); }
GRT_INLINE V vdiv(V a, V b) { return wasm_f32x4_div(a, b); }
GRT_INLINE V vsqrt(V a) { return wasm_f32x4_sqrt(a); }
GRT_INLINE V vfused(V a, V b, V c) { return wasm_f32x4_add(wasm_f32x4_mul(a, b), c); }
GRT_INLINE V vmin(V a, V b) { return wasm_f32x4_pmin(b, a); }
GRT_INLINE V vmax(V a, V b) { return wasm_f32x4_pmax(b, a); }
GRT_INLINE V vpick(V a, V b, V x, V y) { return wasm_v128_bitselect(x, y, wasm_f32x4_lt(a, b)); }
GRT_INLINE V vround(V a) { return wasm_f32x4_nearest(a); }
GRT_INLINE W wconvert(V a) { return wasm_i32x4_trunc_sat_f32x4(a); }
GRT_INLINE V vconvert(W a) { return wasm_f32x4_convert_i32x4(a); }
GRT_INLINE V vscale(V a, W n) { return wasm_i32x4_add(a, wasm_i32x4_shl(n, 23)); }
GRT_INLINE W wload(const int32_t* p) { return wasm_v128_load(p); }
GRT_INLINE void wstore(int32_t* p, W a) { wasm_v128_store(p, a); }
GRT_INLINE W wadd(W a, W b) { return wasm_i32x4_add(a, b); }
GRT_INLINE W wset(int32_t a) { return wasm_i32x4_splat(a); }

#else  // scalar

using V = float;
using W = int32_t;
inline constexpr int kLanes = 1;
GRT_INLINE V vload(const float* p) { return *p; }
GRT_INLINE void vstore(float* p, V a) { *p = a; }
GRT_INLINE V vset(float a) { return a; }
GRT_INLINE V vadd(V a, V b) { return a + b; }
GRT_INLINE V vsub(V a, V b) { return a - b; }
GRT_INLINE V vmul(V a, V b) { return a * b; }
GRT_INLINE V vdiv(V a, V b) { return a / b; }
GRT_INLINE V vsqrt(V a) { return std::sqrt(a); }
GRT_INLINE V vfused(V a, V b, V c) { return a * b + c; }
GRT_INLINE V vmin(V a, V b) { return a < b ? a : b; }
GRT_INLINE V vmax(V a, V b) { return a > b ? a : b; }
GRT_INLINE V vpick(V a, V b, V x, V y) { return a < b ? x : y; }
// Half to even, by the sum with a number whose last bit is 1; larger numbers have no fraction.
GRT_INLINE V vround(V a) {
  const float magic = std::copysign(8388608.0F, a);
  return std::fabs(a) < 8388608.0F ? std::copysign((a + magic) - magic, a) : a;
}
GRT_INLINE W wconvert(V a) {
  return a >= 2147483648.0F || a < -2147483648.0F || a != a ? INT32_MIN : static_cast<W>(a);
}
GRT_INLINE V vconvert(W a) { return static_cast<V>(a); }
GRT_INLINE V vscale(V a, W n) {
  uint32_t bits;
  std::memcpy(&bits, &a, 4);
  bits += static_cast<uint32_t>(n) << 23;
  std::memcpy(&a, &bits, 4);
  return a;
}
GRT_INLINE W wload(const int32_t* p) { return *p; }
GRT_INLINE void wstore(int32_t* p, W a) { *p = a; }
GRT_INLINE W wadd(W a, W b) { return a + b; }
GRT_INLINE W wset(int32_t a) { return a; }

#endif

// ---- 16 floats, and 16 integers ---------------------------------------------------------------------------

inline constexpr int kParts = 16 / kLanes;

struct F {
  V part[kParts];
};
struct I {
  W part[kParts];
};

#define GRT_EACH(expression)                                 \
  {                                                          \
    F r;                                                     \
    repeat<kParts>(GRT_BODY(i) { r.part[i] = expression; }); \
    return r;                                                \
  }

GRT_INLINE F load(const float* p) GRT_EACH(vload(p + i * kLanes)) GRT_INLINE F set(float a)
    GRT_EACH(vset(a)) GRT_INLINE F add(F a, F b) GRT_EACH(vadd(a.part[i], b.part[i])) GRT_INLINE F
    sub(F a, F b) GRT_EACH(vsub(a.part[i], b.part[i])) GRT_INLINE F
    mul(F a, F b) GRT_EACH(vmul(a.part[i], b.part[i])) GRT_INLINE F div(F a, F b)
        GRT_EACH(vdiv(a.part[i], b.part[i])) GRT_INLINE F root(F a) GRT_EACH(vsqrt(a.part[i])) GRT_INLINE F
    min(F a, F b) GRT_EACH(vmin(a.part[i], b.part[i])) GRT_INLINE F max(F a, F b)
        GRT_EACH(vmax(a.part[i], b.part[i]))
    // x where a < b, else y.
    GRT_INLINE F pick(F a, F b, F x, F y)
        GRT_EACH(vpick(a.part[i], b.part[i], x.part[i], y.part[i])) GRT_INLINE F round(F a)
            GRT_EACH(vround(a.part[i])) GRT_INLINE F to_float(I a) GRT_EACH(vconvert(a.part[i]))
    // a 2^round(n), where the result is a normal number.
    GRT_INLINE F scale(F a, F n) GRT_EACH(vscale(a.part[i], wconvert(n.part[i])))
    // a b + c: rounded once where the hardware can (kFused), else twice.
    template <bool kFused>
    GRT_INLINE F multiply_add(F a, F b, F c) {
  if constexpr (kFused) GRT_EACH(vfused(a.part[i], b.part[i], c.part[i]))
  else GRT_EACH(vadd(vmul(a.part[i], b.part[i]), c.part[i]))
}
#undef GRT_EACH

GRT_INLINE void store(float* p, F a) {
  repeat<kParts>(GRT_BODY(i) { vstore(p + i * kLanes, a.part[i]); });
}
GRT_INLINE I to_int(F a) {  // of whole numbers
  I r;
  repeat<kParts>(GRT_BODY(i) { r.part[i] = wconvert(a.part[i]); });
  return r;
}
GRT_INLINE I load_int(const int32_t* p) {
  I r;
  repeat<kParts>(GRT_BODY(i) { r.part[i] = wload(p + i * kLanes); });
  return r;
}
GRT_INLINE void store_int(int32_t* p, I a) {
  repeat<kParts>(GRT_BODY(i) { wstore(p + i * kLanes, a.part[i]); });
}

// ---- Sums over lanes, in one order: s[j] = (x[j] + x[j+4]) + (x[j+8] + x[j+12]); (s0 + s1) + (s2 + s3)
// ------

GRT_INLINE float sum(F a) {
#if defined(GRT_ISA_AVX512)
  const __m256 low = _mm512_castps512_ps256(a.part[0]), high = _mm512_extractf32x8_ps(a.part[0], 1);
  const __m128 s = _mm_add_ps(_mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1)),
                              _mm_add_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps(high, 1)));
  const __m128 t = _mm_add_ps(s, _mm_movehdup_ps(s));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehl_ps(t, t)));
#else
  alignas(64) float x[16];
  store(x, a);
  float s[4];
  for (int j = 0; j < 4; j++) s[j] = (x[j] + x[j + 4]) + (x[j + 8] + x[j + 12]);
  return (s[0] + s[1]) + (s[2] + s[3]);
#endif
}

// The largest lane; of equal ones it does not matter which.
GRT_INLINE float largest(F a) {
#if defined(GRT_ISA_AVX512)
  return _mm512_reduce_max_ps(a.part[0]);
#else
  alignas(64) float x[16];
  store(x, a);
  float most = x[0];
  for (int j = 1; j < 16; j++) most = x[j] > most ? x[j] : most;
  return most;
#endif
}

// Lane i of the result is sum(a[i]), or largest(a[i]).
template <bool kLargest>
GRT_INLINE F fold(const F (&a)[16]) {
#if defined(GRT_ISA_AVX512)
  const auto join = [](V p, V q) GRT_INLINED { return kLargest ? vmax(p, q) : vadd(p, q); };
  V g[4];
  repeat<4>(GRT_BODY(i) {
    const V p = a[i].part[0], q = a[i + 4].part[0], r = a[i + 8].part[0], s = a[i + 12].part[0];
    const V pq0 = _mm512_shuffle_f32x4(p, q, 0x44), pq1 = _mm512_shuffle_f32x4(p, q, 0xEE);
    const V rs0 = _mm512_shuffle_f32x4(r, s, 0x44), rs1 = _mm512_shuffle_f32x4(r, s, 0xEE);
    g[i] = join(join(_mm512_shuffle_f32x4(pq0, rs0, 0x88), _mm512_shuffle_f32x4(pq0, rs0, 0xDD)),
                join(_mm512_shuffle_f32x4(pq1, rs1, 0x88), _mm512_shuffle_f32x4(pq1, rs1, 0xDD)));
  });
  const V t0 = _mm512_unpacklo_ps(g[0], g[1]), t1 = _mm512_unpackhi_ps(g[0], g[1]);
  const V t2 = _mm512_unpacklo_ps(g[2], g[3]), t3 = _mm512_unpackhi_ps(g[2], g[3]);
  const V u0 = _mm512_shuffle_ps(t0, t2, 0x44), u1 = _mm512_shuffle_ps(t0, t2, 0xEE);
  const V u2 = _mm512_shuffle_ps(t1, t3, 0x44), u3 = _mm512_shuffle_ps(t1, t3, 0xEE);
  return {{join(join(u0, u1), join(u2, u3))}};
#else
  alignas(64) float out[16];
  for (int i = 0; i < 16; i++) out[i] = kLargest ? largest(a[i]) : sum(a[i]);
  return load(out);
#endif
}
GRT_INLINE F sums(const F (&a)[16]) { return fold<false>(a); }
GRT_INLINE F largests(const F (&a)[16]) { return fold<true>(a); }

// ---- Transposes a square of 16 by 16 numbers
// -----------------------------------------------------------------

GRT_INLINE void transpose(const float* from, size_t from_stride, float* to, size_t to_stride) {
#if defined(GRT_ISA_AVX512)
  __m512 a[16], b[16];
  repeat<16>(GRT_BODY(i) { a[i] = vload(from + i * from_stride); });
  repeat<4>(GRT_BODY(g) {  // within blocks of four numbers
    const __m512 t0 = _mm512_unpacklo_ps(a[4 * g], a[4 * g + 1]),
                 t1 = _mm512_unpackhi_ps(a[4 * g], a[4 * g + 1]);
    const __m512 t2 = _mm512_unpacklo_ps(a[4 * g + 2], a[4 * g + 3]),
                 t3 = _mm512_unpackhi_ps(a[4 * g + 2], a[4 * g + 3]);
    b[4 * g] = _mm512_shuffle_ps(t0, t2, 0x44);
    b[4 * g + 1] = _mm512_shuffle_ps(t0, t2, 0xEE);
    b[4 * g + 2] = _mm512_shuffle_ps(t1, t3, 0x44);
    b[4 * g + 3] = _mm512_shuffle_ps(t1, t3, 0xEE);
  });
  repeat<4>(GRT_BODY(j) {  // and the blocks: block k of b[4 g + j] goes to block g of row 4 k + j
    const __m512 p = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x44),
                 q = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x44);
    const __m512 r = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xEE),
                 s = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xEE);
    vstore(to + j * to_stride, _mm512_shuffle_f32x4(p, q, 0x88));
    vstore(to + (4 + j) * to_stride, _mm512_shuffle_f32x4(p, q, 0xDD));
    vstore(to + (8 + j) * to_stride, _mm512_shuffle_f32x4(r, s, 0x88));
    vstore(to + (12 + j) * to_stride, _mm512_shuffle_f32x4(r, s, 0xDD));
  });
#else
  for (size_t i = 0; i < 16; i++)
    for (size_t j = 0; j < 16; j++) std::memcpy(to + j * to_stride + i, from + i * from_stride + j, 4);
#endif
}

}  // namespace grt::GRT_ISA
