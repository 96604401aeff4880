// grt_get_version, grt_status_name, and what is said of bundles and worlds.

#include "api/call.hpp"
#include "api/save.hpp"
#include "api/session.hpp"
#include "api/world.hpp"

#if defined(__clang__)
#define GRT_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define GRT_COMPILER "gcc " __VERSION__
#else
#define GRT_COMPILER "another compiler"
#endif

#if defined(__x86_64__)
#define GRT_SETS "x86_64: scalar, sse4, avx2, avx512"
#elif defined(__aarch64__)
#define GRT_SETS "aarch64: scalar, neon, neon_dot"
#elif defined(__wasm__)
#define GRT_SETS "wasm32: scalar, wasm"
#else
#define GRT_SETS "scalar"
#endif

#if defined(GRT_WITH_ONNXRUNTIME)
#define GRT_ENGINES "engines native, onnxruntime"
#else
#define GRT_ENGINES "engine native"
#endif

namespace grt {

void describe(const Manifest& manifest, grt_world_info& info) {
  const ModelConfig& config = manifest.config;
  const TokenizerConfig& tokenizer = config.tokenizer;
  std::snprintf(info.name, sizeof info.name, "%s", manifest.name);
  info.prompt_width = tokenizer.width;
  info.prompt_height = tokenizer.height;
  info.frame_width = tokenizer.frame_width();
  info.frame_height = tokenizer.frame_height();
  info.num_actions = static_cast<int32_t>(manifest.actions.size());
  info.default_action = manifest.default_action;
  info.num_plans = static_cast<int32_t>(manifest.plans.size());
  info.num_prompts = static_cast<int32_t>(manifest.prompts.size());
  info.num_tokens = tokenizer.num_tokens();
  info.codebook_size = tokenizer.codebook_size;
  info.window = config.dynamics.transformer.window;
  info.has_int8 = manifest.int8_limits.size() > 0;
  info.page_bytes = frame_bytes(config);
}

void describe_loaded(const grt_world& world, grt_world_info& info) {
  info.precision = world.precision;
  info.instructions = world.engine->instructions();
  info.num_threads = world.executor->width();
  info.weight_bytes = world.engine->weight_bytes();
  info.session_bytes = session_bytes(world);
}

}  // namespace grt

using namespace grt;

grt_status grt_get_version(grt_version* version, grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_struct(version, "version", "grt_version", e)) return false;
    grt_version value;
    grt_version_init(&value);
    value.major = GRT_VERSION_MAJOR;
    value.minor = GRT_VERSION_MINOR;
    value.patch = GRT_VERSION_PATCH;
    value.snapshot_version = kSaveVersion;
    value.build = GRT_COMPILER "; " GRT_SETS "; " GRT_ENGINES;
    write_struct(version, value);
    return true;
  });
}

const char* grt_status_name(grt_status status) {
  switch (number_of(status)) {
    case GRT_OK:
      return "GRT_OK";
    case GRT_ERROR_CONFIG:
      return "GRT_ERROR_CONFIG";
    case GRT_ERROR_BUNDLE:
      return "GRT_ERROR_BUNDLE";
    case GRT_ERROR_UNSUPPORTED:
      return "GRT_ERROR_UNSUPPORTED";
    case GRT_ERROR_STATE:
      return "GRT_ERROR_STATE";
    case GRT_ERROR_DEVICE:
      return "GRT_ERROR_DEVICE";
    case GRT_ERROR_INPUT:
      return "GRT_ERROR_INPUT";
    case GRT_ERROR_OUT_OF_MEMORY:
      return "GRT_ERROR_OUT_OF_MEMORY";
    case GRT_ERROR_CANCELLED:
      return "GRT_ERROR_CANCELLED";
    case GRT_ERROR_BUSY:
      return "GRT_ERROR_BUSY";
    default:
      return "an unknown status";
  }
}
