// Checks all of a graph before ONNX Runtime sees it: whose weights it reads, what it takes and gives, and how
// much work and memory it can take.
#pragma once

#include "onnxruntime/model.hpp"
#include "onnxruntime/signature.hpp"

namespace grt {

// The most that one graph may have.
struct Limits {
  int64_t nodes = 0;        // operators
  double operations = 0;    // of one run, as `operators.hpp` counts them
  double memory_bytes = 0;  // of all values that are alive at once
  int64_t subset = 1;       // positions that a side without a fixed size may have
  int64_t slots = 1;        // tokens of each
};

// From the sizes of its bundle's model. `passes` is that of its plan for a frame graph.
Limits limits_of(const ModelConfig& config, GraphKind kind, int32_t passes, uint64_t weight_bytes);

// The tensor of the bundle that a graph calls by a name; null if there is none.
const Tensor* find_weight(const Bundle& bundle, Bytes name);

// Whether a graph is one that `genie-rt export` writes for this model. `weights` are the bytes that the
// bundle's tensors lie in.
[[nodiscard]] bool check_graph(const Model& model, const Bundle& bundle, const Buffer<uint8_t>& weights,
                               const Signature& signature, const Limits& limits, const Allocator& allocator,
                               Complaint& complaint);

}  // namespace grt
