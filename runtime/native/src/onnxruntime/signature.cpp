#include "onnxruntime/signature.hpp"

#include <initializer_list>

namespace grt {

namespace {

Shape shape_of(std::initializer_list<int64_t> sides) {
  Shape shape;
  for (const int64_t side : sides) shape.sides[shape.rank++] = side;
  return shape;
}

struct Words {
  char text[96];
};

// "float32 [1, 256, any]"
Words describe(const Value* value) {
  Words words;
  if (value == nullptr) {
    std::snprintf(words.text, sizeof words.text, "none");
    return words;
  }
  int length = std::snprintf(words.text, sizeof words.text, "%s [", dtype_name(value->dtype));
  for (int32_t i = 0; i < value->shape.rank && length < 80; i++) {
    const size_t left = sizeof words.text - static_cast<size_t>(length);
    const char* comma = i > 0 ? ", " : "";
    const int64_t side = value->shape.sides[i];
    length += side > 0
                  ? std::snprintf(words.text + length, left, "%s%lld", comma, static_cast<long long>(side))
                  : std::snprintf(words.text + length, left, "%sany", comma);
  }
  if (length < 94) std::snprintf(words.text + length, sizeof words.text - static_cast<size_t>(length), "]");
  return words;
}

bool fits(const Value& expected, const Value& found) {
  if (expected.dtype != found.dtype || expected.shape.rank != found.shape.rank) return false;
  for (int32_t i = 0; i < expected.shape.rank; i++) {
    const int64_t want = expected.shape.sides[i], have = found.shape.sides[i];
    if (want > 0 ? have != want : have > 0) return false;
  }
  return true;
}

}  // namespace

Shape page_shape(const TransformerConfig& transformer, int64_t positions) {
  return shape_of(
      {int64_t{2} * transformer.num_layers, positions, transformer.num_heads, transformer.head_width});
}

size_t Value::bytes() const {
  size_t product = static_cast<size_t>(item_bytes(dtype));
  for (int32_t i = 0; i < shape.rank; i++) product *= static_cast<size_t>(shape.sides[i]);
  return product;
}

bool Signature::create(const ModelConfig& config, GraphKind kind, const Plan* plan, Error& error) {
  const TokenizerConfig& tokenizer = config.tokenizer;
  const TransformerConfig& transformer = config.dynamics.transformer;
  const int64_t num_tokens = tokenizer.num_tokens(), positions = config.num_positions();
  const Shape one = shape_of({1}), all = shape_of({1, num_tokens}), some = shape_of({1, 0});
  const Shape picture = shape_of({1, tokenizer.frame_height(), tokenizer.frame_width(), 3});
  const Shape page = page_shape(transformer, positions);
  const Shape encoder_page = page_shape(tokenizer.encoder, num_tokens);
  const Shape decoder_page = page_shape(tokenizer.decoder, num_tokens);
  bool ok = true;
  const auto in = [&](const char* name, int32_t dtype, const Shape& shape) {
    ok = ok && add(inputs, name, dtype, shape, error);
  };
  const auto out = [&](const char* name, int32_t dtype, const Shape& shape) {
    ok = ok && add(outputs, name, dtype, shape, error);
  };
  const auto past = [&](const TransformerConfig& of, int64_t count, const char* prefix) {
    ok = ok && add_past(of, count, prefix, error);
  };
  switch (kind) {
    case GraphKind::kEncode:
      in("frame", GRT_ONNX_UINT8, shape_of({1, tokenizer.height, tokenizer.width, 3}));
      past(tokenizer.encoder, num_tokens, "");
      out("tokens", GRT_ONNX_INT64, all);
      out("page", GRT_ONNX_FLOAT32, encoder_page);
      break;
    case GraphKind::kCommit:
      in("tokens", GRT_ONNX_INT64, all);
      in("action", GRT_ONNX_INT64, one);
      past(transformer, positions, "");
      out("page", GRT_ONNX_FLOAT32, page);
      break;
    case GraphKind::kPass:
    case GraphKind::kPassAt:
      in("tokens", GRT_ONNX_INT64, all);
      in("previous", GRT_ONNX_INT64, all);
      in("action", GRT_ONNX_INT64, one);
      in("u", GRT_ONNX_FLOAT32, all);
      in("temperature", GRT_ONNX_FLOAT32, one);
      if (kind == GraphKind::kPassAt) {
        in("index", GRT_ONNX_INT64, shape_of({0}));
        in("around", GRT_ONNX_FLOAT32, page);
        out("candidates", GRT_ONNX_INT64, some);
        out("probability", GRT_ONNX_FLOAT32, some);
        out("around_out", GRT_ONNX_FLOAT32, page);
      } else {
        out("candidates", GRT_ONNX_INT64, all);
        out("probability", GRT_ONNX_FLOAT32, all);
        out("logits", GRT_ONNX_FLOAT32, shape_of({1, num_tokens, tokenizer.codebook_size}));
        out("page", GRT_ONNX_FLOAT32, page);
      }
      past(transformer, positions, "");
      break;
    case GraphKind::kDecode:
      in("tokens", GRT_ONNX_INT64, all);
      past(tokenizer.decoder, num_tokens, "");
      out("rgb", GRT_ONNX_UINT8, picture);
      out("page", GRT_ONNX_FLOAT32, decoder_page);
      break;
    case GraphKind::kFrame:
      in("last_tokens", GRT_ONNX_INT64, all);
      in("last_action", GRT_ONNX_INT64, one);
      in("action", GRT_ONNX_INT64, one);
      in("u", GRT_ONNX_FLOAT32, shape_of({plan->passes, num_tokens}));
      if (plan->order == GRT_ORDER_MASKGIT || plan->order == GRT_ORDER_ADAPTIVE)
        in("gumbel", GRT_ONNX_FLOAT32, shape_of({plan->passes, num_tokens}));
      if (plan->order == GRT_ORDER_RANDOM) in("order", GRT_ONNX_INT64, shape_of({num_tokens}));
      past(transformer, positions, "");
      past(tokenizer.decoder, num_tokens, "picture_");
      out("tokens", GRT_ONNX_INT64, all);
      out("passes", GRT_ONNX_INT64, one);
      out("rgb", GRT_ONNX_UINT8, picture);
      out("page", GRT_ONNX_FLOAT32, page);
      out("picture_page", GRT_ONNX_FLOAT32, decoder_page);
      break;
  }
  out("checksum", GRT_ONNX_FLOAT32, one);
  return ok;
}

int32_t Signature::find(const List<Value>& values, const char* name) {
  for (size_t i = 0; i < values.size(); i++)
    if (std::strcmp(values[i].name, name) == 0) return static_cast<int32_t>(i);
  return -1;
}

bool Signature::add(List<Value>& to, const char* name, int32_t dtype, Shape shape, Error& error) {
  Value value;
  std::snprintf(value.name, sizeof value.name, "%s", name);
  value.dtype = dtype;
  value.shape = shape;
  return to.add(value, error);
}

bool Signature::add_past(const TransformerConfig& transformer, int64_t positions, const char* prefix,
                         Error& error) {
  if (transformer.window == 1) return true;
  char name[32];
  std::snprintf(name, sizeof name, "%snum_past", prefix);
  if (!add(inputs, name, GRT_ONNX_INT64, shape_of({1}), error)) return false;
  for (int32_t age = 1; age < transformer.window; age++) {
    std::snprintf(name, sizeof name, "%spast_%d", prefix, age);
    if (!add(inputs, name, GRT_ONNX_FLOAT32, page_shape(transformer, positions), error)) return false;
  }
  return true;
}

bool check_values(const char* file, const char* kind, const List<Value>& expected, const List<Value>& found,
                  Error& error) {
  const auto compare = [&](const Value* want, const Value* have) {
    if (want != nullptr && have != nullptr && fits(*want, *have)) return true;
    return error.fail(
        GRT_ERROR_BUNDLE,
        "%s: %s '%s': expected %s for the model of this bundle, found %s; export the bundle again "
        "with this version",
        file, kind, want != nullptr ? want->name : have->name,
        want != nullptr ? describe(want).text : "none of that name", describe(have).text);
  };
  for (size_t i = 0; i < expected.size(); i++) {
    const Value& want = expected[i];
    const int32_t place = Signature::find(found, want.name);
    if (!compare(&want, place < 0 ? nullptr : &found[static_cast<size_t>(place)])) return false;
  }
  for (size_t i = 0; i < found.size(); i++)
    if (Signature::find(expected, found[i].name) < 0 && !compare(nullptr, &found[i])) return false;
  if (found.size() == expected.size()) return true;
  return error.fail(GRT_ERROR_BUNDLE,
                    "%s: expected %zu %ss, found %zu; export the bundle again with this version", file,
                    expected.size(), kind, found.size());
}

}  // namespace grt
