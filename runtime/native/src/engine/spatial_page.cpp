#define GRT_ISA spatial_page
#include "engine/spatial_page.hpp"

#include <cmath>

#include "kernels/float_environment.hpp"
#include "kernels/integer_range.hpp"

namespace grt {
namespace {

// Where the numbers of one layer lie.
struct Places {
  const Transformer& t;
  size_t layer;

  size_t width() const { return size_t(t.attention); }
  size_t padded() const { return size_t(t.padded_positions()); }
  size_t key(size_t p, size_t i) const { return (layer * width() + i) * padded() + p; }
  size_t value(size_t p, size_t i) const { return (layer * size_t(t.positions) + p) * width() + i; }
  // In int16: pairs of a head's numbers stand together, and pairs of positions.
  size_t key16(size_t p, size_t i) const {
    return layer * width() * padded() + (i / 2 * padded() + p) * 2 + i % 2;
  }
  size_t value16(size_t p, size_t i) const {
    return layer * padded() * width() + (p / 2 * width() + i) * 2 + p % 2;
  }
  size_t step(size_t p, size_t head) const { return (layer * size_t(t.num_heads) + head) * padded() + p; }
};

// Half to even, within 2^22.
int16_t nearest(float x) {
  constexpr float kNoFraction = 12582912.0F;
  return static_cast<int16_t>((x + kNoFraction) - kNoFraction);
}

// Rounds a head's numbers as the kernels do; returns the size of a step.
float round_head(const float* x, size_t count, float most, int16_t* to) {
  float magnitude = 0;
  for (size_t i = 0; i < count; i++) magnitude = std::fmax(magnitude, std::fabs(x[i]));
  const float inverse = magnitude > 0 ? most / magnitude : 0.0F;
  for (size_t i = 0; i < count; i++) to[i] = nearest(std::fmax(std::fmin(x[i] * inverse, most), -most));
  return magnitude / most;
}

}  // namespace

void save_spatial(const Transformer& t, const FrameBuffers& from, float* page) {
  const GRT_ISA::FloatEnvironment environment;
  const auto positions = size_t(t.positions), width = size_t(t.attention), stride = size_t(t.head_stride);
  const auto* keys16 = reinterpret_cast<const int16_t*>(from.keys);
  const auto* values16 = reinterpret_cast<const int16_t*>(from.values);
  for (size_t layer = 0; layer < size_t(t.num_layers); layer++) {
    const Places at{t, layer};
    float* keys = page + 2 * layer * positions * width;
    float* values = keys + positions * width;
    for (size_t p = 0; p < positions; p++)
      for (size_t i = 0; i < width; i++) {
        const size_t to = p * width + i, step = at.step(p, i / stride);
        keys[to] =
            t.integer_attention ? keys16[at.key16(p, i)] * from.key_steps[step] : from.keys[at.key(p, i)];
        values[to] = t.integer_attention ? values16[at.value16(p, i)] * from.value_steps[step]
                                         : from.values[at.value(p, i)];
      }
  }
}

void load_spatial(const Transformer& t, const float* page, const FrameBuffers& to) {
  const GRT_ISA::FloatEnvironment environment;
  const auto positions = size_t(t.positions), width = size_t(t.attention), stride = size_t(t.head_stride);
  const IntegerRange range(t);
  auto* keys16 = reinterpret_cast<int16_t*>(to.keys);
  auto* values16 = reinterpret_cast<int16_t*>(to.values);
  int16_t rounded[kMostHeadWidth];
  for (size_t layer = 0; layer < size_t(t.num_layers); layer++) {
    const Places at{t, layer};
    const float* keys = page + 2 * layer * positions * width;
    const float* values = keys + positions * width;
    for (size_t p = 0; p < positions; p++) {
      if (!t.integer_attention) {
        for (size_t i = 0; i < width; i++) to.keys[at.key(p, i)] = keys[p * width + i];
        std::memcpy(to.values + at.value(p, 0), values + p * width, width * sizeof(float));
        continue;
      }
      for (size_t head = 0; head < size_t(t.num_heads); head++) {
        const size_t first = head * stride;
        to.key_steps[at.step(p, head)] =
            round_head(keys + p * width + first, stride, range.query_key, rounded);
        for (size_t i = 0; i < stride; i++) keys16[at.key16(p, first + i)] = rounded[i];
        to.value_steps[at.step(p, head)] =
            round_head(values + p * width + first, stride, range.value, rounded);
        for (size_t i = 0; i < stride; i++) values16[at.value16(p, first + i)] = rounded[i];
      }
    }
  }
}

}  // namespace grt
