#include <algorithm>

#include "onnxruntime/check.hpp"

namespace grt {

namespace {

// Most nodes of any graph. A frame of more takes an engine hours to compile; such plans play pass by pass.
constexpr int64_t kMostNodes = 200000;

// Above what any layer, age of a layer, pass and graph has in any number format and opset.
constexpr int64_t kNodesPerLayer = 80, kNodesPerAge = 12, kNodesPerPass = 140, kNodesPerGraph = 400;

// A graph may take more than the formulas count, by this factor, and this many operations, a second or so,
// besides.
constexpr double kSlack = 4, kSpareOperations = 4e9;

// What any bundle may take besides its weights, and for each byte of its weights.
constexpr double kFreeBytes = 512.0 * (1 << 20), kBytesPerWeightByte = 16;

// One frame through a transformer, and its element-wise work.
double operations_of(const TransformerConfig& config, double positions) {
  const double attention = config.attention_width(), width = config.width, mlp = config.mlp_width;
  const double linear = 16 * width * attention + 4 * width * mlp;
  const double attended = 4 * (positions + 2.0 * config.window) * attention;
  const double others = 30 * (width + mlp + attention);
  return config.num_layers * positions * (linear + attended + others);
}

// What is before and after the transformers: patches and codes, embeddings and scores, samples.
double operations_besides(const ModelConfig& config) {
  const TokenizerConfig& tokenizer = config.tokenizer;
  const DynamicsConfig& dynamics = config.dynamics;
  const double tokens = tokenizer.num_tokens(), codes = tokenizer.codebook_size, dim = tokenizer.codebook_dim;
  const double patch = tokenizer.patch, decoder_patch = tokenizer.decoder_patch;
  const double pixels = 3 * (patch * patch + decoder_patch * decoder_patch);
  const double width = static_cast<double>(tokenizer.encoder.width) + tokenizer.decoder.width;
  double per_token = 2 * pixels * width + 2 * dim * (width + 2 * codes);
  per_token += 4.0 * dynamics.embedding_dim * (codes + dynamics.transformer.width);
  per_token += 60 * codes + 20 * pixels;
  return tokens * per_token + 8 * codes * dynamics.embedding_dim * dim;
}

}  // namespace

Limits limits_of(const ModelConfig& config, GraphKind kind, int32_t passes, uint64_t weight_bytes) {
  const double num_tokens = config.tokenizer.num_tokens(), bytes = static_cast<double>(weight_bytes);
  const bool is_frame = kind == GraphKind::kFrame;
  const int64_t count = is_frame ? passes : 1;
  Limits limits;
  limits.nodes = kNodesPerGraph + kNodesPerPass * count;
  const auto add = [&](const TransformerConfig& part, double positions, int64_t times) {
    limits.nodes += times * part.num_layers * (kNodesPerLayer + kNodesPerAge * part.window);
    limits.operations += static_cast<double>(times) * operations_of(part, positions);
  };
  if (kind == GraphKind::kEncode) add(config.tokenizer.encoder, num_tokens, 1);
  if (kind == GraphKind::kDecode || is_frame) add(config.tokenizer.decoder, num_tokens, 1);
  if (kind != GraphKind::kEncode && kind != GraphKind::kDecode)
    add(config.dynamics.transformer, config.num_positions(), is_frame ? count + 1 : 1);
  limits.operations += static_cast<double>(count) * operations_besides(config) + 8 * bytes;
  limits.nodes = std::min(limits.nodes, kMostNodes);
  limits.operations = kSlack * limits.operations + kSpareOperations;
  limits.memory_bytes = kFreeBytes + kBytesPerWeightByte * bytes;
  limits.subset = config.num_positions();
  limits.slots = config.dynamics.slots();
  return limits;
}

}  // namespace grt
