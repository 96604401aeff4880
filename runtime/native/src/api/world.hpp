// A world: what all its sessions share. It never changes, but for its pools.
#pragma once

#include <atomic>

#include "api/snapshot.hpp"
#include "bundle/bundle.hpp"
#include "engine/engine.hpp"

struct grt_world {
  grt::Allocator allocator;
  std::atomic<int32_t> holders{1};
  grt::Bundle bundle;  // without its weights
  grt::Pools pools;
  grt::Executor* executor = nullptr;
  grt::Engine* engine = nullptr;
  grt_precision precision = GRT_PRECISION_FLOAT32;
  uint8_t weights_digest[32] = {};  // sha256 of weights.safetensors: what save states are of
  grt::SnapshotShelf shelf;

  ~grt_world();

  const grt::Manifest& manifest() const { return bundle.manifest; }
  const grt::ModelConfig& config() const { return bundle.manifest.config; }
  int32_t num_actions() const { return static_cast<int32_t>(bundle.manifest.actions.size()); }
  int32_t num_tokens() const { return config().tokenizer.num_tokens(); }
  int32_t frame_width() const { return config().tokenizer.frame_width(); }
  int32_t frame_height() const { return config().tokenizer.frame_height(); }
};

namespace grt {

void hold(grt_world* world);
// Destroys a world that nobody holds any more.
void let_go(grt_world* world);

// The action of the dynamics behind an action's place among the names.
[[nodiscard]] bool find_code(const grt_world& world, int32_t action, int32_t& code, Error& error);

// The RGB pixels of a picture of the bundle.
[[nodiscard]] bool find_prompt(const grt_world& world, int32_t prompt, const uint8_t*& picture, Error& error);

// Whether `frame`, unless it is null, can hold a frame. `checked.pixels` is null if there is none.
[[nodiscard]] bool check_frame(const grt_world& world, const grt_image* frame, const char* parameter,
                               grt_image& checked, Error& error);
void write_frame(const grt_world& world, const grt_image& checked, const Row& row);

// What a bundle says of itself.
void describe(const Manifest& manifest, grt_world_info& info);
// What is known once it is loaded.
void describe_loaded(const grt_world& world, grt_world_info& info);

}  // namespace grt
