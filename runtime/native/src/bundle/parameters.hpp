// Name and shape of every weight that a model has: see docs/model.md.
#pragma once

#include <cstdio>
#include <initializer_list>

#include "bundle/config.hpp"

namespace grt {

inline constexpr char kEncoder[] = "tokenizer.encoder";
inline constexpr char kDecoder[] = "tokenizer.decoder";
inline constexpr char kDynamics[] = "dynamics.transformer";

// Linears of a block that int8 may round, without the "PART.blocks.L." before them.
inline constexpr const char* kInt8Linears[] = {"spatial.qkv",  "spatial.out", "temporal.qkv",
                                               "temporal.out", "up",          "down"};

inline constexpr size_t kMaxParameterName = 64;

struct Parameter {
  char name[kMaxParameterName] = {};
  int32_t rank = 0;
  int64_t shape[2] = {};
};

namespace parameters {

template <typename Visit>
class Walk {
 public:
  explicit Walk(Visit& visit) : visit_(visit) {}

  void model(const ModelConfig& config) {
    const TokenizerConfig& tokenizer = config.tokenizer;
    const DynamicsConfig& dynamics = config.dynamics;
    const int64_t tokens = tokenizer.num_tokens(), codes = tokenizer.codebook_size;
    const int64_t dim = tokenizer.codebook_dim, embedding = dynamics.embedding_dim;
    const int64_t slots = dynamics.slots(), width = dynamics.transformer.width;
    const int64_t encoder = tokenizer.encoder.width, decoder = tokenizer.decoder.width;

    one("tokenizer.patch_in.weight", {encoder, 3 * int64_t{tokenizer.patch} * tokenizer.patch});
    one("tokenizer.encoder_position", {tokens, encoder});
    transformer(kEncoder, tokenizer.encoder);
    one("tokenizer.code_in.weight", {dim, encoder});
    one("tokenizer.codebook", {codes, dim});
    one("tokenizer.code_out.weight", {decoder, dim});
    one("tokenizer.decoder_position", {tokens, decoder});
    transformer(kDecoder, tokenizer.decoder);
    one("tokenizer.patch_out.weight",
        {3 * int64_t{tokenizer.decoder_patch} * tokenizer.decoder_patch, decoder});

    if (dynamics.tie_codebook) one("dynamics.code_in.weight", {embedding, dim});
    one("dynamics.token_embedding", {codes, embedding});
    one("dynamics.mask_embedding", {embedding});
    one("dynamics.token_in.weight", {width, slots * embedding});
    if (dynamics.previous_token) one("dynamics.previous_in.weight", {width, slots * embedding});
    one("dynamics.position", {config.num_positions(), width});
    one("dynamics.action_embedding", {int64_t{dynamics.num_actions} + 1, width});
    transformer(kDynamics, dynamics.transformer);
    one("dynamics.token_out.weight", {slots * embedding, width});
    if (dynamics.copy_logit) {
      one("dynamics.copy_out.weight", {slots, width});
      one("dynamics.copy_logit", {});
    }
    if (config.lam_codebook_dim > 0) one("lam_codebook", {dynamics.num_actions, config.lam_codebook_dim});
  }

 private:
  void one(const char* name, std::initializer_list<int64_t> shape) {
    Parameter parameter;
    std::snprintf(parameter.name, sizeof parameter.name, "%s", name);
    for (const int64_t size : shape) parameter.shape[parameter.rank++] = size;
    visit_(parameter);
  }

  void transformer(const char* part, const TransformerConfig& config) {
    char name[kMaxParameterName];
    const auto add = [&](int32_t layer, const char* what, std::initializer_list<int64_t> shape) {
      std::snprintf(name, sizeof name, "%s.blocks.%d.%s", part, layer, what);
      one(name, shape);
    };
    const int64_t width = config.width, attention = config.attention_width();
    const int64_t head = config.head_width, mlp = config.mlp_width;
    for (int32_t layer = 0; layer < config.num_layers; layer++) {
      add(layer, "spatial_norm.weight", {width});
      add(layer, "spatial.q_norm", {head});
      add(layer, "spatial.k_norm", {head});
      add(layer, "spatial.qkv.weight", {3 * attention, width});
      add(layer, "spatial.out.weight", {width, attention});
      add(layer, "temporal_norm.weight", {width});
      add(layer, "temporal.q_norm", {head});
      add(layer, "temporal.k_norm", {head});
      add(layer, "temporal.age_bias", {config.num_heads, config.window});
      add(layer, "temporal.qkv.weight", {3 * attention, width});
      add(layer, "temporal.out.weight", {width, attention});
      add(layer, "mlp_norm.weight", {width});
      add(layer, "up.weight", {mlp, width});
      add(layer, "down.weight", {width, mlp});
    }
    std::snprintf(name, sizeof name, "%s.norm.weight", part);
    one(name, {width});
  }

  Visit& visit_;
};

}  // namespace parameters

// Calls visit(const Parameter&) for each.
template <typename Visit>
void for_each_parameter(const ModelConfig& config, Visit&& visit) {
  parameters::Walk<Visit> walk(visit);
  walk.model(config);
}

}  // namespace grt
