// How much memory a bundle may ask for: a small file may not claim sizes that take gigabytes.
#pragma once

#include "bundle/config.hpp"
#include "support/error.hpp"

namespace grt {

// Whether a session of a model takes no more than so many bytes of weights warrant, as Python's
// runtime/memory_bound.py counts it. `passes` is the most that a plan has; `file` is for the message.
[[nodiscard]] bool check_memory(const ModelConfig& config, uint64_t weight_bytes, const char* file,
                                int32_t passes, Error& error);

}  // namespace grt
