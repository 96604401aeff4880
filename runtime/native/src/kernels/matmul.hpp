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
#elif defined(GRT_ISA_SCALAR)
inline constexpr int kRows = 1, kColumns = 1;
#else
inline constexpr int kRows = 3, kColumns = 1;
#endif

// ---- float
// ---------------------------------------------------------------------------------------------------

// sums[r][c] = a[r, :] b[:, 16 c ... 16 c + 15], the terms added one after the other.
template <bool kFused, int R, int C>
GRT_INLINE void multiply(const float* a, size_t a_stride, const float* b, size_t b_stride, int depth,
                         F (&sums)[R][C]) {
  repeat<R>(GRT_BODY(r) { repeat<C>(GRT_BODY(c) { sums[r][c] = set(0.0F); }); });
  for (int k = 0; k < depth; k++, b += b_stride) {
    F column[C];
    repeat<C>(GRT_BODY(c) { column[c] = load(b + 16 * c); });
    repeat<R>(GRT_BODY(r) {
      const F x = set(a[r * a_stride + k]);
      repeat<C>(GRT_BODY(c) { sums[r][c] = multiply_add<kFused>(x, column[c], sums[r][c]); });
    });
  }
}

// ---- int8
// ----------------------------------------------------------------------------------------------------

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

// s + the products of groups of four bytes, x without a sign and w with one. In assembly because gcc 12
// copies the sums of the intrinsic from register to register.
#if defined(GRT_ISA_AVX512)
GRT_INLINE __m512i add_products(__m512i s, __m512i x, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(x), "v"(w));
  return s;
}
GRT_INLINE __m512i add_products16(__m512i s, __m512i x, __m512i w) {
  asm("vpdpwssd %2, %1, %0" : "+v"(s) : "v"(x), "v"(w));
  return s;
}
#endif

