// The parts of bundle.json that are not about files: sizes of the model and plans.
#pragma once

#include "bundle/bundle.hpp"
#include "bundle/object.hpp"

namespace grt {

[[nodiscard]] bool read_config(const Reading& reading, JsonValue value, const Place& place,
                               ModelConfig& config);

[[nodiscard]] bool read_plan(const Reading& reading, JsonValue value, const Place& place,
                             const ModelConfig& config, Plan& plan);

}  // namespace grt
