#include "bundle/read_config.hpp"

#include "bundle/plan.hpp"

namespace grt {

namespace {

bool read_transformer(const Reading& reading, JsonValue value, const Place& place,
                      TransformerConfig& config) {
  const Object object(reading, value, place);
  return object.has_only({"num_layers", "width", "num_heads", "head_width", "mlp_width", "window"}) &&
         object.whole("num_layers", 1, 512, config.num_layers) &&
         object.whole("width", 1, 65536, config.width) &&
         object.whole("num_heads", 1, 1024, config.num_heads) &&
         object.whole("head_width", 1, 1024, config.head_width) &&
         object.whole("mlp_width", 1, 262144, config.mlp_width) &&
         object.whole("window", 1, 4096, config.window);
}

// The transformer under a key of an object.
bool read_transformer_at(const Reading& reading, const Object& object, const char* key,
                         TransformerConfig& config) {
  JsonValue value;
  return object.object(key, value) && read_transformer(reading, value, object.at(key), config);
}

bool read_tokenizer(const Reading& reading, JsonValue value, const Place& place, TokenizerConfig& config) {
  const Object object(reading, value, place);
  return object.has_only({"height", "width", "patch", "decoder_patch", "codebook_size", "codebook_dim",
                          "encoder", "decoder"}) &&
         object.whole("height", 1, 8192, config.height) && object.whole("width", 1, 8192, config.width) &&
         object.whole("patch", 1, 256, config.patch) &&
         object.whole("decoder_patch", 1, 256, config.decoder_patch) &&
         object.whole("codebook_size", 1, 65536, config.codebook_size) &&
         object.whole("codebook_dim", 1, 4096, config.codebook_dim) &&
         read_transformer_at(reading, object, "encoder", config.encoder) &&
         read_transformer_at(reading, object, "decoder", config.decoder);
}

bool read_dynamics(const Reading& reading, JsonValue value, const Place& place, DynamicsConfig& config) {
  const Object object(reading, value, place);
  return object.has_only({"transformer", "num_actions", "merge", "embedding_dim", "tie_codebook",
                          "previous_token", "copy_logit"}) &&
         read_transformer_at(reading, object, "transformer", config.transformer) &&
         object.whole("num_actions", 1, 4096, config.num_actions) &&
         object.whole("merge", 1, 16, config.merge, false) &&
         object.whole("embedding_dim", 1, 65536, config.embedding_dim, false) &&
         object.truth("tie_codebook", config.tie_codebook) &&
         object.truth("previous_token", config.previous_token) &&
         object.truth("copy_logit", config.copy_logit);
}

// The paper's latent action model, of which play needs nothing but that its codebook is stored.
bool read_lam(const Reading& reading, JsonValue value, const Place& place, int32_t& num_actions,
              int32_t& dim) {
  const Object object(reading, value, place);
  int32_t patch = 0, kind = 0, inputs = 0;
  TransformerConfig side;
  return object.has_only({"patch", "num_actions", "codebook_dim", "encoder", "decoder", "inputs", "kind"}) &&
         object.whole("patch", 1, 256, patch) && object.whole("num_actions", 1, 4096, num_actions) &&
         object.whole("codebook_dim", 1, 4096, dim) &&
         read_transformer_at(reading, object, "encoder", side) &&
         read_transformer_at(reading, object, "decoder", side) &&
         object.choice("inputs", {"pixels", "tokens"}, inputs) && object.choice("kind", {"st"}, kind);
}

bool read_conv_lam(const Reading& reading, JsonValue value, const Place& place, int32_t& num_actions,
                   int32_t& dim) {
  const Object object(reading, value, place);
  int32_t past_frames = 2, width = 32, bottleneck = 0, kind = 0;
  dim = 8;
  if (!object.has_only({"num_actions", "past_frames", "width", "bottleneck", "vq_dim", "kind"}) ||
      !object.whole("num_actions", 1, 4096, num_actions) ||
      !object.whole("past_frames", 1, 64, past_frames, false) ||
      !object.whole("width", 1, 4096, width, false) ||
      !object.choice("bottleneck", {"fsq", "lfq", "vq"}, bottleneck) ||
      !object.whole("vq_dim", 1, 4096, dim, false) || !object.choice("kind", {"conv"}, kind)) {
    return false;
  }
  if (bottleneck == 2) return true;  // "vq"
  if (num_actions < 2 || (num_actions & (num_actions - 1)) != 0) {
    return object.refuse("num_actions", "2, 4, 8, ... for a bottleneck of signs", value.get("num_actions"));
  }
  for (dim = 0; num_actions >> dim > 1;) dim++;  // a bit of the action each
  return true;
}

}  // namespace

bool read_config(const Reading& reading, JsonValue value, const Place& place, ModelConfig& config) {
  const Object object(reading, value, place);
  JsonValue tokenizer, dynamics, lam;
  if (!object.has_only({"tokenizer", "dynamics", "lam"}) || !object.object("tokenizer", tokenizer) ||
      !read_tokenizer(reading, tokenizer, object.at("tokenizer"), config.tokenizer) ||
      !object.object("dynamics", dynamics) ||
      !read_dynamics(reading, dynamics, object.at("dynamics"), config.dynamics) ||
      !object.object("lam", lam, false)) {
    return false;
  }
  const int32_t num_actions = config.dynamics.num_actions;
  if (lam.exists()) {
    const JsonValue kind = lam.get("kind");
    const bool is_conv = kind.is(JsonKind::kText) && kind.text().is("conv");
    int32_t latent_actions = 0;
    if (!(is_conv ? read_conv_lam : read_lam)(reading, lam, object.at("lam"), latent_actions,
                                              config.lam_codebook_dim)) {
      return false;
    }
    if (latent_actions != num_actions) {
      return reading.refuse(place,
                            "expected as many latent actions as the dynamics has actions (%d), found %d",
                            num_actions, latent_actions);
    }
  }
  const int32_t rows = config.tokenizer.rows(), columns = config.tokenizer.columns();
  const int32_t merge = config.dynamics.merge;
  if (rows % merge != 0 || columns % merge != 0) {
    return reading.refuse(place, "expected DynamicsConfig.merge to divide the token grid %dx%d, found %d",
                          rows, columns, merge);
  }
  return true;
}

bool read_plan(const Reading& reading, JsonValue value, const Place& place, const ModelConfig& config,
               Plan& plan) {
  const Object object(reading, value, place);
  int32_t order = plan.order, reuse = plan.reuse;
  if (!object.has_only({"order", "passes", "temperature", "noise", "threshold", "reuse", "fresh"}) ||
      !object.choice("order", {"maskgit", "adaptive", "random", "halton"}, order) ||
      !object.whole("passes", 1, kMaxPasses, plan.passes, false) ||
      !object.number("temperature", 1e-6, 1e6, plan.temperature, false) ||
      !object.number("noise", 0, 1e6, plan.noise, false) ||
      !object.number("threshold", 1e-9, 1, plan.threshold, false) ||
      !object.choice("reuse", {"none", "passes", "frames"}, reuse) ||
      !object.number("fresh", 1e-9, 1, plan.fresh, false)) {
    return false;
  }
  plan.order = static_cast<grt_order>(order);
  plan.reuse = static_cast<grt_reuse>(reuse);
  Error problem;
  if (check_plan(plan, problem) && check_plan_fits(plan, config, problem)) return true;
  return reading.refuse(place, "%s", problem.message);
}

}  // namespace grt
