// Attention of a tile's rows: to all positions of their own frame, and of each position to itself in past
// frames.
#pragma once

#include "kernels/integer_range.hpp"
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

// ---- The same in int16
// -------------------------------------------------------------------------------------------

// For up to 16 heads [heads, stride]: the size of a step where `most[h]` of them reach the largest number of
// head h, and how many there are to one; 0 where all of its numbers are.
GRT_INLINE void steps_of_heads(const float* x, int heads, int stride, F most, float* step, float* inverse) {
  const F zero = set(0.0F);
  F magnitudes[16];
  for (int h = 0; h < 16; h++) {
    magnitudes[h] = zero;
    if (h >= heads) continue;
    for (int i = 0; i < stride; i += 16) {
      const F part = load(x + size_t(h) * stride + i);
      magnitudes[h] = max(magnitudes[h], max(part, sub(zero, part)));
    }
  }
  const F magnitude = largests(magnitudes);
  store(step, div(magnitude, most));
  store(inverse, pick(zero, magnitude, div(most, magnitude), zero));
}

// Keys of one head, [rows, stride], to [stride / 2, padded, 2].
GRT_INLINE void keep_keys(const int16_t* from, size_t rows, size_t stride, int16_t* to, size_t padded) {
  if (rows == 16) {  // pairs are moved as floats are
    for (size_t i = 0; i + 32 <= stride; i += 32) {
      transpose(reinterpret_cast<const float*>(from + i), stride / 2,
                reinterpret_cast<float*>(to + i * padded), padded);
    }
    for (size_t pair = stride / 32 * 16; pair < stride / 2; pair++) {
      for (size_t i = 0; i < 16; i++)
        std::memcpy(to + (pair * padded + i) * 2, from + i * stride + 2 * pair, 4);
    }
    return;
  }
  for (size_t pair = 0; pair < stride / 2; pair++) {
    for (size_t i = 0; i < rows; i++)
      std::memcpy(to + (pair * padded + i) * 2, from + i * stride + 2 * pair, 4);
  }
}

// Values of one head, [rows, stride], to [rows / 2, width, 2]; a single one to every second place.
GRT_INLINE void keep_values(const int16_t* from, size_t rows, size_t stride, int16_t* to, size_t width) {
  if (rows == 1) {
    for (size_t i = 0; i < stride; i++) to[2 * i] = from[i];
  }
  for (size_t row = 0; row + 1 < rows; row += 2) {
    const int16_t *even = from + row * stride, *odd = even + stride;
    int16_t* own = to + row * width;
    for (size_t i = 0; i < stride; i++) {
      own[2 * i] = even[i];
      own[2 * i + 1] = odd[i];
    }
  }
}

// Queries, keys and values of `count` rows, [count, 3 H head_stride], to where integer attention finds them:
// 1, or 2 or 16 of positions that follow each other from an even one on. `scratch` is memory for 16 heads.
GRT_STAGE void keep_integers(const float* y, int count, const Transformer& t, const FrameWork& frame, int row,
                             int layer, int16_t* scratch) {
  const IntegerRange range(t);
  const size_t width = size_t(t.attention), padded = size_t(t.padded_positions()),
               heads = size_t(t.num_heads), stride = size_t(t.head_stride), rows = size_t(count);
  const size_t set = size_t(layer % frame.sets), position = size_t(frame.position(row));
  auto* queries = reinterpret_cast<int16_t*>(frame.queries) + size_t(row) * width;
  auto* keys = reinterpret_cast<int16_t*>(frame.keys) + set * width * padded;
  auto* values =
      reinterpret_cast<int16_t*>(frame.values) + (set * padded + position / 2 * 2) * width + position % 2;
  // Heads of queries, keys and values follow each other in y.
  alignas(64) float most[16], step[16][16], inverse[16][16];
  for (size_t first = 0; first < 3 * heads; first += 16) {
    const size_t num = 3 * heads - first < 16 ? 3 * heads - first : 16;
    for (size_t h = 0; h < 16; h++) most[h] = first + h < 2 * heads ? range.query_key : range.value;
    for (size_t i = 0; i < rows; i++) {
      steps_of_heads(y + i * 3 * width + first * stride, int(num), int(stride), load(most), step[i],
                     inverse[i]);
    }
    for (size_t h = 0; h < num; h++) {
      const size_t kind = (first + h) / heads, head = (first + h) % heads, at = head * stride;
      const size_t steps = (set * heads + head) * padded + position;
      const float* own = y + (first + h) * stride;
      int16_t* to = kind == 0 ? queries + at : scratch;
      for (size_t i = 0; i < rows; i++) {
        round_to_steps(own + i * 3 * width, int(stride), inverse[i][h], most[h],
                       to + i * (kind == 0 ? width : stride));
        if (kind == 0) frame.query_steps[(size_t(row) + i) * heads + head] = step[i][h];
        if (kind == 1) frame.key_steps[steps + i] = step[i][h];
        if (kind == 2) frame.value_steps[steps + i] = step[i][h];
      }
      if (kind == 1) keep_keys(scratch, rows, stride, keys + (at / 2 * padded + position) * 2, padded);
      if (kind == 2) keep_values(scratch, rows, stride, values + at * 2, width);
    }
  }
}

