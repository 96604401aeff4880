// What bundle.json says of files: records of all of them, the graphs, and limits for int8.
#pragma once

#include "bundle/bundle.hpp"
#include "bundle/object.hpp"

namespace grt {

inline constexpr char kManifestFile[] = "bundle.json";
inline constexpr char kWeightsFile[] = "weights.safetensors";
inline constexpr uint64_t kMaxTotalBytes = uint64_t{64} << 30;
inline constexpr uint32_t kMaxFiles = 1024, kMaxPlans = 64, kMaxNamedActions = 4096;

// Fills `files` and `prompts`.
[[nodiscard]] bool read_files(const Reading& reading, JsonValue value, const Place& place,
                              const Allocator& allocator, Manifest& manifest);

// Checks the graphs against files and plans, which have been read. `value` may be absent.
[[nodiscard]] bool read_graphs(const Reading& reading, JsonValue value, const Place& place,
                               const Manifest& manifest);

[[nodiscard]] bool read_int8(const Reading& reading, JsonValue value, const Place& place,
                             const Allocator& allocator, Manifest& manifest);

bool is_prompt(const char* name);

}  // namespace grt
