#define GRT_ISA packing
#include "engine/packing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/float_environment.hpp"
#include "kernels/integer_range.hpp"

namespace grt {
namespace {

int32_t padded(int32_t width) { return (width + 15) / 16 * 16; }

// Where the rows or columns of a padded matrix come from: `groups` times `each` numbers, each group padded to
// `stride`.
struct Axis {
  int32_t groups = 1, each = 0, stride = 0;

  int32_t size() const { return groups * stride; }  // in the padded matrix; padded once more at its end
  int32_t source(int32_t at) const {                // -1: a zero
    const int32_t group = at / stride, within = at % stride;
    return group < groups && within < each ? group * each + within : -1;
  }
};

Axis whole(int32_t width) { return {1, width, padded(width)}; }

class Packer {
 public:
  Packer(const Bundle& bundle, bool int8, const Kernels& kernels, const Allocator& allocator,
         PackedModel& model, Error& error)
      : bundle_(bundle),
        int8_(int8),
        kernels_(kernels),
        allocator_(allocator),
        model_(model),
        error_(error) {}

  bool run() {
    const ModelConfig& config = bundle_.manifest.config;
    const int32_t tokens = config.tokenizer.num_tokens();
    return transformer("tokenizer.encoder", config.tokenizer.encoder, tokens, model_.encoder, true) &&
           transformer("tokenizer.decoder", config.tokenizer.decoder, tokens, model_.decoder) &&
           transformer("dynamics.transformer", config.dynamics.transformer, config.num_positions(),
                       model_.dynamics) &&
           tokenizer_ends(config.tokenizer) && dynamics_ends(config);
  }

 private:
  template <typename... Arguments>
  const char* name(const char* format, Arguments... arguments) {
    std::snprintf(name_, sizeof name_, format, arguments...);
    return name_;
  }

  // A tensor in float, or null with an error.
  const Tensor* tensor(const char* name) {
    const Tensor* found = bundle_.find(name);
    if (found == nullptr)
      error_.fail(GRT_ERROR_BUNDLE, "weights.safetensors: expected a tensor %s, found none", name);
    return found;
  }