template <typename T>
GRT_INLINE T load_as(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// sums[r][c] = a[r, :] b[:, 16 c ... 16 c + 15] of a panel [in / 4][columns][4], exact; `offset` as `Linear`
// has it.
template <int R, int C>
GRT_INLINE void multiply(const Quantised* a, size_t a_stride, const int8_t* b, size_t columns, int depth,
                         const int32_t* offset, I (&sums)[R][C]) {
  const size_t b_stride = columns * 4;
#if defined(GRT_ISA_AVX512)
  repeat<R>(GRT_BODY(r) { repeat<C>(GRT_BODY(c) { sums[r][c].part[0] = wload(offset + 16 * c); }); });
  for (int k = 0; k < depth; k += 4, b += b_stride) {
    __m512i column[C];
    repeat<C>(GRT_BODY(c) { column[c] = _mm512_loadu_si512(b + 64 * c); });
    repeat<R>(GRT_BODY(r) {
      const __m512i x = _mm512_set1_epi32(load_as<int32_t>(a + r * a_stride + k));
      repeat<C>(GRT_BODY(c) { sums[r][c].part[0] = add_products(sums[r][c].part[0], x, column[c]); });
    });
  }
#elif defined(GRT_ISA_AVX2)
  (void)offset;
  repeat<C>(GRT_BODY(c) {  // 16 columns at a time: two sums of pairs for each, in four vectors a row
    __m256i s[R][4];
    repeat<R>(GRT_BODY(r) { repeat<4>(GRT_BODY(i) { s[r][i] = _mm256_setzero_si256(); }); });
    const int8_t* at = b + 64 * c;
    for (int k = 0; k < depth; k += 4, at += b_stride) {
      __m256i x[R];
      repeat<R>(GRT_BODY(r) { x[r] = _mm256_set1_epi64x(load_as<int64_t>(a + r * a_stride + k)); });
      repeat<4>(GRT_BODY(i) {
        const __m256i w =
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
        repeat<R>(GRT_BODY(r) { s[r][i] = _mm256_add_epi32(s[r][i], _mm256_madd_epi16(x[r], w)); });
      });
    }
    repeat<R>(GRT_BODY(r) {
      repeat<2>(GRT_BODY(i) {
        const __m256i pairs = _mm256_hadd_epi32(s[r][2 * i], s[r][2 * i + 1]);
        sums[r][c].part[i] = _mm256_permute4x64_epi64(pairs, 0xD8);
      });
    });
  });
#elif defined(GRT_ISA_SSE4) || defined(GRT_ISA_WASM) || defined(GRT_ISA_NEON)
  (void)offset;
  repeat<2 * C>(GRT_BODY(half) {  // 8 columns at a time: two sums of pairs for each, in four vectors a row
    W s[R][4];
    repeat<R>(GRT_BODY(r) { repeat<4>(GRT_BODY(i) { s[r][i] = wset(0); }); });
    const int8_t* at = b + 32 * half;
    for (int k = 0; k < depth; k += 4, at += b_stride) {
#if defined(GRT_ISA_NEON)
      int8x8_t x[R];
      repeat<R>(
          GRT_BODY(r) { x[r] = vreinterpret_s8_s32(vdup_n_s32(load_as<int32_t>(a + r * a_stride + k))); });
      repeat<4>(GRT_BODY(i) {
        const int8x8_t w = vld1_s8(at + 8 * i);
        repeat<R>(GRT_BODY(r) { s[r][i] = vpadalq_s16(s[r][i], vmull_s8(x[r], w)); });
      });
#else
      W x[R];
      repeat<R>(GRT_BODY(r) {
        const auto four = load_as<int64_t>(a + r * a_stride + k);
#if defined(GRT_ISA_SSE4)
        x[r] = _mm_set1_epi64x(four);
#else
        x[r] = wasm_i64x2_splat(four);
#endif
      });
      repeat<4>(GRT_BODY(i) {
#if defined(GRT_ISA_SSE4)
        const W w = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + 8 * i)));
        repeat<R>(GRT_BODY(r) { s[r][i] = wadd(s[r][i], _mm_madd_epi16(x[r], w)); });
#else
        const W w = wasm_i16x8_load8x8(at + 8 * i);
        repeat<R>(GRT_BODY(r) { s[r][i] = wadd(s[r][i], wasm_i32x4_dot_i16x8(x[r], w)); });
#endif
      });
#endif
    }
    repeat<R>(GRT_BODY(r) {
      repeat<2>(GRT_BODY(i) {
        const W p = s[r][2 * i], q = s[r][2 * i + 1];
        W& sum = sums[r][half / 2].part[2 * (half % 2) + i];
#if defined(GRT_ISA_NEON)
        sum = vpaddq_s32(p, q);
#elif defined(GRT_ISA_SSE4)
        sum = _mm_hadd_epi32(p, q);
#else
        sum = wadd(wasm_i32x4_shuffle(p, q, 0, 2, 4, 6), wasm_i32x4_shuffle(p, q, 1, 3, 5, 7));
#endif
      });
    });
  });
#elif defined(GRT_ISA_NEON_DOT)
  (void)offset;
  repeat<R>(
      GRT_BODY(r) { repeat<C>(GRT_BODY(c) { repeat<4>(GRT_BODY(i) { sums[r][c].part[i] = wset(0); }); }); });
  for (int k = 0; k < depth; k += 4, b += b_stride) {
    int8x16_t x[R];
    repeat<R>(
        GRT_BODY(r) { x[r] = vreinterpretq_s8_s32(vdupq_n_s32(load_as<int32_t>(a + r * a_stride + k))); });
    repeat<C>(GRT_BODY(c) {
      repeat<4>(GRT_BODY(i) {
        const int8x16_t w = vld1q_s8(b + 64 * c + 16 * i);
        repeat<R>(GRT_BODY(r) { sums[r][c].part[i] = vdotq_s32(sums[r][c].part[i], x[r], w); });
      });
    });
  }
#else
  (void)offset;
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) {
      int32_t s[16] = {};
      for (int k = 0; k < depth; k += 4)
        for (int j = 0; j < 16; j++)
          for (int i = 0; i < 4; i++)
            s[j] += int32_t{a[r * a_stride + k + i]} * b[k / 4 * b_stride + 64 * c + 4 * j + i];
      for (int j = 0; j < 16; j++) sums[r][c].part[j] = s[j];
    }
#endif
}

// ---- int16
// ---------------------------------------------------------------------------------------------------

