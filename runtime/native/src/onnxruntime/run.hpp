// One evaluation of a graph: what it is given, and where its results go. Nothing is copied on the way, but by
// a provider that computes elsewhere.
#pragma once

#include "onnxruntime/graph.hpp"

namespace grt {

class Run {
 public:
  // `inputs` is scratch memory for as many as the graph has. The graph is loaded.
  Run(const OrtRuntime& runtime, const Graph& graph, const ModelConfig& config, OrtValue** inputs,
      Error& error);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run();

  // What lies there has to stay until `run` returns. `free_side` is the size of a side that is not fixed.
  void in(const char* name, const void* data, int64_t free_side = 0);
  // The newest `count` pages of a past, whose window has `most`; `blank` is finite and stands for the others.
  void past(const char* prefix, const float* const* pages, int32_t count, int32_t most, const float* blank);
  // An output that is wanted.
  void out(const char* name, void* data, int64_t free_side = 0);
  // The same of tokens: held to the codebook, since engines read a table at whatever they are given.
  void out_tokens(const char* name, int64_t* tokens, int64_t count, int64_t free_side = 0);

  // GRT_ERROR_DEVICE: ONNX Runtime failed, or gave NaN, Inf or a token that there is not. `spare_page` may
  // hold a page of the dynamics; null if there is none.
  [[nodiscard]] bool run(float* spare_page);

 private:
  static constexpr size_t kMostOutputs = 6;

  bool make_value(const Value& value, void* data, int64_t free_side, OrtValue** out);
  bool evaluate();
  bool blame(float* spare_page);
  bool blame_part(const char* part, const TransformerConfig& transformer, int64_t positions,
                  const float* page);
  const float* page_of(const char* output) const;

  const OrtRuntime& runtime_;
  const Graph& graph_;
  const ModelConfig& config_;
  Error& error_;
  bool ok_ = true;
  OrtValue** inputs_;
  int64_t num_past_[2] = {};
  int32_t num_pasts_ = 0;
  size_t num_outputs_ = 0;
  const char* output_names_[kMostOutputs] = {};
  void* output_data_[kMostOutputs] = {};
  OrtValue* outputs_[kMostOutputs] = {};
  const int64_t* tokens_ = nullptr;
  int64_t num_tokens_ = 0;
  float checksum_ = 0;
};

}  // namespace grt