  static float number(const Tensor& tensor, int64_t at) {
    uint32_t bits = 0;
    if (tensor.is_bf16) {
      uint16_t half;
      std::memcpy(&half, tensor.data + 2 * at, 2);
      bits = uint32_t{half} << 16;
    } else {
      std::memcpy(&bits, tensor.data + 4 * at, 4);
    }
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  // [rows, columns] in float, padded along both axes.
  bool matrix(const Tensor& from, const Axis& rows, const Axis& columns, Buffer<float>& to,
              int32_t most_rows) {
    const auto width = static_cast<size_t>(padded(columns.size()));
    if (!to.create(allocator_, static_cast<size_t>(most_rows) * width, error_)) return false;
    const int64_t stride = from.shape[from.rank - 1];
    for (int32_t row = 0; row < rows.size(); row++) {
      const int32_t source = rows.source(row);
      if (source < 0) continue;
      float* at = to.data() + static_cast<size_t>(row) * width;
      for (int32_t group = 0; group < columns.groups; group++) {
        widen(from, source * stride + int64_t{group} * columns.each, columns.each,
              at + group * columns.stride);
      }
    }
    return true;
  }

  // `count` numbers of a tensor, from `first` on.
  static void widen(const Tensor& from, int64_t first, int32_t count, float* to) {
    if (!from.is_bf16) return static_cast<void>(std::memcpy(to, from.data + 4 * first, size_t(count) * 4));
    const uint8_t* halves = from.data + 2 * first;
    for (int32_t i = 0; i < count; i++) {
      uint16_t half;
      std::memcpy(&half, halves + 2 * size_t(i), 2);
      const uint32_t bits = uint32_t{half} << 16;
      std::memcpy(to + i, &bits, 4);
    }
  }

  // A vector or table [rows, width] in float, its last axis padded, times `by`.
  const float* table(const char* tensor_name, int32_t rows, int32_t width, float by = 1) {
    const Tensor* from = tensor(tensor_name);
    if (from == nullptr) return nullptr;
    const int32_t stride = padded(width);
    auto* to = model_.arena.array<float>(uint64_t(rows) * stride, error_);
    if (to == nullptr) return nullptr;
    for (int64_t row = 0; row < rows; row++)
      for (int64_t i = 0; i < width; i++) to[row * stride + i] = number(*from, row * width + i) * by;
    return to;
  }

  // A linear in float of a padded matrix [out, in].
  bool float_linear(const Buffer<float>& weight, int32_t out, int32_t in, Linear& linear) {
    auto* to = model_.arena.array<float>(uint64_t(out) * in, error_);
    if (to == nullptr) return false;
    linear = {in, out, Format::kFloat, to};
    for (int32_t panel = 0; panel < out; panel += kPanel) {
      const int32_t columns = std::min(kPanel, out - panel);
      for (int32_t c = 0; c < columns; c++)
        for (int32_t k = 0; k < in; k++) {
          to[size_t(panel) * in + size_t(k) * columns + c] = weight[size_t(panel + c) * in + k];
        }
    }
    return true;
  }

  // Rounds every row to `most` steps on both sides, into panels [in / group][columns][group]. Returns the
  // largest sum of a row's magnitudes; 0 where there is no memory.
  template <typename T, int32_t group>
  int64_t round_rows(const Buffer<float>& weight, int32_t most, float input_step, Linear& linear) {
    const int32_t in = linear.in, out = linear.out;
    auto* to = model_.arena.array<T>(uint64_t(out) * in, error_);
    auto* scale = model_.arena.array<float>(uint64_t(out), error_);
    auto* offset = model_.arena.array<int32_t>(uint64_t(out), error_);
    if (to == nullptr || scale == nullptr || offset == nullptr) return 0;
    linear.weights = to;
    linear.scale = scale;
    linear.offset = offset;
    Buffer<T> rounded;
    if (!rounded.create(allocator_, size_t(in), error_)) return 0;
    int64_t largest = 1;
    for (int32_t row = 0; row < out; row++) {
      const float* from = weight.data() + size_t(row) * in;
      const float step = std::max(magnitude(from, in), 1e-30F) / static_cast<float>(most);
      int32_t total = 0, magnitudes = 0;
      for (int32_t k = 0; k < in; k++) {
        const int32_t q = nearest(from[k] / step);
        rounded[size_t(k)] = static_cast<T>(q);
        total += q;
        magnitudes += q < 0 ? -q : q;
      }
      const int32_t panel = row / kPanel * kPanel, columns = std::min(kPanel, out - panel);
      T* at = to + size_t(panel) * in + size_t(row - panel) * group;
      for (int32_t k = 0; k < in; k += group) {
        std::memcpy(at + size_t(k) * columns, rounded.data() + k, group * sizeof(T));
      }
      scale[row] = step * input_step;
      offset[row] = group == 4 ? -128 * total : 0;
      largest = std::max<int64_t>(largest, magnitudes);
    }
    return largest;
  }

  // The largest magnitude of finite numbers: their bits without the sign sort as they do.
  static float magnitude(const float* from, int32_t count) {
    int32_t most = 0;
    for (int32_t i = 0; i < count; i++) {
      int32_t bits;
      std::memcpy(&bits, from + i, 4);
      most = std::max(most, bits & 0x7FFFFFFF);
    }
    float value;
    std::memcpy(&value, &most, 4);
    return value;
  }

  // The same in int8 with a limit of its inputs, in int16 without one.
  bool integer_linear(const Buffer<float>& weight, int32_t out, int32_t in, float limit, Linear& linear) {
    linear = {in, out, limit > 0 ? Format::kInt8 : Format::kInt16, nullptr};
    if (limit > 0) {
      const float step = limit / 127.0F;
      linear.inverse_step = 1.0F / step;
      return round_rows<int8_t, 4>(weight, 127, step, linear) > 0;
    }
    const int64_t largest = round_rows<int16_t, 2>(weight, kMostWeight16, 1.0F, linear);
    if (largest == 0) return false;
    linear.most = static_cast<float>(std::min<int64_t>(32767, INT32_MAX / largest));
    return true;
  }

  bool linear_of(const Buffer<float>& weight, int32_t out, int32_t in, float limit, Linear& linear) {
    return int8_ ? integer_linear(weight, out, in, limit, linear) : float_linear(weight, out, in, linear);
  }

  // The nearest whole number, of two the even one, of numbers within 2^22: those have no bits left for a
  // fraction once this is added. Needs the default rounding mode, which `pack` sees to.
  static int32_t nearest(float x) {
    constexpr float kNoFraction = 12582912.0F;
    return static_cast<int32_t>((x + kNoFraction) - kNoFraction);
  }

  // A linear by its name, without ".weight".
  bool linear(const char* linear_name, const Axis& rows, const Axis& columns, Linear& to,
              bool in_float = false) {
    char weight_name[160];
    std::snprintf(weight_name, sizeof weight_name, "%s.weight", linear_name);
    const Tensor* from = tensor(weight_name);
    Buffer<float> weight;
    const int32_t out = padded(rows.size());
    const int32_t in = padded(columns.size());
    if (from == nullptr || !matrix(*from, rows, columns, weight, out)) return false;
    if (in_float) return float_linear(weight, out, in, to);
    return linear_of(weight, out, in, bundle_.int8_limit(linear_name), to);
  }

  bool attention(const char* block, const char* kind, const TransformerConfig& config, int32_t stride,
                 Attention& to, bool in_float) {
    const Axis heads{config.num_heads, config.head_width, stride};
    const Axis three{3 * config.num_heads, config.head_width, stride};
    char prefix[120];
    std::snprintf(prefix, sizeof prefix, "%s.%s", block, kind);
    if (!linear(name("%s.qkv", prefix), three, whole(config.width), to.qkv, in_float)) return false;
    if (!linear(name("%s.out", prefix), whole(config.width), heads, to.out, in_float)) return false;
    const float root = 1.0F / std::sqrt(static_cast<float>(config.head_width));
    to.norm = table(name("%s_norm.weight", prefix), 1, config.width, before(to.qkv));
    to.q_norm = table(name("%s.q_norm", prefix), 1, config.head_width, root);
    to.k_norm = table(name("%s.k_norm", prefix), 1, config.head_width);
    return to.norm != nullptr && to.q_norm != nullptr && to.k_norm != nullptr;
  }

  // What a norm before a linear is multiplied by.
  static float before(const Linear& linear) { return linear.inverse_step; }

  bool transformer(const char* part, const TransformerConfig& config, int32_t positions, Transformer& to,
                   bool in_float = false) {
    to.num_layers = config.num_layers;
    to.num_heads = config.num_heads;
    to.head_width = config.head_width;
    to.head_stride = padded(config.head_width);
    to.window = config.window;
    to.positions = positions;
    to.width = config.width;
    to.padded_width = padded(config.width);
    to.attention = config.num_heads * to.head_stride;
    to.mlp = padded(config.mlp_width);
    to.integer_attention = int8_ && !in_float && to.head_stride <= kMostHeadWidth;
    auto* blocks = model_.arena.array<Block>(uint64_t(config.num_layers), error_);
    if (blocks == nullptr) return false;
    to.blocks = blocks;
    for (int32_t layer = 0; layer < config.num_layers; layer++) {
      char block[96];
      std::snprintf(block, sizeof block, "%s.blocks.%d", part, layer);
      Block& made = blocks[layer];
      if (!attention(block, "spatial", config, to.head_stride, made.spatial, in_float)) return false;
      if (!attention(block, "temporal", config, to.head_stride, made.temporal, in_float)) return false;
      if (!linear(name("%s.up", block), whole(config.mlp_width), whole(config.width), made.up, in_float))
        return false;
      if (!linear(name("%s.down", block), whole(config.width), whole(config.mlp_width), made.down, in_float))
        return false;
      made.mlp_norm = table(name("%s.mlp_norm.weight", block), 1, config.width, before(made.up));
      const Tensor* bias = tensor(name("%s.temporal.age_bias", block));
      if (made.mlp_norm == nullptr || bias == nullptr) return false;
      auto* biases = model_.arena.array<float>(uint64_t(config.num_heads) * config.window, error_);
      if (biases == nullptr) return false;
      for (int64_t i = 0; i < int64_t{config.num_heads} * config.window; i++) biases[i] = number(*bias, i);
      made.age_bias = biases;
    }
    to.norm = table(name("%s.norm.weight", part), 1, config.width);
    return to.norm != nullptr;
  }

  // y [count, linear.out] of x [count, linear.in], with the kernels.
  void multiply(const Linear& linear, const float* x, int32_t count, float* y) {
    kernels_.multiply(linear, x, count, y);
  }

  // The codebook's rows as unit vectors, [V padded, d padded].
  bool unit_codes(const TokenizerConfig& config, Buffer<float>& units) {
    const Tensor* codebook = tensor("tokenizer.codebook");
    const auto stride = static_cast<size_t>(padded(config.codebook_dim));
    if (codebook == nullptr ||
        !units.create(allocator_, size_t(padded(config.codebook_size)) * stride, error_))
      return false;
    for (int64_t v = 0; v < config.codebook_size; v++) {
      double squares = 0;
      for (int64_t i = 0; i < config.codebook_dim; i++) {
        const double x = number(*codebook, v * config.codebook_dim + i);
        squares += x * x;
      }
      const double length = std::max(std::sqrt(squares), 1e-12);
      for (int64_t i = 0; i < config.codebook_dim; i++) {
        units[size_t(v) * stride + size_t(i)] =
            static_cast<float>(number(*codebook, v * config.codebook_dim + i) / length);
      }
    }
    return true;
  }

  bool tokenizer_ends(const TokenizerConfig& config) {
    const int32_t tokens = config.num_tokens(), codes = config.codebook_size;
    EncoderEnds& in = model_.encoder_ends;
    in.rows = config.rows();
    in.columns = config.columns();
    in.patch = config.patch;
    in.height = config.height;
    in.width = config.width;
    in.codebook_size = codes;
    in.position = table("tokenizer.encoder_position", tokens, config.encoder.width);
    if (in.position == nullptr ||
        !linear("tokenizer.patch_in", whole(config.encoder.width), whole(3 * config.patch * config.patch),
                in.patch_in, true) ||
        !linear("tokenizer.code_in", whole(config.codebook_dim), whole(config.encoder.width), in.code_in,
                true) ||
        !unit_codes(config, units_) ||
        !float_linear(units_, padded(codes), padded(config.codebook_dim), in.codes)) {
      return false;
    }
    DecoderEnds& out = model_.decoder_ends;
    out.columns = config.columns();
    out.patch = config.decoder_patch;
    out.frame_height = config.frame_height();
    out.frame_width = config.frame_width();
    out.position = table("tokenizer.decoder_position", tokens, config.decoder.width);
    Linear code_out;
    auto* rows = model_.arena.array<float>(uint64_t(codes) * padded(config.decoder.width), error_);
    if (out.position == nullptr || rows == nullptr ||
        !linear("tokenizer.code_out", whole(config.decoder.width), whole(config.codebook_dim), code_out,
                true) ||
        !linear("tokenizer.patch_out", whole(3 * config.decoder_patch * config.decoder_patch),
                whole(config.decoder.width), out.patch_out)) {
      return false;
    }
    multiply(code_out, units_.data(), codes, rows);
    out.token_rows = rows;
    return true;
  }

  // token_embedding + unit code_in^T, [V, E padded].
  bool token_table(const ModelConfig& config, Buffer<float>& table) {
    const int32_t codes = config.tokenizer.codebook_size, dim = config.dynamics.embedding_dim;
    const Tensor* embedding = tensor("dynamics.token_embedding");
    if (embedding == nullptr || !matrix(*embedding, whole(codes), whole(dim), table, padded(codes)))
      return false;
    if (!config.dynamics.tie_codebook) return true;
    Linear code_in;
    Buffer<float> tied;
    if (!linear("dynamics.code_in", whole(dim), whole(config.tokenizer.codebook_dim), code_in, true) ||
        !tied.create(allocator_, table.size(), error_)) {
      return false;
    }
    multiply(code_in, units_.data(), codes, tied.data());
    for (size_t i = 0; i < table.size(); i++) table[i] += tied[i];
    return true;
  }

  // What each token adds to x in each slot: [S, rows, D], of vectors [rows, E padded] and a linear of S E
  // inputs.
  const float* slot_rows(const char* linear_name, const Buffer<float>& vectors, int32_t rows,
                         const DynamicsConfig& config) {
    const int32_t slots = config.slots(), dim = config.embedding_dim, width = config.transformer.width;
    const Tensor* from = tensor(name("%s.weight", linear_name));
    if (from == nullptr) return nullptr;
    const auto stride = static_cast<size_t>(padded(dim));
    auto* to = model_.arena.array<float>(uint64_t(slots) * rows * padded(width), error_);
    Buffer<float> part;
    if (to == nullptr || !part.create(allocator_, size_t(padded(width)) * stride, error_)) return nullptr;
    for (int32_t slot = 0; slot < slots; slot++) {
      for (int64_t out = 0; out < width; out++)
        for (int64_t i = 0; i < dim; i++) {
          part[size_t(out) * stride + size_t(i)] = number(*from, out * slots * dim + int64_t{slot} * dim + i);
        }
      Linear linear;
      PackedModel scratch(allocator_);
      if (!Packer(bundle_, false, kernels_, allocator_, scratch, error_)
               .float_linear(part, padded(width), padded(dim), linear)) {
        return nullptr;
      }
      multiply(linear, vectors.data(), rows, to + size_t(slot) * rows * padded(width));
    }
    return to;
  }

  bool dynamics_ends(const ModelConfig& config) {
    const DynamicsConfig& dynamics = config.dynamics;
    const int32_t codes = config.tokenizer.codebook_size, dim = dynamics.embedding_dim,
                  width = dynamics.transformer.width;
    const int32_t slots = dynamics.slots(), positions = config.num_positions();
    DynamicsEnds& to = model_.dynamics_ends;
    to.num_tokens = config.tokenizer.num_tokens();
    to.slots = slots;
    to.codebook_size = codes;
    to.embedding = padded(dim);
    to.copies = dynamics.copy_logit;
    if (!members(config, to)) return false;
    to.position = table("dynamics.position", positions, width);
    to.action = table("dynamics.action_embedding", dynamics.num_actions + 1, width);
    Buffer<float> vectors, with_mask;
    if (to.position == nullptr || to.action == nullptr || !token_table(config, vectors)) return false;
    const auto stride = static_cast<size_t>(padded(dim));
    const Tensor* mask = tensor("dynamics.mask_embedding");
    if (mask == nullptr || !with_mask.create(allocator_, size_t(codes + 1) * stride, error_)) return false;
    std::memcpy(with_mask.data(), vectors.data(), size_t(codes) * stride * sizeof(float));
    for (int64_t i = 0; i < dim; i++) with_mask[size_t(codes) * stride + size_t(i)] = number(*mask, i);
    if ((to.token_rows = slot_rows("dynamics.token_in", with_mask, codes + 1, dynamics)) == nullptr)
      return false;
    if (dynamics.previous_token &&
        (to.previous_rows = slot_rows("dynamics.previous_in", vectors, codes, dynamics)) == nullptr) {
      return false;
    }
    return token_out(dynamics, to) && head(vectors, codes, dim, to);
  }

  // The head: the token table times E^-1/2.
  bool head(Buffer<float>& vectors, int32_t codes, int32_t dim, DynamicsEnds& to) {
    const float root = 1.0F / std::sqrt(static_cast<float>(dim));
    for (float& x : vectors) x *= root;
    return linear_of(vectors, padded(codes), padded(dim), 0, to.head);
  }

  // token_out, and below it the rows of copy_out: [S E + S, D].
  bool token_out(const DynamicsConfig& dynamics, DynamicsEnds& to) {
    const int32_t slots = dynamics.slots(), dim = dynamics.embedding_dim, width = dynamics.transformer.width;
    const Axis rows{slots, dim, padded(dim)};
    const int32_t out = padded(rows.size() + (dynamics.copy_logit ? slots : 0));
    const Tensor* from = tensor("dynamics.token_out.weight");
    Buffer<float> weight;
    if (from == nullptr || !matrix(*from, rows, whole(width), weight, out)) return false;
    if (dynamics.copy_logit) {
      const Tensor *copies = tensor("dynamics.copy_out.weight"), *bias = tensor("dynamics.copy_logit");
      if (copies == nullptr || bias == nullptr) return false;
      for (int64_t slot = 0; slot < slots; slot++)
        for (int64_t i = 0; i < width; i++) {
          weight[size_t(rows.size() + slot) * size_t(padded(width)) + size_t(i)] =
              number(*copies, slot * width + i);
        }
      to.copy_logit = number(*bias, 0);
    }
    return linear_of(weight, out, padded(width), 0, to.token_out);
  }

  bool members(const ModelConfig& config, DynamicsEnds& to) {
    const int32_t merge = config.dynamics.merge, columns = config.tokenizer.columns(),
                  tokens = config.tokenizer.num_tokens();
    auto* members = model_.arena.array<int32_t>(uint64_t(tokens), error_);
    if (members == nullptr) return false;
    for (int32_t token = 0; token < tokens; token++) {
      const int32_t row = token / columns, column = token % columns;
      const int32_t position = row / merge * (columns / merge) + column / merge;
      members[position * merge * merge + row % merge * merge + column % merge] = token;
    }
    to.members = members;
    return true;
  }

  const Bundle& bundle_;
  const bool int8_;
  const Kernels& kernels_;
  const Allocator& allocator_;
  PackedModel& model_;
  Error& error_;
  Buffer<float> units_;
  char name_[160] = {};
};

}  // namespace

bool pack(const Bundle& bundle, bool int8, const Kernels& kernels, const Allocator& allocator,
          PackedModel& model, Error& error) {
  const GRT_ISA::FloatEnvironment environment;
  return Packer(bundle, int8, kernels, allocator, model, error).run();
}

}  // namespace grt