// Whole numbers of at most 32767, stored.
GRT_INLINE void store_quantised16(int16_t* p, F x) {
  const F q = round(x);
#if defined(GRT_ISA_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(q.part[0])));
#elif defined(GRT_ISA_AVX2)
  const __m256i n = _mm256_packs_epi32(_mm256_cvttps_epi32(q.part[0]), _mm256_cvttps_epi32(q.part[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(n, 0xD8));
#elif defined(GRT_ISA_SCALAR)
  for (int i = 0; i < 16; i++) p[i] = static_cast<int16_t>(wconvert(q.part[i]));
#else
  for (int i = 0; i < 2; i++) {
    const W low = wconvert(q.part[2 * i]), high = wconvert(q.part[2 * i + 1]);
#if defined(GRT_ISA_SSE4)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8 * i), _mm_packs_epi32(low, high));
#elif defined(GRT_ISA_WASM)
    wasm_v128_store(p + 8 * i, wasm_i16x8_narrow_i32x4(low, high));
#else
    vst1q_s16(p + 8 * i, vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)));
#endif
  }
#endif
}

// Rounds `count` numbers times `inverse`, up to `most` on either side.
GRT_INLINE void round_to_steps(const float* x, int count, float inverse, float most, int16_t* to) {
  const F by = set(inverse), bound = set(most), least = set(-most);
  for (int i = 0; i < count; i += 16) store_quantised16(to + i, max(min(mul(load(x + i), by), bound), least));
}

// sums[r][c] = a[r, :] b[:, 16 c ... 16 c + 15] of a panel [in / 2][columns][2], exact.
template <int R, int C>
GRT_INLINE void multiply16(const int16_t* a, size_t a_stride, const int16_t* b, size_t columns, int depth,
                           I (&sums)[R][C]) {
  repeat<R>(GRT_BODY(r) {
    repeat<C>(GRT_BODY(c) { repeat<kParts>(GRT_BODY(i) { sums[r][c].part[i] = wset(0); }); });
  });
  for (int k = 0; k < depth; k += 2, b += 2 * columns) {
#if defined(GRT_ISA_SCALAR)
    for (int r = 0; r < R; r++)
      for (int c = 0; c < C; c++)
        for (int j = 0; j < 16; j++)
          for (int i = 0; i < 2; i++)
            sums[r][c].part[j] += int32_t{a[r * a_stride + k + i]} * b[32 * c + 2 * j + i];
#elif defined(GRT_ISA_AVX512)
    __m512i column[C];
    repeat<C>(GRT_BODY(c) { column[c] = _mm512_loadu_si512(b + 32 * c); });
    repeat<R>(GRT_BODY(r) {
      const __m512i x = _mm512_set1_epi32(load_as<int32_t>(a + r * a_stride + k));
      repeat<C>(GRT_BODY(c) { sums[r][c].part[0] = add_products16(sums[r][c].part[0], x, column[c]); });
    });
#elif defined(GRT_ISA_NEON) || defined(GRT_ISA_NEON_DOT)
    int16x4_t x[R];
    repeat<R>(
        GRT_BODY(r) { x[r] = vreinterpret_s16_s32(vdup_n_s32(load_as<int32_t>(a + r * a_stride + k))); });
    repeat<C * kParts>(GRT_BODY(i) {
      const int16x8_t w = vld1q_s16(b + 8 * i);
      repeat<R>(GRT_BODY(r) {
        W& sum = sums[r][i / kParts].part[i % kParts];
        sum = vaddq_s32(sum, vpaddq_s32(vmull_s16(x[r], vget_low_s16(w)), vmull_s16(x[r], vget_high_s16(w))));
      });
    });
#else
    W x[R];
    repeat<R>(GRT_BODY(r) { x[r] = wset(load_as<int32_t>(a + r * a_stride + k)); });
    repeat<C * kParts>(GRT_BODY(i) {
      const W w = wload(reinterpret_cast<const int32_t*>(b) + kLanes * i);
      repeat<R>(GRT_BODY(r) {
        W& sum = sums[r][i / kParts].part[i % kParts];
#if defined(GRT_ISA_AVX2)
        sum = wadd(sum, _mm256_madd_epi16(x[r], w));
#elif defined(GRT_ISA_SSE4)
        sum = wadd(sum, _mm_madd_epi16(x[r], w));
#else
        sum = wadd(sum, wasm_i32x4_dot_i16x8(x[r], w));
#endif
      });
    });
#endif
  }
}

