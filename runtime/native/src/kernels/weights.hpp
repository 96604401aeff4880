// Weights as the kernels read them, and the shapes of what they work on. Made once by engine/packing.cpp.
//
// Widths are padded: D, F and table widths to multiples of 16, head widths to `head_stride`, with zeros that
// change nothing. A *panel* is 64 columns of a product (fewer, but a multiple of 16, at the end), stored
// together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt {

inline constexpr int32_t kPanel = 64;

// How a linear is computed.
//
// kInt8: inputs are rounded to 255 steps up to a limit that the bundle has, weights to 255 steps a row.
// kInt16: the linears of an int8 world that the bundle has no limit of. Weights are rounded to 8191 steps a
// row, and inputs to as many steps up to the largest of their row as cannot overflow a sum; that is as good
// as float for them, exact in the integers like kInt8, and twice as fast.
enum class Format : int32_t { kFloat, kInt8, kInt16 };

inline constexpr int32_t kMostWeight16 = 4095;

// y = x W^T, [rows, in] to [rows, out], both padded.
struct Linear {
  int32_t in = 0, out = 0;
  Format format = Format::kFloat;
  const void* weights =
      nullptr;  // panels [in][columns] of float, [in / 4][columns][4] of int8, [in / 2][columns][2] of int16
  const float* scale =
      nullptr;  // [out], integers: column j of the product, times this and the input's step, is y
  const int32_t* offset =
      nullptr;             // [out], int8: -128 times the column's sum, for kernels whose inputs are 0 ... 255
  float inverse_step = 1;  // int8: inputs are rounded times this; `scale` includes the step
  float most = 0;          // int16: the largest magnitude of a rounded input
};

// Norms before a linear are multiplied by its inverse_step.
struct Attention {
  const float* norm = nullptr;    // [D]
  Linear qkv;                     // out 3 H head_stride
  const float* q_norm = nullptr;  // [head_stride], times Dh^-1/2
  const float* k_norm = nullptr;
  Linear out;
};

struct Block {
  Attention spatial, temporal;
  const float* age_bias = nullptr;  // [H, W]
  const float* mlp_norm = nullptr;
  Linear up, down;
};

struct Transformer {
  int32_t num_layers = 0, num_heads = 0, head_width = 0, head_stride = 0, window = 0;
  int32_t positions = 0, width = 0;         // P, and D before padding
  int32_t padded_width = 0, attention = 0;  // D padded; H head_stride
  int32_t mlp = 0;                          // F padded
  bool integer_attention = false;           // spatial attention in int16, as the linears that have no limit
  const Block* blocks = nullptr;            // [L]
  const float* norm = nullptr;              // [D], after the last block

  int32_t padded_positions() const { return (positions + 15) / 16 * 16; }
  size_t page_floats() const { return size_t{2} * num_layers * positions * attention; }
};

// The ends of the dynamics.
struct DynamicsEnds {
  int32_t num_tokens = 0, slots = 0, codebook_size = 0;
  int32_t embedding = 0;              // E padded
  const int32_t* members = nullptr;   // [P, S]: the tokens of every position
  const float* token_rows = nullptr;  // [S, V + 1, D]: what a token in a slot adds to x; the last row is MASK
  const float* previous_rows = nullptr;  // [S, V, D]: what the last frame's token adds at a MASK; or null
  const float* position = nullptr;       // [P, D]
  const float* action = nullptr;         // [A + 1, D]
  Linear token_out;                      // out S E, then S copy terms where there are any
  Linear head;                           // [E] to [V]: the table times E^-1/2; V padded
  bool copies = false;
  float copy_logit = 0;
};

struct DecoderEnds {
  const float* token_rows = nullptr;  // [V, D]
  const float* position = nullptr;    // [N, D]
  Linear patch_out;                   // out 3 q^2
  int32_t columns = 0, patch = 0;     // of the grid; q
  int32_t frame_height = 0, frame_width = 0;
};

struct EncoderEnds {
  Linear patch_in, code_in;
  const float* position = nullptr;  // [N, D]
  Linear codes;                     // [d] to [V]: unit vectors
  int32_t rows = 0, columns = 0, patch = 0, height = 0, width = 0, codebook_size = 0;
};

}  // namespace grt
