#include "options.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace genie {
namespace {

constexpr const char* kPrecision = "genie_precision";
constexpr const char* kThreads = "genie_threads";
constexpr const char* kFps = "genie_fps";
constexpr const char* kScale = "genie_scale";
constexpr const char* kSeed = "genie_seed";
constexpr const char* kPlan = "genie_plan";
constexpr const char* kPrompt = "genie_prompt";

const char* chosen(retro_environment_t environment, const char* key) {
  retro_variable variable = {key, nullptr};
  return environment(RETRO_ENVIRONMENT_GET_VARIABLE, &variable) ? variable.value : nullptr;
}

int32_t chosen_number(retro_environment_t environment, const char* key, int32_t otherwise) {
  const char* value = chosen(environment, key);
  if (value == nullptr || value[0] < '0' || value[0] > '9') return otherwise;
  return static_cast<int32_t>(std::strtol(value, nullptr, 10));
}

}  // namespace

retro_core_option_v2_definition* Options::add(const char* key, const char* name, const char* info,
                                              const char* default_value) {
  retro_core_option_v2_definition* option = &options_[num_options_++];
  *option = {};
  option->key = key;
  option->desc = name;
  option->info = info;
  option->default_value = default_value;
  return option;
}

// Values beyond what the ABI has room for are left out.
void Options::add_value(retro_core_option_v2_definition* option, const char* value, const char* label) {
  for (int i = 0; i < kMostValues; i++) {
    if (option->values[i].value != nullptr) continue;
    option->values[i] = {value, label};
    return;
  }
}

void Options::declare(retro_environment_t environment, const grt_world* world) {
  num_options_ = 0;
  for (int i = 0; i < kMostValues; i++) std::snprintf(numbers_[i], sizeof numbers_[i], "%d", i);

  retro_core_option_v2_definition* option = nullptr;
  if (world != nullptr) {
    option = add(kPlan, "Plan", "How frames are decoded: the bundle's plans.", "default");
    for (int32_t i = 0; grt_world_plan_name(world, i) != nullptr; i++) {
      add_value(option, grt_world_plan_name(world, i), nullptr);
    }
    option =
        add(kPrompt, "Prompt", "The picture that the world starts from. Applied at the next reset.", "0");
    for (int32_t i = 0; i < kMostValues && grt_world_prompt_name(world, i) != nullptr; i++) {
      add_value(option, numbers_[i], grt_world_prompt_name(world, i));
    }
  }
  option = add(kSeed, "Seed",
               "Of the sampling: same seed, same keys, same frames. Applied at the next reset.", "0");
  for (int i = 0; i < 10; i++) add_value(option, numbers_[i], nullptr);
  option = add(kFps, "Steps per second", "How often the world steps. The screen always runs at 60 Hz.", "15");
  for (const char* value : {"10", "15", "20", "30", "60"}) add_value(option, value, nullptr);
  option = add(kScale, "Scale", "How large the core draws a pixel of the world.", "1");
  for (const char* value : {"1", "2", "3", "4", "6", "8"}) add_value(option, value, nullptr);
  option = add(kPrecision, "Precision", "Auto: int8 where the bundle has it. Applied when content is loaded.",
               "auto");
  for (const char* value : {"auto", "int8", "fp32"}) add_value(option, value, nullptr);
  option =
      add(kThreads, "Threads", "Auto: all processors, at most 8. Applied when content is loaded.", "auto");
  for (const char* value : {"auto", "1", "2", "3", "4", "6", "8"}) add_value(option, value, nullptr);
  options_[num_options_] = {};

  unsigned version = 0;
  if (environment(RETRO_ENVIRONMENT_GET_CORE_OPTIONS_VERSION, &version) && version >= 2) {
    retro_core_options_v2 all = {no_categories_, options_};
    environment(RETRO_ENVIRONMENT_SET_CORE_OPTIONS_V2, &all);
  } else {
    declare_old(environment);
  }
}

// The older call takes a line an option, the default first.
void Options::declare_old(retro_environment_t environment) {
  retro_variable variables[kMostOptions + 1] = {};
  for (int i = 0; i < num_options_; i++) {
    const retro_core_option_v2_definition& option = options_[i];
    const size_t size = sizeof lines_[i];
    size_t used =
        static_cast<size_t>(std::snprintf(lines_[i], size, "%s; %s", option.desc, option.default_value));
    for (const retro_core_option_value* value = option.values; value->value != nullptr; value++) {
      if (std::strcmp(value->value, option.default_value) == 0) continue;
      if (used + std::strlen(value->value) + 2 > size) break;
      used += static_cast<size_t>(std::snprintf(lines_[i] + used, size - used, "|%s", value->value));
    }
    variables[i] = {option.key, lines_[i]};
  }
  environment(RETRO_ENVIRONMENT_SET_VARIABLES, variables);
}

Settings Options::read(retro_environment_t environment) const {
  Settings settings;
  if (const char* value = chosen(environment, kPrecision)) {
    if (std::strcmp(value, "int8") == 0) settings.precision = GRT_PRECISION_INT8;
    if (std::strcmp(value, "fp32") == 0) settings.precision = GRT_PRECISION_FLOAT32;
  }
  settings.num_threads = chosen_number(environment, kThreads, settings.num_threads);
  const int32_t fps = chosen_number(environment, kFps, settings.fps);
  if (fps > 0 && 60 % fps == 0) settings.fps = fps;
  const int32_t scale = chosen_number(environment, kScale, settings.scale);
  if (scale >= 1 && scale <= 8) settings.scale = scale;
  settings.prompt = chosen_number(environment, kPrompt, settings.prompt);
  settings.seed = static_cast<uint64_t>(chosen_number(environment, kSeed, 0));
  if (const char* value = chosen(environment, kPlan)) {
    std::snprintf(settings.plan, sizeof settings.plan, "%s", value);
  }
  return settings;
}

}  // namespace genie
