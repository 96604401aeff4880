// Which tokens a pass decides: docs/model.md, sections 7 and 8.
#pragma once

#include "bundle/config.hpp"
#include "support/memory.hpp"

namespace grt {

// Units (tokens, or positions) of `units` decided once pass `pass` of `passes` is done: the cosine schedule.
int32_t decided_after(int32_t pass, int32_t passes, int32_t units);

// Scale of the confidence noise in a pass.
inline double noise_in(double noise, int32_t pass, int32_t passes) {
  return noise * (1.0 - static_cast<double>(pass + 1) / passes);
}

// Passes that an adaptive frame takes which was unsure of so many tokens in its first.
inline int32_t passes_for(int32_t passes, int32_t unsure, int32_t tokens) {
  const auto needed = static_cast<int32_t>((int64_t{passes} * unsure + tokens - 1) / tokens);
  return needed > 1 ? needed : 1;
}

// The order `halton` of a grid: its cells as the Halton sequence of bases 2 and 3 first visits them.
void halton_order(int32_t rows, int32_t columns, int32_t* order);

// The order `random` of a frame: `units` sorted by their uniforms. `keys` is scratch memory, [units].
void random_order(uint64_t seed, uint32_t frame, int32_t units, int32_t* order, uint64_t* keys);

// Decides, among `places` [count], the `keep` masked tokens with the highest confidence: they get their
// candidate. Of equal ones the first in the list is taken. `confidence` and `sorted` are scratch memory,
// [count].
void decide_most_confident(const int32_t* places, int32_t count, int32_t keep, double noise, uint64_t seed,
                           uint32_t frame, int32_t pass, const int32_t* candidates, const float* probability,
                           int32_t* tokens, float* confidence, int32_t* sorted);

}  // namespace grt
