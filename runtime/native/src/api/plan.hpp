// grt_plan and Plan.
#pragma once

#include "bundle/plan.hpp"

namespace grt {

// Reads and checks a plan of the caller for a model.
[[nodiscard]] bool read_plan(const grt_plan* given, const ModelConfig& config, Plan& plan, Error& error);

// Fills a struct of the caller, which check_struct accepted.
void write_plan(const Plan& plan, grt_plan* out);

}  // namespace grt
