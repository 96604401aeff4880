// Products of a few rows with panels of weights, in registers: the inner loops of everything.
#pragma once

#include "kernels/math.hpp"
#include "kernels/weights.hpp"

namespace grt::GRT_ISA {

// The tile of sums that fits the registers: kRows rows of kColumns times 16 numbers.
#if defined(GRT_ISA_AVX512)
inline constexpr int kRows = 6, kColumns = 4;
#elif defined(GRT_ISA_NEON) || defined(GRT_ISA_NEON_DOT)
inline constexpr int kRows = 3, kColumns = 2;
#elif defined(GRT_ISA_AVX2)
inline constexpr int kRows = 3, kColumns = 2;
#else
inline constexpr int kRows = 3, kColumns = 1;
#endif

// ---- float ---------------------------------------------------------------------------------------------------

// sums[r][c] = a[r, :] b[:, 16 c ... 16 c + 15], the terms added one after the other.
template <bool kFused, int R, int C>
GRT_INLINE void multiply(const float* a, size_t a_stride, const float* b, size_t b_stride, int depth, F (&sums)[R][C]) {
GRT_UNROLL
  for (int r = 0; r < R; r++)
GRT_UNROLL
    for (int c = 0; c < C; c++) sums[r][c] = set(0.0F);
  for (int k = 0; k < depth; k++) {
    F column[C];
GRT_UNROLL
    for (int c = 0; c < C; c++) column[c] = load(b + k * b_stride + 16 * c);
GRT_UNROLL
    for (int r = 0; r < R; r++) {
      const F x = set(a[r * a_stride + k]);
GRT_UNROLL
      for (int c = 0; c < C; c++) sums[r][c] = multiply_add<kFused>(x, column[c], sums[r][c]);
    }
  }
}

// ---- int8 ----------------------------------------------------------------------------------------------------

// How inputs are stored for the integer product.
#if defined(GRT_ISA_AVX512)
using Quantised = uint8_t;  // plus 128: vpdpbusd takes one operand without a sign
#elif defined(GRT_ISA_NEON_DOT) || defined(GRT_ISA_NEON) || defined(GRT_ISA_SCALAR)
using Quantised = int8_t;
#else
using Quantised = int16_t;  // widened once, for pmaddwd
#endif

// Whole numbers from -127 to 127, stored.
GRT_INLINE void store_quantised(Quantised* p, F x) {
  const F q = round(min(max(x, set(-127.0F)), set(127.0F)));
#if defined(GRT_ISA_AVX512)
  const __m512i n = _mm512_add_epi32(_mm512_cvttps_epi32(q.part[0]), _mm512_set1_epi32(128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(n));
#elif defined(GRT_ISA_AVX2)
  const __m256i n = _mm256_packs_epi32(_mm256_cvttps_epi32(q.part[0]), _mm256_cvttps_epi32(q.part[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(n, 0xD8));
#elif defined(GRT_ISA_SSE4)
  for (int i = 0; i < 2; i++) {
    const __m128i n = _mm_packs_epi32(_mm_cvttps_epi32(q.part[2 * i]), _mm_cvttps_epi32(q.part[2 * i + 1]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8 * i), n);
  }
#elif defined(GRT_ISA_WASM)
  for (int i = 0; i < 2; i++) {
    wasm_v128_store(p + 8 * i, wasm_i16x8_narrow_i32x4(wconvert(q.part[2 * i]), wconvert(q.part[2 * i + 1])));
  }
#elif defined(GRT_ISA_NEON) || defined(GRT_ISA_NEON_DOT)
  int16x8_t n[2];
  for (int i = 0; i < 2; i++) {
    n[i] = vcombine_s16(vmovn_s32(wconvert(q.part[2 * i])), vmovn_s32(wconvert(q.part[2 * i + 1])));
  }
  vst1q_s8(p, vcombine_s8(vmovn_s16(n[0]), vmovn_s16(n[1])));
#else
  for (int i = 0; i < 16; i++) p[i] = static_cast<Quantised>(q.part[i]);
#endif
}

// sums[r][c] = a[r, :] b[:, 16 c ... 16 c + 15] of a panel [in / 4][columns][4], exact; `offset` as `Linear` has it.
template <int R, int C>
GRT_INLINE void multiply(const Quantised* a, size_t a_stride, const int8_t* b, size_t columns, int depth,
                         const int32_t* offset, I (&sums)[R][C]) {
  const size_t b_stride = columns * 4;
#if defined(GRT_ISA_AVX512)
GRT_UNROLL
  for (int r = 0; r < R; r++)
GRT_UNROLL
    for (int c = 0; c < C; c++) sums[r][c].part[0] = wload(offset + 16 * c);
  for (int k = 0; k < depth; k += 4) {
    __m512i column[C];
GRT_UNROLL
    for (int c = 0; c < C; c++) column[c] = _mm512_loadu_si512(b + k / 4 * b_stride + 64 * c);
GRT_UNROLL
    for (int r = 0; r < R; r++) {
      int32_t four;
      std::memcpy(&four, a + r * a_stride + k, 4);
      const __m512i x = _mm512_set1_epi32(four);
GRT_UNROLL
      for (int c = 0; c < C; c++) sums[r][c].part[0] = _mm512_dpbusd_epi32(sums[r][c].part[0], x, column[c]);
    }
  }
#elif defined(GRT_ISA_AVX2)
  (void)offset;
  for (int c = 0; c < C; c++) {  // 16 columns at a time: two sums of pairs for each, in four vectors a row
    __m256i s[R][4];
    for (int r = 0; r < R; r++)
      for (int i = 0; i < 4; i++) s[r][i] = _mm256_setzero_si256();
    for (int k = 0; k < depth; k += 4) {
      const int8_t* at = b + k / 4 * b_stride + 64 * c;
      __m256i x[R];
GRT_UNROLL
      for (int r = 0; r < R; r++) {
        int64_t four;
        std::memcpy(&four, a + r * a_stride + k, 8);
        x[r] = _mm256_set1_epi64x(four);
      }
GRT_UNROLL
      for (int i = 0; i < 4; i++) {
        const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
GRT_UNROLL
        for (int r = 0; r < R; r++) s[r][i] = _mm256_add_epi32(s[r][i], _mm256_madd_epi16(x[r], w));
      }
    }
    for (int r = 0; r < R; r++)
      for (int i = 0; i < 2; i++) {
        const __m256i pairs = _mm256_hadd_epi32(s[r][2 * i], s[r][2 * i + 1]);
        sums[r][c].part[i] = _mm256_permute4x64_epi64(pairs, 0xD8);
      }
  }
#elif defined(GRT_ISA_SSE4) || defined(GRT_ISA_WASM) || defined(GRT_ISA_NEON)
  (void)offset;
  for (int c = 0; c < C; c++)
    for (int half = 0; half < 2; half++) {  // 8 columns at a time: two sums of pairs for each, in four vectors a row
      W s[R][4];
      for (int r = 0; r < R; r++)
        for (int i = 0; i < 4; i++) s[r][i] = wset(0);
      for (int k = 0; k < depth; k += 4) {
        const int8_t* at = b + k / 4 * b_stride + 64 * c + 32 * half;
#if defined(GRT_ISA_NEON)
        int8x8_t x[R];
        for (int r = 0; r < R; r++) {
          int32_t four;
          std::memcpy(&four, a + r * a_stride + k, 4);
          x[r] = vreinterpret_s8_s32(vdup_n_s32(four));
        }
GRT_UNROLL
        for (int i = 0; i < 4; i++) {
          const int8x8_t w = vld1_s8(at + 8 * i);
GRT_UNROLL
          for (int r = 0; r < R; r++) s[r][i] = vpadalq_s16(s[r][i], vmull_s8(x[r], w));
        }
#else
        W x[R];
        for (int r = 0; r < R; r++) {
          int64_t four;
          std::memcpy(&four, a + r * a_stride + k, 8);
#if defined(GRT_ISA_SSE4)
          x[r] = _mm_set1_epi64x(four);
#else
          x[r] = wasm_i64x2_splat(four);
#endif
        }
GRT_UNROLL
        for (int i = 0; i < 4; i++) {
#if defined(GRT_ISA_SSE4)
          const W w = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + 8 * i)));
GRT_UNROLL
          for (int r = 0; r < R; r++) s[r][i] = wadd(s[r][i], _mm_madd_epi16(x[r], w));
#else
          const W w = wasm_i16x8_load8x8(at + 8 * i);
GRT_UNROLL
          for (int r = 0; r < R; r++) s[r][i] = wadd(s[r][i], wasm_i32x4_dot_i16x8(x[r], w));
#endif
        }
#endif
      }
      for (int r = 0; r < R; r++)
        for (int i = 0; i < 2; i++) {
          const W p = s[r][2 * i], q = s[r][2 * i + 1];
#if defined(GRT_ISA_NEON)
          sums[r][c].part[2 * half + i] = vpaddq_s32(p, q);
#elif defined(GRT_ISA_SSE4)
          sums[r][c].part[2 * half + i] = _mm_hadd_epi32(p, q);
#else
          sums[r][c].part[2 * half + i] =
              wadd(wasm_i32x4_shuffle(p, q, 0, 2, 4, 6), wasm_i32x4_shuffle(p, q, 1, 3, 5, 7));
#endif
        }
    }
#elif defined(GRT_ISA_NEON_DOT)
  (void)offset;
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++)
      for (int i = 0; i < 4; i++) sums[r][c].part[i] = wset(0);
  for (int k = 0; k < depth; k += 4) {
    int8x16_t x[R];
GRT_UNROLL
    for (int r = 0; r < R; r++) {
      int32_t four;
      std::memcpy(&four, a + r * a_stride + k, 4);
      x[r] = vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
GRT_UNROLL
    for (int c = 0; c < C; c++)
GRT_UNROLL
      for (int i = 0; i < 4; i++) {
        const int8x16_t w = vld1q_s8(b + k / 4 * b_stride + 64 * c + 16 * i);
GRT_UNROLL
        for (int r = 0; r < R; r++) sums[r][c].part[i] = vdotq_s32(sums[r][c].part[i], x[r], w);
      }
  }
#else
  (void)offset;
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) {
      int32_t s[16] = {};
      for (int k = 0; k < depth; k += 4)
        for (int j = 0; j < 16; j++)
          for (int i = 0; i < 4; i++) s[j] += int32_t{a[r * a_stride + k + i]} * b[k / 4 * b_stride + 64 * c + 4 * j + i];
      for (int j = 0; j < 16; j++) sums[r][c].part[j] = s[j];
    }
#endif
}

