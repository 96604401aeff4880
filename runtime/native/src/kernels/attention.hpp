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
inline void attend_spatially(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
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
inline void keep_pages(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
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

// Temporal attention of a tile's rows, to `attended`. The tile may lack the rows at the front of the one that
// was projected.
inline void attend_temporally(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const Block& block = t.blocks[layer];
  const size_t width = size_t(t.attention), entry = width * t.positions;
  const int stride = t.head_stride;
  int slots = 1;  // scores of a head: ages, padded to a power of two
  while (slots < t.window) slots *= 2;
  const int num_scores = (t.num_heads * slots + 15) / 16 * 16;
  float* scores = scratch.scores;
  const float* projected = scratch.projected + size_t(tile.skipped) * 3 * width;
  for (int row = 0; row < tile.count; row++) {
    const FrameWork& frame = *tile.frame[row];
    const float* y = projected + size_t(row) * 3 * width;
    const size_t at = size_t(2 * layer) * entry + frame.position(tile.row[row]) * width;
    const int ages = 1 + (frame.num_past < t.window - 1 ? frame.num_past : t.window - 1);
    const auto keys = [&](int age) { return age == 0 ? y + width : frame.past[age - 1] + at; };
    const auto values = [&](int age) { return age == 0 ? y + 2 * width : frame.past[age - 1] + at + entry; };
    for (int first = 0; first < num_scores; first += 16) {
      F products[16];
      for (int i = 0; i < 16; i++) {
        const int head = (first + i) / slots, age = (first + i) % slots;
        products[i] = set(0.0F);
        if (head >= t.num_heads || age >= ages) continue;
        const float *q = y + size_t(head) * stride, *k = keys(age) + size_t(head) * stride;
        for (int d = 0; d < stride; d += 16) products[i] = add(products[i], mul(load(q + d), load(k + d)));
      }
      store(scores + first, sums(products));
    }
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
        F o = mul(set(s[0]), load(values(0) + place));
        for (int age = 1; age < ages; age++) o = add(o, mul(set(s[age]), load(values(age) + place)));
        store(out + d, mul(o, inverse));
      }
    }
  }
}

}  // namespace grt::GRT_ISA
