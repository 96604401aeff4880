// The memory of one session of the engine of ONNX Runtime. What ONNX Runtime takes in a run is its own.
#pragma once

#include "engine/engine.hpp"
#include "onnxruntime/page_map.hpp"
#include "onnxruntime/run.hpp"
#include "support/arena.hpp"

namespace grt {

// Sizes that a workspace follows from.
struct WorkspaceSizes {
  ModelConfig config;
  PageMap dynamics, decoder;
  size_t most_inputs = 1;   // of any graph
  int32_t most_passes = 1;  // of any frame graph
};

class OrtWorkspace final : public Workspace {
 public:
  explicit OrtWorkspace(const Allocator& allocator) : arena(allocator) {}

  [[nodiscard]] bool create(const WorkspaceSizes& sizes, Error& error);

  Arena arena;
  OrtValue** inputs = nullptr;  // of a run
  // As graphs take and give them: [N] each
  int64_t *wide_tokens = nullptr, *wide_previous = nullptr, *wide_candidates = nullptr, *wide_order = nullptr;
  int64_t* wide_index = nullptr;          // positions, [P]
  float* sampled = nullptr;               // probabilities in the order in which a graph gives them, [N]
  float *u = nullptr, *gumbel = nullptr;  // [K, N]
  float* confidence = nullptr;            // [N]
  float* probability = nullptr;           // by token, [N]
  int32_t* tokens = nullptr;              // of the new frame, [N] each
  int32_t *candidates = nullptr, *places = nullptr, *sorted = nullptr, *order = nullptr;
  int32_t* index = nullptr;          // positions, [P]
  uint64_t* sort_keys = nullptr;     // [N]
  float* change = nullptr;           // [P]
  uint8_t* picture = nullptr;        // [frame_height, frame_width, 3]
  const float** past = nullptr;      // pages of the dynamics that passes look back at
  const float** own_past = nullptr;  // those of the encoder, of the decoder, or of a commit
  Page **new_dynamics = nullptr, **new_decoder = nullptr;  // of a prompt
  // Pages as graphs have them.
  float* encoder_pages = nullptr;  // [W] of the encoder, in turn
  float* around[2] = {};           // spatial keys and values, in turn
  // The same for copies, where pages have padding: null where they have not.
  float *past_copies = nullptr, *decoder_copies = nullptr;  // [W - 1] each
  float *page_copy = nullptr, *decoder_copy = nullptr;
};

}  // namespace grt
