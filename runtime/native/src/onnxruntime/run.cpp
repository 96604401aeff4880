#include "onnxruntime/run.hpp"

#include <cmath>
#include <cstring>

namespace grt {

namespace {

bool are_finite(const float* numbers, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!std::isfinite(numbers[i])) return false;
  return true;
}

}  // namespace

Run::Run(const OrtRuntime& runtime, const Graph& graph, const ModelConfig& config, OrtValue** inputs,
         Error& error)
    : runtime_(runtime), graph_(graph), config_(config), error_(error), inputs_(inputs) {
  for (size_t i = 0; i < graph.signature().inputs.size(); i++) inputs_[i] = nullptr;
  out("checksum", &checksum_);
}

Run::~Run() {
  for (size_t i = 0; i < graph_.signature().inputs.size(); i++)
    if (inputs_[i] != nullptr) runtime_.functions().ReleaseValue(inputs_[i]);
  for (size_t i = 0; i < num_outputs_; i++)
    if (outputs_[i] != nullptr) runtime_.functions().ReleaseValue(outputs_[i]);
}

void Run::in(const char* name, const void* data, int64_t free_side) {
  const List<Value>& values = graph_.signature().inputs;
  const int32_t place = Signature::find(values, name);
  if (!ok_ || place < 0)
    return;  // a frame graph takes what its plan needs: what it does not take is not told
  const auto index = static_cast<size_t>(place);
  ok_ = make_value(values[index], const_cast<void*>(data), free_side, &inputs_[index]);
}

void Run::past(const char* prefix, const float* const* pages, int32_t count, int32_t most,
               const float* blank) {
  if (most == 0) return;
  char name[32];
  std::snprintf(name, sizeof name, "%snum_past", prefix);
  const List<Value>& values = graph_.signature().inputs;
  const int32_t place = Signature::find(values, name);
  if (place < 0) return;
  num_past_[num_pasts_] = count;
  in(name, &num_past_[num_pasts_++]);
  for (int32_t age = 1; ok_ && age <= most; age++) {
    const size_t index = static_cast<size_t>(place) + static_cast<size_t>(age);
    const float* page = age <= count ? pages[age - 1] : blank;
    ok_ = make_value(values[index], const_cast<float*>(page), 0, &inputs_[index]);
  }
}

void Run::out(const char* name, void* data, int64_t free_side) {
  const List<Value>& values = graph_.signature().outputs;
  const int32_t place = Signature::find(values, name);
  if (!ok_ || place < 0 || num_outputs_ == kMostOutputs) return;
  const Value& value = values[static_cast<size_t>(place)];
  ok_ = make_value(value, data, free_side, &outputs_[num_outputs_]);
  output_names_[num_outputs_] = value.name;
  output_data_[num_outputs_++] = data;
}

void Run::out_tokens(const char* name, int64_t* tokens, int64_t count, int64_t free_side) {
  tokens_ = tokens;
  num_tokens_ = count;
  out(name, tokens, free_side);
}

bool Run::make_value(const Value& value, void* data, int64_t free_side, OrtValue** out) {
  Value sized = value;
  for (int64_t& side : sized.shape.sides) side = side > 0 ? side : free_side;
  OrtStatus* status = runtime_.functions().CreateTensorWithDataAsOrtValue(
      runtime_.memory(), data, sized.bytes(), sized.shape.sides, static_cast<size_t>(sized.shape.rank),
      value.dtype, out);
  return runtime_.check(status, GRT_ERROR_DEVICE, graph_.name(), error_);
}

bool Run::run(float* spare_page) {
  if (!ok_) return false;
  for (size_t i = 0; i < graph_.signature().inputs.size(); i++) {
    if (inputs_[i] == nullptr) {
      return error_.fail(GRT_ERROR_DEVICE, "the graph %s: expected its input '%s', found none", graph_.name(),
                         graph_.signature().inputs[i].name);
    }
  }
  if (!evaluate()) return false;
  if (!std::isfinite(checksum_)) return blame(spare_page);
  const int64_t last = config_.tokenizer.codebook_size - 1;
  for (int64_t i = 0; i < num_tokens_; i++) {
    if (tokens_[i] < 0 || tokens_[i] > last) {
      return error_.fail(
          GRT_ERROR_DEVICE,
          "the graph %s: expected tokens from 0 to %lld, found %lld; export the bundle again with this "
          "version",
          graph_.name(), static_cast<long long>(last), static_cast<long long>(tokens_[i]));
    }
  }
  return true;
}

bool Run::evaluate() {
  char what[128];
  std::snprintf(what, sizeof what, "the graph %.80s failed in ONNX Runtime", graph_.name());
  checksum_ = NAN;  // until it is computed
  return runtime_.check(
      runtime_.functions().Run(graph_.session(), runtime_.run_options(), graph_.input_names(), inputs_,
                               graph_.signature().inputs.size(), output_names_, num_outputs_, outputs_),
      GRT_ERROR_DEVICE, what, error_);
}

// Finds out from the keys and values of all layers where NaN or Inf came first.
bool Run::blame(float* spare_page) {
  const TokenizerConfig& tokenizer = config_.tokenizer;
  const GraphKind kind = graph_.kind();
  if (kind == GraphKind::kPass && spare_page != nullptr) {  // it gives a page that nobody needs otherwise
    out("page", spare_page);
    if (!ok_ || !evaluate()) return false;
  }
  const bool is_encoder = kind == GraphKind::kEncode, is_decoder = kind == GraphKind::kDecode;
  const char* part = is_encoder ? "tokenizer's encoder" : is_decoder ? "tokenizer's decoder" : "dynamics";
  const TransformerConfig& transformer = is_encoder   ? tokenizer.encoder
                                         : is_decoder ? tokenizer.decoder
                                                      : config_.dynamics.transformer;
  const int64_t positions = is_encoder || is_decoder ? tokenizer.num_tokens() : config_.num_positions();
  const float* page = page_of(kind == GraphKind::kPassAt ? "around_out" : "page");
  const float* picture_page = page_of("picture_page");
  const size_t floats =
      static_cast<size_t>(2 * transformer.num_layers * positions * transformer.attention_width());
  if (picture_page != nullptr && (page == nullptr || are_finite(page, floats)))
    return blame_part("tokenizer's decoder", tokenizer.decoder, tokenizer.num_tokens(), picture_page);
  return blame_part(part, transformer, positions, page);
}

bool Run::blame_part(const char* part, const TransformerConfig& transformer, int64_t positions,
                     const float* page) {
  const int32_t count = transformer.num_layers;
  const auto floats = static_cast<size_t>(2 * positions * transformer.attention_width());
  int32_t good = 0;  // layers before the first that is not finite
  while (page != nullptr && good < count && are_finite(page + static_cast<size_t>(good) * floats, floats))
    good++;
  char from[24] = "the input", to[24] = "the output";
  if (good > 0) std::snprintf(from, sizeof from, "layer %d", good - 1);
  if (good < count && page != nullptr) std::snprintf(to, sizeof to, "layer %d", good);
  return error_.fail(
      GRT_ERROR_DEVICE,
      "the %s of %d layers gave NaN or Inf, first between %s and %s; the weights are broken or the "
      "precision is too narrow: try float32, or check the bundle",
      part, count, from, to);
}

const float* Run::page_of(const char* output) const {
  for (size_t i = 0; i < num_outputs_; i++)
    if (std::strcmp(output_names_[i], output) == 0) return static_cast<const float*>(output_data_[i]);
  return nullptr;
}

}  // namespace grt
