// A layer of the transformer for a tile of rows: docs/model.md, section 2.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/tile.hpp"

namespace grt::GRT_ISA {

// A linear's input: the tile's x after a norm.
GRT_STAGE Inputs norm_inputs(const Tile& tile, const Transformer& t, const float* weight,
                             const Linear& linear, Scratch& scratch) {
  const int width = t.padded_width;
  auto* quantised = static_cast<Quantised*>(scratch.quantised);
  for (int row = 0; row < tile.count; row++) {
    const float* x = tile.x[row];
    const F inverse = set(inverse_rms(x, width, t.width));
    const size_t at = size_t(row) * width;
    if (linear.format == Format::kInt8) {
      for (int i = 0; i < width; i += 16) {
        store_quantised(quantised + at + i, mul(mul(load(x + i), inverse), load(weight + i)));
      }
    } else {
      for (int i = 0; i < width; i += 16)
        store(scratch.normed + at + i, mul(mul(load(x + i), inverse), load(weight + i)));
    }
  }
  if (linear.format == Format::kInt8) return {quantised, size_t(width)};
  return inputs_of(linear, scratch.normed, tile.count, width, scratch.quantised, scratch.steps);
}

// y as `projected` [count, 3 H head_stride], with queries and keys normed.
template <bool kFused>
GRT_STAGE void project(const Tile& tile, const Transformer& t, const Attention& attention, Scratch& scratch) {
  const Inputs x = norm_inputs(tile, t, attention.norm, attention.qkv, scratch);
  const size_t stride = size_t(attention.qkv.out);
  float* y = scratch.projected;
  apply<kFused>(attention.qkv, x, tile.count,
                [=](int row, int column, F value) { store(y + row * stride + column, value); });
  for (int row = 0; row < tile.count; row++) norm_heads(y + row * stride, t, attention);
}

// x += h W^T
template <bool kFused>
GRT_STAGE void add_linear(const Tile& tile, const Linear& linear, const Inputs& h) {
  float* const* x = tile.x;
  apply<kFused>(linear, h, tile.count, [=](int row, int column, F value) {
    float* at = x[row] + column;
    store(at, add(load(at), value));
  });
}

template <bool kFused>
GRT_STAGE void mlp(const Tile& tile, const Transformer& t, const Block& block, Scratch& scratch) {
  const Inputs x = norm_inputs(tile, t, block.mlp_norm, block.up, scratch);
  float* hidden = scratch.hidden;
  const size_t width = size_t(t.mlp);
  const bool is_exact = kFused || block.down.format == Format::kFloat;
  const auto activate = [=](F z) GRT_INLINED { return is_exact ? gelu(z) : gelu_polynomial(z); };
  if (block.down.format == Format::kInt8) {
    auto* quantised = static_cast<Quantised*>(scratch.quantised2);
    const F inverse_step = set(block.down.inverse_step);
    apply<kFused>(block.up, x, tile.count, [=](int row, int column, F value) {
      store_quantised(quantised + row * width + column, mul(activate(value), inverse_step));
    });
    return add_linear<kFused>(tile, block.down, {quantised, width});
  }
  apply<kFused>(block.up, x, tile.count,
                [=](int row, int column, F value) { store(hidden + row * width + column, activate(value)); });
  add_linear<kFused>(tile, block.down,
                     inputs_of(block.down, hidden, tile.count, t.mlp, scratch.quantised2, scratch.steps));
}

// Spatial queries, keys and values of `layer` to where attention finds them.
template <bool kFused>
GRT_STAGE void begin_layer(const Work& work, const Tile& tile, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const Attention& attention = t.blocks[layer].spatial;
  project<kFused>(tile, t, attention, scratch);
  const int width = t.attention, padded = t.padded_positions();
  const size_t stride = size_t(attention.qkv.out);
  if (!kFused && t.integer_attention) {
    auto* memory = static_cast<int16_t*>(scratch.quantised);
    for (int row = 0; row < tile.count;) {
      const FrameWork& frame = *tile.frame[row];
      int count = 1;
      for (int several : {2, 16}) {
        const bool follow = frame.index == nullptr && tile.row[row] % 2 == 0;
        if (follow && row + several <= tile.count && tile.frame[row + several - 1] == &frame) count = several;
      }
      keep_integers(scratch.projected + size_t(row) * stride, count, t, frame, tile.row[row], layer, memory);
      row += count;
    }
    return;
  }
  for (int row = 0; row < tile.count;) {
    const FrameWork& frame = *tile.frame[row];
    const float* y = scratch.projected + size_t(row) * stride;
    const size_t set = size_t(layer % frame.sets);
    const int position = frame.position(tile.row[row]);
    float* keys = frame.keys + set * width * padded + position;
    const bool is_square = frame.index == nullptr && row + 16 <= tile.count && tile.frame[row + 15] == &frame;
    const int count = is_square ? 16 : 1;
    for (int i = 0; i < count; i++) {
      const float* own = y + size_t(i) * stride;
      std::memcpy(frame.queries + size_t(tile.row[row + i]) * width, own, size_t(width) * sizeof(float));
      std::memcpy(frame.values + (set * t.positions + position + i) * width, own + 2 * width,
                  size_t(width) * sizeof(float));
    }
    if (is_square) {
      for (int i = 0; i < width; i += 16) transpose(y + width + i, stride, keys + size_t(i) * padded, padded);
    } else {
      for (int i = 0; i < width; i++) keys[size_t(i) * padded] = y[width + i];
    }
    row += count;
  }
}

// The rest of `layer`.
template <bool kFused>
inline void end_layer(const Work& work, const Tile& all, int layer, Scratch& scratch) {
  const Transformer& t = *work.transformer;
  const Block& block = t.blocks[layer];
  attend_spatially<kFused>(work, all, layer, scratch);
  add_linear<kFused>(all, block.spatial.out,
                     inputs_of(block.spatial.out, scratch.attended, all.count, t.attention, scratch.quantised,
                               scratch.steps));

  project<kFused>(all, t, block.temporal, scratch);
  keep_pages(work, all, layer, scratch);
  const Tile tile = layer + 1 < t.num_layers ? all : all.without_commits();
  if (tile.count == 0) return;
  attend_temporally(work, tile, layer, scratch);
  add_linear<kFused>(tile, block.temporal.out,
                     inputs_of(block.temporal.out, scratch.attended, tile.count, t.attention,
                               scratch.quantised, scratch.steps));
  mlp<kFused>(tile, t, block, scratch);
}

// After the last layer.
GRT_STAGE void last_norm(const Tile& tile, const Transformer& t, Scratch& scratch) {
  for (int row = 0; row < tile.count; row++) {
    float* x = tile.x[row];
    const float inverse = inverse_rms(x, t.padded_width, t.width);
    if (!(inverse > 0)) scratch.bad = true;  // NaN, or infinite squares
    for (int i = 0; i < t.padded_width; i += 16)
      store(x + i, mul(mul(load(x + i), set(inverse)), load(t.norm + i)));
  }
}

}  // namespace grt::GRT_ISA