// ---- Whole linears -----------------------------------------------------------------------------------------------

// Inputs of a linear: floats, or quantised where the linear is int8. Rows are `stride` apart.
struct Inputs {
  const float* floats;
  const Quantised* quantised;
  size_t stride;
};

// Calls `keep(row, column, y)` for every 16 outputs, `rows` rows.
template <bool kFused, int R, int C, typename Keep>
GRT_INLINE void tile(const Linear& linear, const Inputs& x, int row, int panel, int columns, int at, Keep& keep) {
  const int column = panel + at;
  if (linear.int8) {
    I sums[R][C];
    multiply<R, C>(x.quantised + row * x.stride, x.stride,
                   linear.weights8 + size_t(panel) * linear.in + size_t(at) * 4, columns, linear.in,
                   linear.offset + column, sums);
GRT_UNROLL
    for (int c = 0; c < C; c++) {
      const F scale = load(linear.scale + column + 16 * c);
GRT_UNROLL
      for (int r = 0; r < R; r++) keep(row + r, column + 16 * c, mul(to_float(sums[r][c]), scale));
    }
  } else {
    F sums[R][C];
    multiply<kFused, R, C>(x.floats + row * x.stride, x.stride, linear.weights + size_t(panel) * linear.in + at, columns,
                           linear.in, sums);
GRT_UNROLL
    for (int c = 0; c < C; c++)
GRT_UNROLL
      for (int r = 0; r < R; r++) keep(row + r, column + 16 * c, sums[r][c]);
  }
}

