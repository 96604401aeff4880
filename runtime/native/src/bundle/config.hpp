// Sizes of a model and how a frame is decoded, as bundle.json has them; docs/model.md explains each.
#pragma once

#include <cstdint>

#include "genie_rt.h"

namespace grt {

struct TransformerConfig {
  int32_t num_layers = 0, width = 0, num_heads = 0, head_width = 0, mlp_width = 0, window = 0;

  int32_t attention_width() const { return num_heads * head_width; }
};

struct TokenizerConfig {
  int32_t height = 0, width = 0, patch = 0, decoder_patch = 0, codebook_size = 0, codebook_dim = 0;
  TransformerConfig encoder, decoder;

  int32_t rows() const { return (height + patch - 1) / patch; }
  int32_t columns() const { return (width + patch - 1) / patch; }
  int32_t num_tokens() const { return rows() * columns(); }
  int32_t frame_height() const { return (height * decoder_patch + patch - 1) / patch; }
  int32_t frame_width() const { return (width * decoder_patch + patch - 1) / patch; }
};

struct DynamicsConfig {
  TransformerConfig transformer;
  int32_t num_actions = 0, merge = 1, embedding_dim = 64;
  bool tie_codebook = true, previous_token = true, copy_logit = true;

  int32_t slots() const { return merge * merge; }
};

struct ModelConfig {
  TokenizerConfig tokenizer;
  DynamicsConfig dynamics;
  int32_t lam_codebook_dim =
      0;  // of the latent actions' codebook, which play does not need; 0: there is none

  int32_t num_positions() const { return tokenizer.num_tokens() / dynamics.slots(); }
};

// The values of grt_plan, checked.
struct Plan {
  grt_order order = GRT_ORDER_MASKGIT;
  grt_reuse reuse = GRT_REUSE_NONE;
  int32_t passes = 25;
  double temperature = 1, noise = 1, threshold = 0.99, fresh = 0.75;
};

}  // namespace grt
