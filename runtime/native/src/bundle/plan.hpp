// Which plans there are: the bounds of runtime/plan.py, in the same words.
#pragma once

#include "bundle/config.hpp"
#include "support/error.hpp"

namespace grt {

inline constexpr int32_t kMaxPasses = 4096;

// Names as bundle.json has them; null for a number that is none.
const char* order_name(int32_t order);
const char* reuse_name(int32_t reuse);

// Whether a plan's values are within their bounds and go with each other. GRT_ERROR_CONFIG.
[[nodiscard]] bool check_plan(const Plan& plan, Error& error);

// Passes that frames of such a model can be decoded in: each decides a token or a position.
int32_t most_passes(const Plan& plan, const ModelConfig& config);

// Whether frames of such a model can be decoded with a plan that check_plan accepts. GRT_ERROR_CONFIG.
[[nodiscard]] bool check_plan_fits(const Plan& plan, const ModelConfig& config, Error& error);

bool operator==(const Plan& a, const Plan& b);

}  // namespace grt