template <bool kFused, int C, typename Keep>
GRT_INLINE void all_rows(const Linear& linear, const Inputs& x, int rows, int panel, int columns, int at, Keep& keep) {
  for (int row = 0; row < rows;) {
    const int left = rows - row;
    if (left >= kRows && (kRows != 6 || left != 8)) {
      tile<kFused, kRows, C>(linear, x, row, panel, columns, at, keep);
      row += kRows;
    } else if (kRows == 6 && left >= 4) {
      tile<kFused, kRows == 6 ? 4 : 1, C>(linear, x, row, panel, columns, at, keep);
      row += 4;
    } else {
      tile<kFused, 1, C>(linear, x, row, panel, columns, at, keep);
      row += 1;
    }
  }
}

// y = x W^T for `rows` rows; the weights stream once.
template <bool kFused, typename Keep>
inline void apply(const Linear& linear, const Inputs& x, int rows, Keep keep) {
  for (int panel = 0; panel < linear.out; panel += kPanel) {
    const int columns = linear.out - panel < kPanel ? linear.out - panel : kPanel;
    int at = 0;
    for (; at + 16 * kColumns <= columns; at += 16 * kColumns) {
      all_rows<kFused, kColumns>(linear, x, rows, panel, columns, at, keep);
    }
    for (; at < columns; at += 16) all_rows<kFused, 1>(linear, x, rows, panel, columns, at, keep);
  }
}

}  // namespace grt::GRT_ISA
