// An ONNX graph, read from a file's bytes: what `genie-rt export` writes, and nothing else. No subgraphs,
// functions, sparse tensors, metadata or other files than the bundle's weights. The messages: `onnx.proto` of
// ONNX.
//
// Whoever runs the graph gets the very bytes that were read. `wire.hpp` sees to it that they mean one thing.
#pragma once

#include "onnxruntime/list.hpp"
#include "onnxruntime/ort_abi.h"
#include "onnxruntime/wire.hpp"

namespace grt {

inline constexpr int32_t kMaxRank = 6;

// A dtype by ONNX's number. 0 bytes: no exported graph computes in it.
int64_t item_bytes(int32_t dtype);
const char* dtype_name(int32_t dtype);

struct Shape {
  int32_t rank = 0;
  int64_t sides[kMaxRank] = {};

  bool operator==(const Shape& other) const {
    if (rank != other.rank) return false;
    for (int32_t i = 0; i < rank; i++)
      if (sides[i] != other.sides[i]) return false;
    return true;
  }
};

// Places in one of a graph's lists.
struct Range {
  uint32_t first = 0, count = 0;
};

struct Attribute {
  enum Kind : uint8_t { kFloat = 1, kInt = 2, kText = 3, kInts = 7 };  // AttributeProto.AttributeType
  Bytes name;
  Kind kind = kInt;
  int64_t whole = 0;
  float real = 0;
  Bytes text;
  Range ints;
};

// An operator of standard ONNX.
struct Node {
  Bytes op, name;
  Range inputs, outputs;  // in `mentions`
  Range attributes;
};

// A tensor that is there before anything runs: with its bytes, or in the file of weights.
struct Initializer {
  uint32_t mention = 0;
  int32_t dtype = 0;
  Shape shape;
  bool is_stored = false;
  Bytes data;                       // unless it is stored
  uint64_t offset = 0, length = 0;  // where it is stored
};

// An input or output of the graph. A side of 0 has no fixed size, and a name instead.
struct Port {
  uint32_t mention = 0;
  int32_t dtype = 0;
  Shape shape;
  Bytes side_names[kMaxRank];
};

// A graph. Keeps pointers into the bytes that it was read from.
class Model {
 public:
  explicit Model(const Allocator& allocator)
      : nodes(allocator),
        initializers(allocator),
        inputs(allocator),
        outputs(allocator),
        attributes(allocator),
        ints(allocator),
        mentions(allocator),
        allocator_(allocator) {}

  // Refuses a graph of more nodes.
  [[nodiscard]] bool read(Bytes data, int64_t max_nodes, Complaint& complaint);

  // The value that a mention is of: equal names are one value, from 0 to num_values - 1.
  int32_t value(uint32_t mention) const { return values_[mention]; }
  Bytes name(uint32_t mention) const { return mentions[mention]; }
  int32_t num_values() const { return num_values_; }

  int64_t opset = 0;
  List<Node> nodes;
  List<Initializer> initializers;
  List<Port> inputs, outputs;
  List<Attribute> attributes;
  List<int64_t> ints;
  List<Bytes> mentions;  // names of values, as often as they stand in the graph

 private:
  bool read_opset(Bytes data, FieldBudget& budget, Complaint& complaint);
  bool read_graph(Bytes data, int64_t max_nodes, FieldBudget& budget, Complaint& complaint);
  bool read_node(Bytes data, FieldBudget& budget, Complaint& complaint);
  bool read_attribute(Bytes data, const Node& node, FieldBudget& budget, Complaint& complaint);
  bool read_initializer(Bytes data, FieldBudget& budget, Complaint& complaint);
  bool read_place(Bytes data, Initializer& tensor, uint32_t& found, FieldBudget& budget,
                  Complaint& complaint);
  bool read_port(Bytes data, List<Port>& ports, FieldBudget& budget, Complaint& complaint);
  bool mention(Bytes name, uint32_t& index, Complaint& complaint);
  bool number_values(Complaint& complaint);

  Allocator allocator_;
  Buffer<int32_t> values_;
  int32_t num_values_ = 0;
};

}  // namespace grt
