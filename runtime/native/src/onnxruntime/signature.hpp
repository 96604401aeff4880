// What the graphs of a bundle take and give: docs/graphs.md, and runtime/backends/exported/signature.py.
#pragma once

#include "bundle/bundle.hpp"
#include "onnxruntime/list.hpp"
#include "onnxruntime/model.hpp"

namespace grt {

enum class GraphKind : uint8_t { kEncode, kCommit, kPass, kPassAt, kDecode, kFrame };

inline constexpr size_t kNumParts = 5;
// The graphs that every bundle with graphs has, in the order of GraphKind.
inline constexpr const char* kPartNames[kNumParts] = {"encode", "commit", "pass", "pass-at", "decode"};

// An input or output. A side of 0 is not fixed.
struct Value {
  char name[32] = {};
  int32_t dtype = 0;
  Shape shape;

  size_t bytes() const;
};

// Inputs and outputs of one graph. Pasts stand together: num_past, past_1, past_2 and so on; then, in a frame
// graph, picture_num_past, picture_past_1 and so on. There is none for a window of 1 frame.
class Signature {
 public:
  explicit Signature(const Allocator& allocator) : inputs(allocator), outputs(allocator) {}

  // `plan` of a frame graph; null for the others.
  [[nodiscard]] bool create(const ModelConfig& config, GraphKind kind, const Plan* plan, Error& error);

  // The place of an input or output; -1 if there is none of that name.
  static int32_t find(const List<Value>& values, const char* name);

  List<Value> inputs, outputs;

 private:
  bool add(List<Value>& to, const char* name, int32_t dtype, Shape shape, Error& error);
  bool add_past(const TransformerConfig& transformer, int64_t positions, const char* prefix, Error& error);
};

// A page as graphs have it, [2 L, P, H, Dh].
Shape page_shape(const TransformerConfig& transformer, int64_t positions);

// Compares what a graph takes and gives with its signature. `kind` is "input" or "output"; `found` calls a
// side that is not fixed 0, or anything below 1.
[[nodiscard]] bool check_values(const char* file, const char* kind, const List<Value>& expected,
                                const List<Value>& found, Error& error);

}  // namespace grt
