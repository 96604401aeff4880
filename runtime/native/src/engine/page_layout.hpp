// Where the numbers of a page lie: [layers][2: keys, values][positions][heads][head_stride], a head's numbers
// first and padding behind them. Padding is zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bundle/config.hpp"

namespace grt {

struct PageLayout {
  int32_t num_layers = 0, num_positions = 0, num_heads = 0, head_width = 0;

  PageLayout() = default;
  PageLayout(const TransformerConfig& transformer, int32_t positions)
      : num_layers(transformer.num_layers),
        num_positions(positions),
        num_heads(transformer.num_heads),
        head_width(transformer.head_width) {}

  static PageLayout of_dynamics(const ModelConfig& config) {
    return {config.dynamics.transformer, config.num_positions()};
  }
  static PageLayout of_decoder(const ModelConfig& config) {
    return {config.tokenizer.decoder, config.tokenizer.num_tokens()};
  }

  // Floats from one head to the next: whole groups of 16 lanes.
  int32_t head_stride() const { return (head_width + 15) / 16 * 16; }
  size_t position_stride() const { return static_cast<size_t>(num_heads) * head_stride(); }
  size_t part_stride() const { return static_cast<size_t>(num_positions) * position_stride(); }
  size_t layer_stride() const { return 2 * part_stride(); }

  // Of a whole page. In 64 bits: on a 32-bit processor a bundle may ask for more than there can be.
  uint64_t floats() const {
    return uint64_t{2} * num_layers * num_positions * num_heads * static_cast<uint64_t>(head_stride());
  }
  // Without padding, as save states have it.
  uint64_t packed_floats() const {
    return uint64_t{2} * num_layers * num_positions * num_heads * static_cast<uint64_t>(head_width);
  }
};

}  // namespace grt
