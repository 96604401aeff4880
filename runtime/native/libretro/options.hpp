// The core's options: what the frontend's menu shows, and what the player chose there.
#pragma once

#include <cstdint>

#include "genie_rt.h"
#include "libretro_abi.h"

namespace genie {

struct Settings {
  grt_precision precision = GRT_PRECISION_AUTO;
  int32_t num_threads = 0;
  int32_t fps = 15;  // steps of the world in a second
  int32_t scale = 1;
  int32_t prompt = 0;
  uint64_t seed = 0;
  char plan[72] = "default";
};

class Options {
 public:
  // Tells the frontend what can be chosen. Without a world plan and prompt are left out, since their values
  // are the bundle's.
  void declare(retro_environment_t environment, const grt_world* world);

  // What is chosen now. A value that the frontend does not have is the default.
  Settings read(retro_environment_t environment) const;

 private:
  static constexpr int kMostOptions = 8;
  static constexpr int kMostValues = RETRO_NUM_CORE_OPTION_VALUES_MAX - 1;

  retro_core_option_v2_definition* add(const char* key, const char* name, const char* info,
                                       const char* default_value);
  static void add_value(retro_core_option_v2_definition* option, const char* value, const char* label);
  void declare_old(retro_environment_t environment);

  retro_core_option_v2_definition options_[kMostOptions + 1] = {};
  retro_core_option_v2_category no_categories_[1] = {};
  int num_options_ = 0;
  char numbers_[kMostValues][4] = {};    // "0", "1", ...
  char lines_[kMostOptions][1024] = {};  // for frontends without the newer call
};

}  // namespace genie
