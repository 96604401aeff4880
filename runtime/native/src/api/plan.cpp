#include "api/plan.hpp"

#include "api/structs.hpp"

namespace grt {

bool read_plan(const grt_plan* given, const ModelConfig& config, Plan& plan, Error& error) {
  grt_plan copy = {};
  if (!read_struct(given, copy, "plan", "grt_plan", error)) return false;
  const int32_t order = number_of(copy.order), reuse = number_of(copy.reuse);
  if (order_name(order) == nullptr) {
    return error.fail(GRT_ERROR_CONFIG, "Plan.order: expected a grt_order from 0 to 3, found %d", order);
  }
  if (reuse_name(reuse) == nullptr) {
    return error.fail(GRT_ERROR_CONFIG, "Plan.reuse: expected a grt_reuse from 0 to 2, found %d", reuse);
  }
  Plan read;
  read.order = static_cast<grt_order>(order);
  read.reuse = static_cast<grt_reuse>(reuse);
  // 0 is the default where it is no value of its own, as it is of the noise.
  if (copy.passes != 0) read.passes = copy.passes;
  if (copy.temperature != 0) read.temperature = copy.temperature;
  read.noise = copy.noise;
  if (copy.threshold != 0) read.threshold = copy.threshold;
  if (copy.fresh != 0) read.fresh = copy.fresh;
  if (!check_plan(read, error) || !check_plan_fits(read, config, error)) return false;
  plan = read;
  return true;
}

void write_plan(const Plan& plan, grt_plan* out) {
  grt_plan value;
  grt_plan_init(&value);
  value.order = plan.order;
  value.reuse = plan.reuse;
  value.passes = plan.passes;
  value.temperature = plan.temperature;
  value.noise = plan.noise;
  value.threshold = plan.threshold;
  value.fresh = plan.fresh;
  write_struct(out, value);
}

}  // namespace grt
