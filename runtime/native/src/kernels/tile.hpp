// A tile: rows of one or two frames that a task computes together, so that weights are read once for all of
// them.
#pragma once

#include "kernels/matmul.hpp"
#include "kernels/work.hpp"

namespace grt::GRT_ISA {

inline constexpr float kEpsilon = 1e-6F;

struct Tile {
  int count = 0;
  int commits = 0;  // rows at the front whose frame is only wanted for its page
  int skipped = 0;  // rows that were in front of the first before `without_commits`
  float* x[kTileRows];
  const FrameWork* frame[kTileRows];
  int32_t row[kTileRows];

  // The rows of a frame from `begin` to `end`.
  void append(const FrameWork& from, int begin, int end, int width) {
    for (int i = begin; i < end; i++, count++) {
      x[count] = from.x + size_t(i) * width;
      frame[count] = &from;
      row[count] = i;
      if (from.for_page_only) commits = count + 1;
    }
  }

  Tile without_commits() const {
    Tile rest;
    rest.skipped = commits;
    for (int i = commits; i < count; i++, rest.count++) {
      rest.x[rest.count] = x[i];
      rest.frame[rest.count] = frame[i];
      rest.row[rest.count] = row[i];
    }
    return rest;
  }
};

// Calls `use(tile)` for all rows of a task, tile by tile.
template <typename Use>
inline void each_tile(const Work& work, int32_t task, Use use) {
  const int32_t rows = work.frames[0].rows;
  const int32_t begin = first_row(rows, task, work.num_tasks),
                end = first_row(rows, task + 1, work.num_tasks);
  const int32_t most = kTileRows / work.num_frames;
  const int32_t num_tiles = (end - begin + most - 1) / most;
  for (int32_t i = 0; i < num_tiles; i++) {
    Tile tile;
    for (int32_t f = 0; f < work.num_frames; f++) {
      tile.append(work.frames[f], begin + (end - begin) * i / num_tiles,
                  begin + (end - begin) * (i + 1) / num_tiles, work.transformer->padded_width);
    }
    use(tile);
  }
}

// 1 / sqrt(mean(x^2) + epsilon) of `padded` numbers, `count` of which count.
GRT_INLINE float inverse_rms(const float* x, int padded, int count) {
  F squares = set(0.0F);
  for (int i = 0; i < padded; i += 16) {
    const F part = load(x + i);
    squares = add(squares, mul(part, part));
  }
  return 1.0F / std::sqrt(sum(squares) / static_cast<float>(count) + kEpsilon);
}

// Norms the queries and keys of one row, [2 H, head_stride], in place.
GRT_STAGE void norm_heads(float* y, const Transformer& t, const Attention& attention) {
  const int stride = t.head_stride, heads = 2 * t.num_heads;
  for (int first = 0; first < heads; first += 16) {
    const int count = heads - first < 16 ? heads - first : 16;
    F squares[16];
    for (int h = 0; h < 16; h++) {
      squares[h] = set(0.0F);
      if (h >= count) continue;
      const float* x = y + size_t(first + h) * stride;
      for (int i = 0; i < stride; i += 16) {
        const F part = load(x + i);
        squares[h] = add(squares[h], mul(part, part));
      }
    }
    const F mean = div(sums(squares), set(static_cast<float>(t.head_width)));
    alignas(64) float inverse[16];
    store(inverse, div(set(1.0F), root(add(mean, set(kEpsilon)))));
    for (int h = 0; h < count; h++) {
      const float* weight = first + h < t.num_heads ? attention.q_norm : attention.k_norm;
      float* x = y + size_t(first + h) * stride;
      for (int i = 0; i < stride; i += 16)
        store(x + i, mul(mul(load(x + i), set(inverse[h])), load(weight + i)));
    }
  }
}

}  // namespace grt::GRT_ISA
