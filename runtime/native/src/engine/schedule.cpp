#include "engine/schedule.hpp"

#include <algorithm>

#include "engine/logarithm.hpp"
#include "engine/philox.hpp"

namespace grt {
namespace {

// cos(x) for 0 <= x <= pi / 2, the same bits everywhere: Taylor's series around the nearer end.
double cosine(double x) {
  const auto series = [](double square, double first, double power) {
    double total = first, term = first;
    for (int i = 1; i <= 12; i++) {
      term *= -square / ((2 * i - 1 + power) * (2 * i + power));
      total += term;
    }
    return total;
  };
  constexpr double kHalfPi = 1.5707963267948966;
  if (x <= kHalfPi / 2) return series(x * x, 1.0, 0.0);
  const double y = kHalfPi - x;
  return series(y * y, y, 1.0);
}

}  // namespace

int32_t decided_after(int32_t pass, int32_t passes, int32_t units) {
  if (pass + 1 >= passes) return units;
  const double angle = 1.5707963267948966 * (pass + 1) / passes;
  const double left = units * cosine(angle);
  // A product that is a whole number but for rounding is taken for it on every machine alike: cos(pi / 3) is
  // 1/2.
  const auto masked = static_cast<int32_t>(left);
  return std::min(units, std::max(units - masked, pass + 1));
}

void halton_order(int32_t rows, int32_t columns, int32_t* order) {
  const auto inverse = [](int64_t index, int base) {
    double value = 0, scale = 1;
    for (; index > 0; index /= base) {
      scale = scale / base;
      value = value + scale * static_cast<double>(index % base);
    }
    return value;
  };
  const int32_t cells = rows * columns;
  // A cell is marked as visited in its own place of the list's end, by the sign: no other memory is needed.
  for (int32_t i = 0; i < cells; i++) order[i] = 0;
  int32_t count = 0;
  // `order` doubles as the set of visited cells: bit 30 of entry c says that cell c was visited.
  constexpr int32_t kVisited = 1 << 30;
  for (int64_t i = 1; count < cells; i++) {
    const auto row = static_cast<int32_t>(inverse(i, 2) * rows),
               column = static_cast<int32_t>(inverse(i, 3) * columns);
    const int32_t cell = row * columns + column;
    if ((order[cell] & kVisited) != 0) continue;
    order[cell] |= kVisited;
    order[count] = (order[count] & kVisited) | cell;
    count++;
  }
  for (int32_t i = 0; i < cells; i++) order[i] &= ~kVisited;
}

void random_order(uint64_t seed, uint32_t frame, int32_t units, int32_t* order, uint64_t* keys) {
  for (int32_t i = 0; i < units; i++) {
    const uint32_t u = philox(seed, static_cast<uint32_t>(i), 0, frame, kOrderStream).word[0] >> 8;
    keys[i] = uint64_t{u} << 32 | static_cast<uint32_t>(i);  // the index breaks ties
  }
  std::sort(keys, keys + units);
  for (int32_t i = 0; i < units; i++) order[i] = static_cast<int32_t>(keys[i] & 0xFFFFFFFF);
}

void decide_most_confident(const int32_t* places, int32_t count, int32_t keep, double noise, uint64_t seed,
                           uint32_t frame, int32_t pass, const int32_t* candidates, const float* probability,
                           int32_t* tokens, float* confidence, int32_t* sorted) {
  int32_t masked = 0;
  for (int32_t i = 0; i < count; i++) {
    if (tokens[places[i]] < 0) sorted[masked++] = i;
  }
  if (keep >= masked) {  // all that are left, whatever their confidence
    for (int32_t i = 0; i < masked; i++) tokens[places[sorted[i]]] = candidates[places[sorted[i]]];
    return;
  }
  const auto scale = static_cast<float>(noise);
  for (int32_t i = 0; i < masked; i++) {
    const int32_t place = places[sorted[i]];
    float value = static_cast<float>(logarithm(static_cast<double>(std::max(probability[place], 1e-38F))));
    if (noise > 0) {
      const Words words =
          philox(seed, static_cast<uint32_t>(place), static_cast<uint32_t>(pass), frame, kTokenStream);
      value = value + scale * static_cast<float>(gumbel(uniform(words.word[1])));
    }
    confidence[sorted[i]] = value;
  }
  const auto before = [&](int32_t a, int32_t b) {
    return confidence[a] != confidence[b] ? confidence[a] > confidence[b] : a < b;
  };
  if (keep <= 0) return;
  std::nth_element(sorted, sorted + keep - 1, sorted + masked, before);
  for (int32_t i = 0; i < keep; i++) tokens[places[sorted[i]]] = candidates[places[sorted[i]]];
}

}  // namespace grt