// ---- Whole linears
// -----------------------------------------------------------------------------------------------

// Inputs of a linear, rows `stride` apart, in its format.
struct Inputs {
  const void* rows;
  size_t stride;
  const float* steps = nullptr;  // of each row, int16
};

// Rows [count, width] rounded as a linear wants them, to `quantised` and `steps`; in float they stay where
// they are.
GRT_STAGE Inputs inputs_of(const Linear& linear, const float* x, int count, int width, void* quantised,
                           float* steps) {
  if (linear.format == Format::kFloat) return {x, size_t(width)};
  if (linear.format == Format::kInt8) {
    auto* to = static_cast<Quantised*>(quantised);
    const F inverse = set(linear.inverse_step);
    for (int i = 0; i < count * width; i += 16) store_quantised(to + i, mul(load(x + i), inverse));
    return {quantised, size_t(width)};
  }
  auto* to = static_cast<int16_t*>(quantised);
  const F zero = set(0.0F);
  for (int row = 0; row < count; row++) {
    const float* from = x + size_t(row) * width;
    F most = zero;
    for (int i = 0; i < width; i += 16) {
      const F part = load(from + i);
      most = max(most, max(part, sub(zero, part)));
    }
    const float magnitude = largest(most);
    const float inverse = magnitude > 0 ? linear.most / magnitude : 0.0F;
    round_to_steps(from, width, inverse, linear.most, to + size_t(row) * width);
    steps[row] = magnitude / linear.most;
  }
  return {quantised, size_t(width), steps};
}

// Calls `keep(row, column, y)` for every 16 outputs, `rows` rows.
template <bool kFused, int R, int C, typename Keep>
GRT_INLINE void tile(const Linear& linear, const Inputs& x, int row, int panel, int columns, int at,
                     Keep& keep) {
  const int column = panel + at;
  const size_t first = size_t(row) * x.stride, start = size_t(panel) * linear.in;
  // A float32 world has no integers.
  if (kFused || linear.format == Format::kFloat) {
    F sums[R][C];
    multiply<kFused, R, C>(static_cast<const float*>(x.rows) + first, x.stride,
                           static_cast<const float*>(linear.weights) + start + at, columns, linear.in, sums);
    repeat<C>(GRT_BODY(c) { repeat<R>(GRT_BODY(r) { keep(row + r, column + 16 * c, sums[r][c]); }); });
    return;
  }
  if constexpr (!kFused) {
    I sums[R][C];
    const bool is_int8 = linear.format == Format::kInt8;
    if (is_int8) {
      multiply<R, C>(static_cast<const Quantised*>(x.rows) + first, x.stride,
                     static_cast<const int8_t*>(linear.weights) + start + size_t(at) * 4, columns, linear.in,
                     linear.offset + column, sums);
    } else {
      multiply16<R, C>(static_cast<const int16_t*>(x.rows) + first, x.stride,
                       static_cast<const int16_t*>(linear.weights) + start + size_t(at) * 2, columns,
                       linear.in, sums);
    }
    repeat<C>(GRT_BODY(c) {
      const F scale = load(linear.scale + column + 16 * c);
      repeat<R>(GRT_BODY(r) {
        F y = mul(to_float(sums[r][c]), scale);
        if (!is_int8) y = mul(y, set(x.steps[row + r]));
        keep(row + r, column + 16 * c, y);
      });
    });
  }
}

template <bool kFused, int C, typename Keep>
GRT_INLINE void all_rows(const Linear& linear, const Inputs& x, int rows, int panel, int columns, int at,
                         Keep& keep) {
  // What is left over is done in fours where whole tiles have six rows.
  constexpr bool kHasFours = kRows == 6 && C == kColumns;
  constexpr int kFew = kHasFours ? 4 : 1;
  for (int row = 0; row < rows;) {
    const int left = rows - row;
    if (left >= kRows && !(kHasFours && left == 8)) {
      tile<kFused, kRows, C>(linear, x, row, panel, columns, at, keep);
      row += kRows;
    } else if (left >= kFew) {
      tile<kFused, kFew, C>(linear, x, row, panel, columns, at, keep);
      row += kFew;
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
