// The operators that exported graphs are made of: what each takes, and how large what it gives becomes.
//
// `genie-rt export` writes no others, and no others run: not `Loop`, whose trips may never end, nor any that
// makes much of little, such as `Expand` or `ConstantOfShape`. Every size is known before anything runs.
// Sides without a fixed size are taken at their largest; with smaller ones no operator here gives more.
#pragma once

#include "onnxruntime/model.hpp"

namespace grt {

inline constexpr int64_t kHugeCount = int64_t{1} << 50;

// Values of a shape; kHugeCount, far above every limit, if there are more.
int64_t count_of(const Shape& shape);

// What is known of a value before anything runs.
struct Known {
  int32_t dtype = 0;
  Shape shape;
  Bytes numbers;  // its values, of int64 that stand in the graph: little-endian; else none
  bool has_numbers = false;
  int64_t length = 0;  // its one value where that is the length of a list, which may be any up to this

  int64_t count() const { return count_of(shape); }
  int64_t bytes() const;
  int64_t number(int64_t i) const;
};

// Finds out what a node gives, `outputs` [node.outputs.count], and adds the operations that it takes.
[[nodiscard]] bool infer_node(const Model& model, const Node& node, const Known* const* inputs,
                              Known* outputs, double& operations, Complaint& complaint);

}  // namespace grt
