// How far spatial attention in int16 rounds its numbers, so that no sum can overflow.
#pragma once

#include <cmath>

#include "kernels/weights.hpp"

namespace grt {

// Of bundles: wider heads are computed in float.
inline constexpr int32_t kMostHeadWidth = 512;

// The largest magnitudes that queries and keys, values, and weights are rounded to.
struct IntegerRange {
  float query_key, value, weight;

  // Always inline: a copy that is compiled for one set of instructions must not serve the others.
  [[gnu::always_inline]] explicit IntegerRange(const Transformer& t)
      : query_key(least(4095.0F, std::floor(std::sqrt(kMost / static_cast<float>(t.head_stride)) - 1.0F))),
        value(2047.0F),
        weight(least(32767.0F,
                     std::floor(kMost / (2047.0F * static_cast<float>(t.padded_positions())) - 1.0F))) {}

 private:
  static constexpr float kMost = 2147483647.0F;
  static float least(float a, float b) { return a < b ? a : b; }
};

}  // namespace grt
