// The memory of one session of the native engine.
#pragma once

#include "engine/engine.hpp"
#include "engine/packing.hpp"

namespace grt {

// The buffers of one frame in an evaluation, large enough for any of the three transformers.
struct FrameBuffers {
  float *x = nullptr, *queries = nullptr, *keys = nullptr, *values = nullptr;
  float *query_steps = nullptr, *key_steps = nullptr, *value_steps = nullptr;
  const float** past = nullptr;
};

class NativeWorkspace final : public Workspace {
 public:
  explicit NativeWorkspace(const Allocator& allocator) : arena(allocator) {}

  [[nodiscard]] bool create(const PackedModel& model, int32_t width, Error& error);

  Arena arena;
  FrameBuffers frames[2];          // the frame that is committed, and the new one
  Scratch* scratch = nullptr;      // [width]
  float* encoder_pages = nullptr;  // [window, page] of the encoder, in turn
  int32_t* tokens = nullptr;       // [N] each
  int32_t* sampled = nullptr;      // masked where the pass samples
  int32_t* candidates = nullptr;
  int32_t* places = nullptr;
  int32_t* sorted = nullptr;
  int32_t* order = nullptr;
  int32_t* index = nullptr;  // positions
  uint64_t* sort_keys = nullptr;
  float *probability = nullptr, *u = nullptr, *confidence = nullptr;
  float* change = nullptr;  // [P]
  uint8_t* picture = nullptr;
  Page** new_dynamics = nullptr;  // of a prompt
  Page** new_decoder = nullptr;
};

}  // namespace grt