// R rows of one head, as attend_rows. `weights` is memory for the rounded weights, [R, P padded].
template <int R>
GRT_INLINE void attend_rows16(const int16_t* queries, const float* query_steps, const int16_t* keys,
                              const float* key_steps, const int16_t* values, const float* value_steps,
                              const Transformer& t, const IntegerRange& range, float* scores,
                              int16_t* weights, float* out) {
  const int padded = t.padded_positions(), stride = t.head_stride, width = t.attention;
  // Where positions do not fill the last vector: 1 for those that are there, else 0.
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; i++) lanes[i] = padded - 16 + i < t.positions ? 1.0F : 0.0F;
  const F counts = load(lanes), zero = set(0.0F), lowest = set(-3.0e38F);
  const bool is_whole = padded == t.positions;
  F most[R];
  repeat<R>(GRT_BODY(r) { most[r] = lowest; });
  const auto keep_scores = [&](int column, const auto& sums, auto columns) GRT_INLINED {
    repeat<decltype(columns)::value>(GRT_BODY(c) {
      const F steps = load(key_steps + column + 16 * c);
      repeat<R>(GRT_BODY(r) {
        const F step = mul(steps, set(query_steps[size_t(r) * t.num_heads]));
        F score = mul(to_float(sums[r][c]), step);
        if (!is_whole && column + 16 * c + 16 == padded) score = pick(zero, counts, score, lowest);
        most[r] = max(most[r], score);
        store(scores + size_t(r) * padded + column + 16 * c, score);
      });
    });
  };
  int column = 0;
  for (; column + 16 * kColumns <= padded; column += 16 * kColumns) {
    I sums[R][kColumns];
    multiply16<R, kColumns>(queries, width, keys + size_t(column) * 2, padded, stride, sums);
    keep_scores(column, sums, std::integral_constant<int, kColumns>{});
  }
  for (; column < padded; column += 16) {
    I sums[R][1];
    multiply16<R, 1>(queries, width, keys + size_t(column) * 2, padded, stride, sums);
    keep_scores(column, sums, std::integral_constant<int, 1>{});
  }
  // Softmax, except for one factor a row. A weight counts as much as the step of its value.
  F total[R], heaviest[R];
  repeat<R>(GRT_BODY(r) {
    most[r] = set(largest(most[r]));
    total[r] = heaviest[r] = zero;
  });
  for (column = 0; column < padded; column += 16) {
    const F steps = load(value_steps + column);
    repeat<R>(GRT_BODY(r) {
      float* at = scores + size_t(r) * padded + column;
      F weight = exp_negative(sub(load(at), most[r]));
      if (!is_whole && column + 16 == padded) weight = mul(weight, counts);
      total[r] = add(total[r], weight);
      weight = mul(weight, steps);
      heaviest[r] = max(heaviest[r], weight);
      store(at, weight);
    });
  }
  float scale[R];
  for (int r = 0; r < R; r++) {
    const float magnitude = largest(heaviest[r]);
    const float inverse = magnitude > 0 ? range.weight / magnitude : 0.0F;
    round_to_steps(scores + size_t(r) * padded, padded, inverse, range.weight, weights + size_t(r) * padded);
    scale[r] = 1.0F / sum(total[r]) * (magnitude / range.weight);
  }
  constexpr int kWide = kColumns < 2 ? 1 : 2;
  column = 0;
  for (; column + 16 * kWide <= stride; column += 16 * kWide) {
    I sums[R][kWide];
    multiply16<R, kWide>(weights, padded, values + size_t(column) * 2, width, padded, sums);
    repeat<R>(GRT_BODY(r) {
      repeat<kWide>(GRT_BODY(c) {
        store(out + size_t(r) * width + column + 16 * c, mul(to_float(sums[r][c]), set(scale[r])));
      });
    });
  }
  for (; column < stride; column += 16) {
    I sums[R][1];
    multiply16<R, 1>(weights, padded, values + size_t(column) * 2, width, padded, sums);
    repeat<R>(
        GRT_BODY(r) { store(out + size_t(r) * width + column, mul(to_float(sums[r][0]), set(scale[r]))); });
  }
}

// Rows `first` to `first + count` of a tile, which are of one frame, to `attended`.
GRT_STAGE void attend_in_integers(const Work& work, const Tile& tile, int first, int count, int layer,
                                  Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const IntegerRange range(t);
  const FrameWork& frame = *tile.frame[first];
  const size_t width = size_t(t.attention), padded = size_t(t.padded_positions()),
               heads = size_t(t.num_heads);
  const size_t set = size_t(layer % frame.sets);
  auto* weights = reinterpret_cast<int16_t*>(scratch.scores + size_t(8) * padded);
  for (size_t head = 0; head < heads; head++) {
    const size_t at = head * size_t(t.head_stride), steps = (set * heads + head) * padded;
    const int16_t* keys = reinterpret_cast<const int16_t*>(frame.keys) + (set * width + at) * padded;
    const int16_t* values = reinterpret_cast<const int16_t*>(frame.values) + set * padded * width + at * 2;
    for (int row = 0; row < count;) {
      const size_t own = size_t(tile.row[first + row]);
      const int16_t* queries = reinterpret_cast<const int16_t*>(frame.queries) + own * width + at;
      const float* query_steps = frame.query_steps + own * heads + head;
      float* out = scratch.attended + size_t(first + row) * width + at;
      if (count - row >= kRows) {
        attend_rows16<kRows>(queries, query_steps, keys, frame.key_steps + steps, values,
                             frame.value_steps + steps, t, range, scratch.scores, weights, out);
        row += kRows;
      } else {
        attend_rows16<1>(queries, query_steps, keys, frame.key_steps + steps, values,
                         frame.value_steps + steps, t, range, scratch.scores, weights, out);
        row += 1;
      }
    }
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
    if (!kFused && t.integer_attention) {
      attend_in_integers(work, tile, first, count, layer, scratch);
      first += count;
      continue;
    }
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
