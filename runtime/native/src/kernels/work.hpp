// What the kernels work on: the frames of an evaluation of a transformer, cut into tasks by positions.
#pragma once

#include "kernels/weights.hpp"

namespace grt {

inline constexpr int32_t kTileRows = 64;  // computed together, of all frames of an evaluation

// Memory of one task.
struct Scratch {
  void* quantised = nullptr;     // [kTileRows, widest input]
  void* quantised2 = nullptr;    // [kTileRows, F]
  float* steps = nullptr;        // [kTileRows], of rows in int16
  float* normed = nullptr;       // [kTileRows, widest input]
  float* projected = nullptr;    // [kTileRows, widest output but F]
  float* attended = nullptr;     // [kTileRows, H head_stride]
  float* hidden = nullptr;       // [kTileRows, F]
  float* scores = nullptr;       // [8, max(P, V) padded, 2], or what a row's temporal attention needs
  const float** ages = nullptr;  // [2 W]: keys and values of a row, by age
  bool bad = false;              // a number was not finite
};

// One frame in an evaluation.
struct FrameWork {
  float* x = nullptr;  // [rows, D]
  int32_t rows = 0;
  const int32_t* index = nullptr;  // [rows]: their positions; null: 0, 1, 2 ...
  float* queries = nullptr;        // [rows, H head_stride], of spatial attention
  float* keys = nullptr;           // [sets, H head_stride, P padded]: spatial keys, transposed
  float* values = nullptr;         // [sets, P, H head_stride]
  // With integer_attention the three hold int16 in their place: queries as they are, keys [sets, H
  // head_stride / 2, P padded, 2], values [sets, P padded / 2, H head_stride, 2]; and these the size of a
  // step for every head.
  float* query_steps = nullptr;        // [rows, H]
  float* key_steps = nullptr;          // [sets, H, P padded]
  float* value_steps = nullptr;        // [sets, H, P padded]
  int32_t sets = 2;                    // 2: layers take turns; L: kept layer by layer
  const float* const* past = nullptr;  // [num_past] pages, newest first
  int32_t num_past = 0;
  float* page = nullptr;       // gets the new temporal keys and values; null: they are not kept
  bool for_page_only = false;  // a commit: nothing else is wanted of it

  int32_t position(int32_t row) const { return index == nullptr ? row : index[row]; }
};

// One evaluation. Task i of n computes rows [R i / n, R (i + 1) / n) of each frame. Where there are two
// frames, the second looks back at the page of the first, position by position, so both need the same rows.
struct Work {
  const Transformer* transformer = nullptr;
  FrameWork frames[2];
  int32_t num_frames = 1, num_tasks = 1;
  Scratch* scratch = nullptr;  // [num_tasks]
};

inline int32_t first_row(int32_t rows, int32_t task, int32_t num_tasks) {
  return static_cast<int32_t>(int64_t{rows} * task / num_tasks);
}

// Sampling in a pass.
struct SampleWork {
  const DynamicsEnds* ends = nullptr;
  const int32_t* tokens = nullptr;    // [N], before the pass; only masked ones are sampled
  const int32_t* previous = nullptr;  // [N]
  const float* u = nullptr;           // [N]
  float inverse_temperature = 1;
  int32_t* candidates = nullptr;  // [N]
  float* probability = nullptr;   // [N]
  float* logits = nullptr;        // [N, V], of all tokens, or null
};

// A pass's tokens on their way in.
struct EmbedWork {
  const DynamicsEnds* ends = nullptr;
  const int32_t* tokens = nullptr;    // [N]
  const int32_t* previous = nullptr;  // [N]
  int32_t action = 0;                 // the row of `action`
};

// The kernels of one instruction set. All of them compute task `task` of `work`.
struct Kernels {
  // Tokens of `frame` to its x.
  void (*embed)(const Work& work, int32_t task, int32_t frame, const EmbedWork& embed);
  // Tokens to the decoder's x.
  void (*embed_decoder)(const Work& work, int32_t task, const DecoderEnds& ends, const int32_t* tokens);
  // A picture [height, width, 3] to the encoder's x.
  void (*embed_encoder)(const Work& work, int32_t task, const EncoderEnds& ends, const uint8_t* picture);
  // Spatial queries, keys and values of the first layer.
  void (*begin)(const Work& work, int32_t task);
  // Layer `layer`, and the spatial queries, keys and values of the next; after the last one, the last norm.
  // All tasks have to be done with the layer before.
  void (*layer)(const Work& work, int32_t task, int32_t layer);
  // Samples from the output of `frame`.
  void (*sample)(const Work& work, int32_t task, int32_t frame, const SampleWork& sample);
  // The decoder's output to a picture [frame_height, frame_width, 3].
  void (*paint)(const Work& work, int32_t task, const DecoderEnds& ends, uint8_t* picture);
  // y [count, out] of x [count, in], for a linear in float.
  void (*multiply)(const Linear& linear, const float* x, int32_t count, float* y);
  // The encoder's output to tokens [N].
  void (*quantise)(const Work& work, int32_t task, const EncoderEnds& ends, int32_t* tokens);
};

}  // namespace grt
