#include "bounded.hpp"
#include "bundle/bundle.hpp"
#include "bundle/parameters.hpp"
#include "bundle/plan.hpp"

namespace {

void check(const grt::Manifest& manifest) {
  const grt::ModelConfig& config = manifest.config;
  GRT_MUST(config.num_positions() >= 1 && config.tokenizer.num_tokens() >= 1);
  GRT_MUST(config.num_positions() * config.dynamics.slots() == config.tokenizer.num_tokens());
  GRT_MUST(manifest.actions.size() >= 1 && manifest.default_action >= 0);
  GRT_MUST(static_cast<size_t>(manifest.default_action) < manifest.actions.size());
  for (const grt::NamedAction& action : manifest.actions) {
    GRT_MUST(action.name[0] != 0 && action.code >= 0 && action.code < config.dynamics.num_actions);
  }
  bool has_default = false;
  for (const grt::NamedPlan& plan : manifest.plans) {
    grt::Error error;
    GRT_MUST(grt::check_plan(plan.plan, error) && grt::check_plan_fits(plan.plan, config, error));
    has_default |= std::strcmp(plan.name, "default") == 0;
  }
  GRT_MUST(has_default);
  GRT_MUST(manifest.find_file("weights.safetensors") != nullptr);
  for (const grt::FileRecord& record : manifest.files) {
    GRT_MUST(manifest.find_file(record.name) == &record && std::strstr(record.name, "..") != record.name);
  }
  for (const grt::Int8Limit& limit : manifest.int8_limits) GRT_MUST(limit.amax > 0 && limit.amax < 1e30f);
  size_t num_parameters = 0;
  grt::for_each_parameter(config, [&](const grt::Parameter& parameter) {
    num_parameters++;
    for (int32_t i = 0; i < parameter.rank; i++) GRT_MUST(parameter.shape[i] >= 1);
  });
  GRT_MUST(num_parameters > 50);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const grt::fuzz::Bounded bounded(16 * size + (size_t{2} << 20));
  grt::Manifest manifest;
  grt::Error error;
  if (grt::parse_manifest(data, size, "bundle.json", bounded.allocator(), manifest, error)) {
    check(manifest);
  } else {
    grt::fuzz::check_refusal(error);
  }
  return 0;
}
