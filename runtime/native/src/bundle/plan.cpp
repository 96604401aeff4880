#include "bundle/plan.hpp"

namespace grt {
namespace {

constexpr const char* kOrders[] = {"maskgit", "adaptive", "random", "halton"};
constexpr const char* kReuses[] = {"none", "passes", "frames"};
constexpr const char* kOrdersOfReuse[] = {"", "\"random\" or \"halton\"", "\"maskgit\""};

bool goes_with(grt_reuse reuse, grt_order order) {
  switch (reuse) {
    case GRT_REUSE_PASSES:
      return order == GRT_ORDER_RANDOM || order == GRT_ORDER_HALTON;
    case GRT_REUSE_FRAMES:
      return order == GRT_ORDER_MASKGIT;
    default:
      return true;
  }
}

bool check_number(const char* name, double value, double lowest, double highest, Error& error) {
  if (value >= lowest && value <= highest) return true;  // NaN is not
  return error.fail(GRT_ERROR_CONFIG, "Plan.%s: expected a number from %g to %g, found %g", name, lowest,
                    highest, value);
}

}  // namespace

const char* order_name(int32_t order) { return order >= 0 && order < 4 ? kOrders[order] : nullptr; }

const char* reuse_name(int32_t reuse) { return reuse >= 0 && reuse < 3 ? kReuses[reuse] : nullptr; }

bool check_plan(const Plan& plan, Error& error) {
  if (plan.passes < 1 || plan.passes > kMaxPasses) {
    return error.fail(GRT_ERROR_CONFIG, "Plan.passes: expected a whole number from 1 to %d, found %d",
                      kMaxPasses, plan.passes);
  }
  if (!check_number("temperature", plan.temperature, 1e-6, 1e6, error) ||
      !check_number("noise", plan.noise, 0, 1e6, error) ||
      !check_number("threshold", plan.threshold, 1e-9, 1, error) ||
      !check_number("fresh", plan.fresh, 1e-9, 1, error)) {
    return false;
  }
  if (!goes_with(plan.reuse, plan.order)) {
    return error.fail(GRT_ERROR_CONFIG, "Plan.reuse: \"%s\" needs the order %s, found \"%s\"",
                      kReuses[plan.reuse], kOrdersOfReuse[plan.reuse], kOrders[plan.order]);
  }
  if (plan.reuse == GRT_REUSE_FRAMES && plan.passes < 2) {
    return error.fail(GRT_ERROR_CONFIG, "Plan.reuse: \"frames\" needs 2 passes or more, found %d",
                      plan.passes);
  }
  return true;
}

int32_t most_passes(const Plan& plan, const ModelConfig& config) {
  const int32_t units =
      plan.reuse == GRT_REUSE_PASSES ? config.num_positions() : config.tokenizer.num_tokens();
  return units < kMaxPasses ? units : kMaxPasses;
}

bool check_plan_fits(const Plan& plan, const ModelConfig& config, Error& error) {
  const int32_t most = most_passes(plan, config);
  if (plan.passes <= most) return true;
  return error.fail(GRT_ERROR_CONFIG,
                    "Plan.passes: expected at most %d, the %s of a frame: every pass decides one or more; "
                    "found %d",
                    most, plan.reuse == GRT_REUSE_PASSES ? "positions" : "tokens", plan.passes);
}

bool operator==(const Plan& a, const Plan& b) {
  return a.order == b.order && a.reuse == b.reuse && a.passes == b.passes && a.temperature == b.temperature &&
         a.noise == b.noise && a.threshold == b.threshold && a.fresh == b.fresh;
}

}  // namespace grt
