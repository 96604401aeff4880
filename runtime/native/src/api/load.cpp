// grt_world_load, grt_world_load_memory, grt_bundle_inspect.

#include "api/call.hpp"
#include "api/world.hpp"
#include "support/file.hpp"

#if defined(GRT_WITH_ONNXRUNTIME)
#include "onnxruntime/engine.hpp"
#endif

namespace grt {
namespace {

bool check_number(const char* name, int32_t value, int32_t most, Error& error) {
  if (value >= 0 && value <= most) return true;
  return error.fail(GRT_ERROR_INPUT, "params.%s: expected a number from 0 to %d, found %d", name, most,
                    value);
}

bool read_params(const grt_world_params* given, grt_world_params& params, Allocator& allocator,
                 Error& error) {
  grt_world_params_init(&params);
  if (given == nullptr) return true;
  if (!read_struct(given, params, "params", "grt_world_params", error) ||
      !check_number("precision", number_of(params.precision), GRT_PRECISION_INT8, error) ||
      !check_number("instructions", number_of(params.instructions), GRT_INSTRUCTIONS_WASM, error) ||
      !check_number("engine", number_of(params.engine), GRT_ENGINE_ONNXRUNTIME, error)) {
    return false;
  }
  if (params.allocator == nullptr) return true;
  grt_allocator hooks = {};
  if (!read_struct(params.allocator, hooks, "params.allocator", "grt_allocator", error)) return false;
  if (hooks.allocate == nullptr || hooks.release == nullptr) {
    return error.fail(GRT_ERROR_INPUT,
                      "params.allocator: expected both allocate and release, found %s NULL; leave the "
                      "allocator NULL for malloc and free",
                      hooks.allocate == nullptr ? "allocate" : "release");
  }
  allocator = Allocator(hooks);
  return true;
}

bool has_int8(const Manifest& manifest, grt_engine engine) {
#if defined(GRT_WITH_ONNXRUNTIME)
  if (engine == GRT_ENGINE_ONNXRUNTIME) return has_graphs(manifest, true);
#endif
  static_cast<void>(engine);
  return manifest.int8_limits.size() > 0;
}

bool make_engine(grt_world& world, const Files& files, const grt_world_params& params, Error& error) {
  const bool can_int8 = has_int8(world.manifest(), params.engine);
  if (params.precision == GRT_PRECISION_INT8 && !can_int8) {
    return error.fail(GRT_ERROR_UNSUPPORTED,
                      "params.precision: expected a bundle that can be played in int8, found %s, which does "
                      "not say how; export it again, or take GRT_PRECISION_FLOAT32",
                      world.manifest().name);
  }
  const bool int8 = can_int8 && params.precision != GRT_PRECISION_FLOAT32;
  world.precision = int8 ? GRT_PRECISION_INT8 : GRT_PRECISION_FLOAT32;
  if (params.engine == GRT_ENGINE_ONNXRUNTIME) {
#if defined(GRT_WITH_ONNXRUNTIME)
    world.engine = make_onnxruntime_engine(files, world.bundle, int8, params, world.allocator, error);
#else
    static_cast<void>(files);
    return error.fail(
        GRT_ERROR_UNSUPPORTED,
        "params.engine: expected GRT_ENGINE_NATIVE: this library is built without ONNX Runtime");
#endif
  } else {
    world.engine = make_native_engine(world.bundle, int8, params.instructions, world.executor->width(),
                                      world.allocator, error);
    world.bundle.drop_weights();
  }
  return world.engine != nullptr;
}

void log_loaded(const grt_world& world, const grt_world_params& params) {
  if (params.log == nullptr) return;
  char message[160];
  std::snprintf(message, sizeof message, "loaded %s: %s, instructions %d, %d threads, %zu bytes of weights",
                world.manifest().name, world.precision == GRT_PRECISION_INT8 ? "int8" : "float32",
                static_cast<int>(world.engine->instructions()), world.executor->width(),
                world.engine->weight_bytes());
  params.log(params.log_user, GRT_LOG_INFO, message);
}

bool fill_world(grt_world& world, const Files& files, const grt_world_params& params, Error& error) {
  const Progress progress{params.progress, params.progress_user};
  if (!Bundle::open(files, world.allocator, world.bundle, error, progress)) return false;
  const FileRecord* weights = world.manifest().find_file("weights.safetensors");
  if (weights == nullptr) {
    return error.fail(GRT_ERROR_BUNDLE, "bundle.json: expected weights.safetensors among the files");
  }
  std::memcpy(world.weights_digest, weights->sha256, sizeof world.weights_digest);
  world.executor = Executor::create(params, world.allocator, error);
  return world.executor != nullptr && world.pools.create(world.config(), world.allocator, error) &&
         make_engine(world, files, params, error);
}

// `open(allocator, files, error)` opens the bundle's files.
template <typename Open>
grt_status load(const grt_world_params* given, grt_world** out, grt_error* error, Open open) {
  if (out != nullptr) *out = nullptr;
  return call(error, [&](Error& e) {
    if (out == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "world: expected a place for the new world, found NULL");
    }
    grt_world_params params;
    Allocator allocator;
    Files files;
    if (!read_params(given, params, allocator, e) || !open(allocator, files, e)) return false;
    grt_world* world = make<grt_world>(allocator, e);
    if (world == nullptr) return false;
    world->allocator = allocator;
    if (!fill_world(*world, files, params, e)) {
      let_go(world);
      return false;
    }
    log_loaded(*world, params);
    *out = world;
    return true;
  });
}

bool open_folder(const char* folder, const Allocator& allocator, Files& files, Error& error) {
  if (folder == nullptr) return error.fail(GRT_ERROR_INPUT, "folder: expected that of a bundle, found NULL");
  return Files::open_folder(folder, allocator, files, error);
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_world_load(const char* folder, const grt_world_params* params, grt_world** world,
                          grt_error* error) {
  return load(params, world, error, [&](const Allocator& allocator, Files& files, Error& e) {
    return open_folder(folder, allocator, files, e);
  });
}

grt_status grt_world_load_memory(const grt_file* files, size_t num_files, const grt_world_params* params,
                                 grt_world** world, grt_error* error) {
  return load(params, world, error, [&](const Allocator& allocator, Files& opened, Error& e) {
    if (files == nullptr || num_files == 0) {
      return e.fail(GRT_ERROR_INPUT, "files: expected those of a bundle, found none");
    }
    for (size_t i = 0; i < num_files; i++) {
      if (files[i].name == nullptr || (files[i].data == nullptr && files[i].size > 0)) {
        return e.fail(GRT_ERROR_INPUT, "files[%zu]: expected a name and data, found %s NULL", i,
                      files[i].name == nullptr ? "name" : "data");
      }
    }
    return Files::over_memory(files, num_files, allocator, opened, e);
  });
}

grt_status grt_bundle_inspect(const char* folder, grt_world_info* info, grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_struct(info, "info", "grt_world_info", e)) return false;
    const Allocator allocator;
    Files files;
    Manifest manifest;
    if (!open_folder(folder, allocator, files, e) || !read_manifest(files, allocator, manifest, e)) {
      return false;
    }
    grt_world_info value;
    grt_world_info_init(&value);
    describe(manifest, value);
    write_struct(info, value);
    return true;
  });
}
