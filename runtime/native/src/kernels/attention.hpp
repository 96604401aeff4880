// Attention of a tile's rows: to all positions of their own frame, and of each position to itself in past
// frames.
#pragma once

#include "kernels/tile.hpp"

namespace grt::GRT_ISA {

// e^(s - largest) in place of `count` scores; returns one over their sum.
GRT_INLINE float softmax(float* s, int count, int padded) {
  for (int i = count; i < padded; i++) s[i] = s[0];
  F most = load(s);
  for (int i = 16; i < padded; i += 16) most = max(most, load(s + i));
  const F shift = set(largest(most));
  for (int i = 0; i < padded; i += 16) store(s + i, exp_negative(sub(load(s + i), shift)));
  for (int i = count; i < padded; i++) s[i] = 0;
  F total = load(s);
  for (int i = 16; i < padded; i += 16) total = add(total, load(s + i));
  return 1.0F / sum(total);
}

// R rows of one head: scores, softmax, and the mean of the values, to `out`.
template <bool kFused, int R>
GRT_INLINE void attend_rows(const float* queries, const float* keys, const float* values,
                            const Transformer& t, float* scores, float* out) {
  const int padded = t.padded_positions(), stride = t.head_stride, width = t.attention;
  int column = 0;
  for (; column + 16 * kColumns <= padded; column += 16 * kColumns) {
    F s[R][kColumns];
    multiply<kFused, R, kColumns>(queries, width, keys + column, padded, t.head_width, s);
    for (int r = 0; r < R; r++)
      for (int c = 0; c < kColumns; c++) store(scores + size_t(r) * padded + column + 16 * c, s[r][c]);
  }
  for (; column < padded; column += 16) {
    F s[R][1];
    multiply<kFused, R, 1>(queries, width, keys + column, padded, t.head_width, s);
    for (int r = 0; r < R; r++) store(scores + size_t(r) * padded + column, s[r][0]);
  }
  float inverse[R];
  for (int r = 0; r < R; r++) inverse[r] = softmax(scores + size_t(r) * padded, t.positions, padded);
  constexpr int kWide = kColumns < 2 ? 1 : 2;
  column = 0;
  for (; column + 16 * kWide <= stride; column += 16 * kWide) {
    F o[R][kWide];
    multiply<kFused, R, kWide>(scores, padded, values + column, width, t.positions, o);
    for (int r = 0; r < R; r++)
      for (int c = 0; c < kWide; c++)
        store(out + size_t(r) * width + column + 16 * c, mul(o[r][c], set(inverse[r])));
  }
  for (; column < stride; column += 16) {
    F o[R][1];
    multiply<kFused, R, 1>(scores, padded, values + column, width, t.positions, o);
    for (int r = 0; r < R; r++) store(out + size_t(r) * width + column, mul(o[r][0], set(inverse[r])));
  }
}

// Spatial attention of all rows of a tile, to `attended`.
template <bool kFused>
GRT_STAGE void attend_spatially(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const int width = t.attention, padded = t.padded_positions();
  for (int first = 0; first < tile.count;) {
    const FrameWork& frame = *tile.frame[first];
    int count = 1;
    while (first + count < tile.count && tile.frame[first + count] == &frame) count++;
    const size_t set = size_t(layer % frame.sets);
    for (int head = 0; head < t.num_heads; head++) {
      const size_t at = size_t(head) * t.head_stride;
      const float* keys = frame.keys + (set * width + at) * padded;
      const float* values = frame.values + set * t.positions * width + at;
      for (int row = 0; row < count;) {
        const float* queries = frame.queries + size_t(tile.row[first + row]) * width + at;
        float* out = scratch.attended + size_t(first + row) * width + at;
        if (count - row >= kRows) {
          attend_rows<kFused, kRows>(queries, keys, values, t, scratch.scores, out);
          row += kRows;
        } else {
          attend_rows<kFused, 1>(queries, keys, values, t, scratch.scores, out);
          row += 1;
        }
      }
    }
    first += count;
  }
}

// New temporal keys and values to their pages, [L, 2, P, H head_stride].
GRT_STAGE void keep_pages(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const size_t width = size_t(t.attention), entry = width * t.positions;
  for (int row = 0; row < tile.count; row++) {
    const FrameWork& frame = *tile.frame[row];
    if (frame.page == nullptr) continue;
    const float* y = scratch.projected + size_t(row) * 3 * width;
    float* at = frame.page + size_t(2 * layer) * entry + frame.position(tile.row[row]) * width;
    std::memcpy(at, y + width, width * sizeof(float));
    std::memcpy(at + entry, y + 2 * width, width * sizeof(float));
  }
}

// Scores of temporal attention: of every head of one row with every age, [H, slots], `slots` being a power of
// two.
GRT_INLINE void score_ages(const float* queries, const float* const* keys, int ages, int slots,
                           const Transformer& t, float* scores) {
  const int stride = t.head_stride;
  const int per_vector = slots < 16 ? 16 / slots : 1;  // heads
  for (int head = 0; head < t.num_heads; head += per_vector) {
    for (int first = 0; first < slots; first += 16) {
      F products[16];
      repeat<16>(GRT_BODY(i) { products[i] = set(0.0F); });
      for (int h = 0; h < per_vector && head + h < t.num_heads; h++) {
        const size_t at = size_t(head + h) * stride;
        for (int age = first; age < ages && age < first + 16; age++) {
          const float *q = queries + at, *k = keys[age] + at;
          F product = mul(load(q), load(k));
          for (int d = 16; d < stride; d += 16) product = add(product, mul(load(q + d), load(k + d)));
          products[h * slots + age - first] = product;
        }
      }
      store(scores + size_t(head) * slots + first, sums(products));
    }
  }
}

// Temporal attention of a tile's rows, to `attended`. The tile may lack the rows at the front of the one that
// was projected.
GRT_STAGE void attend_temporally(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const Block& block = t.blocks[layer];
  const size_t width = size_t(t.attention), entry = width * t.positions;
  const int stride = t.head_stride;
  int slots = 1;  // scores of a head
  while (slots < t.window) slots *= 2;
  const int num_scores = (t.num_heads * slots + 15) / 16 * 16;
  float* scores = scratch.scores;
  const float** keys = scratch.ages;
  const float** values = scratch.ages + t.window;
  for (int row = 0; row < tile.count; row++) {
    const FrameWork& frame = *tile.frame[row];
    const float* y = scratch.projected + size_t(tile.skipped + row) * 3 * width;
    const size_t at = size_t(2 * layer) * entry + frame.position(tile.row[row]) * width;
    const int ages = 1 + (frame.num_past < t.window - 1 ? frame.num_past : t.window - 1);
    keys[0] = y + width;
    values[0] = y + 2 * width;
    for (int age = 1; age < ages; age++) {
      keys[age] = frame.past[age - 1] + at;
      values[age] = keys[age] + entry;
    }
    score_ages(y, keys, ages, slots, t, scores);
    for (int head = 0; head < t.num_heads; head++) {
      float* s = scores + head * slots;
      const float* bias = block.age_bias + head * t.window;
      float most = s[0] += bias[0];
      for (int age = 1; age < ages; age++) {
        s[age] += bias[age];
        most = s[age] > most ? s[age] : most;
      }
      for (int age = 0; age < ages; age++) s[age] -= most;
    }
    for (int i = 0; i < num_scores; i += 16) store(scores + i, exp_negative(load(scores + i)));
    for (int head = 0; head < t.num_heads; head++) {
      const float* s = scores + head * slots;
      float total = s[0];
      for (int age = 1; age < ages; age++) total += s[age];
      const F inverse = set(1.0F / total);
      float* out = scratch.attended + size_t(row) * width + size_t(head) * stride;
      for (int d = 0; d < stride; d += 16) {
        const size_t place = size_t(head) * stride + d;
        F o = mul(set(s[0]), load(values[0] + place));
        for (int age = 1; age < ages; age++) o = add(o, mul(set(s[age]), load(values[age] + place)));
        store(out + d, mul(o, inverse));
      }
    }
  }
}

}  // namespace grt::GRT_ISA
