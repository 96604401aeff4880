#include "onnxruntime/check.hpp"

#include <algorithm>

#include "onnxruntime/operators.hpp"

namespace grt {

namespace {

// A frame graph has one. An engine may take long to see that a thousand of them do nothing.
constexpr int32_t kMaxIdentities = 4;

// Numbers of a tensor that stands in the graph are looked at up to this size.
constexpr size_t kMaxNumberBytes = 1 << 16;

constexpr int32_t kGone = -1;  // of a value that nobody needs any more

// A tensor in the file of weights is one of its tensors, whole, under its own name.
bool check_stored(const Model& model, const Initializer& tensor, const Bundle& bundle,
                  const Buffer<uint8_t>& weights, Complaint& complaint) {
  const Bytes name = model.name(tensor.mention);
  const Tensor* stored = find_weight(bundle, name);
  const int32_t dtype = stored != nullptr && stored->is_bf16 ? GRT_ONNX_BFLOAT16 : GRT_ONNX_FLOAT32;
  bool is_same = stored != nullptr && tensor.dtype == dtype && tensor.shape.rank == stored->rank;
  for (int32_t i = 0; is_same && i < stored->rank; i++) is_same = tensor.shape.sides[i] == stored->shape[i];
  const uint64_t offset = is_same ? static_cast<uint64_t>(stored->data - weights.data()) : 0;
  if (is_same && tensor.offset == offset) return true;
  return complaint.fail(
      "the weight '%.*s', %s at byte %llu, which weights.safetensors does not have like this", name.shown(),
      name.text(), dtype_name(tensor.dtype), static_cast<unsigned long long>(tensor.offset));
}

bool values_of(const Model& model, const List<Port>& ports, List<Value>& values, Complaint& complaint) {
  for (const Port& port : ports) {
    const Bytes name = model.name(port.mention);
    Value value;
    std::snprintf(value.name, sizeof value.name, "%.*s", name.shown(), name.text());
    value.dtype = port.dtype;
    value.shape = port.shape;
    if (!values.add(value, complaint.error())) return false;
  }
  return true;
}

// Follows the sizes of all values through the graph, and what they take together.
class Sizes {
 public:
  Sizes(const Model& model, const Limits& limits, const Allocator& allocator, Complaint& complaint)
      : model_(model), limits_(limits), allocator_(allocator), complaint_(complaint) {}

  bool check() {
    Error& error = complaint_.error();
    const size_t count = static_cast<size_t>(model_.num_values());
    uint32_t most_inputs = 1, most_outputs = 1;
    int32_t identities = 0;
    for (const Node& node : model_.nodes) {
      most_inputs = std::max(most_inputs, node.inputs.count);
      most_outputs = std::max(most_outputs, node.outputs.count);
      identities += node.op.is("Identity") ? 1 : 0;
    }
    if (identities > kMaxIdentities)
      return complaint_.fail("more than %d nodes that do nothing", kMaxIdentities);
    return known_.create(allocator_, count, error) && is_known_.create(allocator_, count, error) &&
           uses_.create(allocator_, count, error) && inputs_.create(allocator_, most_inputs, error) &&
           outputs_.create(allocator_, most_outputs, error) && define_given() && count_uses() && follow() &&
           check_outputs();
  }

 private:
  bool define(uint32_t mention, const Known& value) {
    const auto index = static_cast<size_t>(model_.value(mention));
    if (is_known_[index]) {
      const Bytes name = model_.name(mention);
      return complaint_.fail("two values called '%.*s'", name.shown(), name.text());
    }
    known_[index] = value;
    is_known_[index] = true;
    alive_ += static_cast<double>(value.bytes());
    return true;
  }

  bool define_given() {
    for (const Initializer& tensor : model_.initializers) {
      Known value;
      value.dtype = tensor.dtype;
      value.shape = tensor.shape;
      if (tensor.dtype == GRT_ONNX_INT64 && !tensor.is_stored && tensor.data.size <= kMaxNumberBytes) {
        value.numbers = tensor.data;
        value.has_numbers = true;
      }
      if (!define(tensor.mention, value)) return false;
    }
    for (const Port& port : model_.inputs) {
      Known value;
      if (!of_port(port, value) || !define(port.mention, value)) return false;
    }
    return true;
  }

  // A side without a fixed size is taken at its largest.
  bool of_port(const Port& port, Known& value) {
    value.dtype = port.dtype;
    value.shape = port.shape;
    for (int32_t i = 0; i < port.shape.rank; i++) {
      if (port.shape.sides[i] > 0) continue;
      const Bytes name = port.side_names[i];
      if (!name.is("Q") && !name.is("Q*S"))
        return complaint_.fail("a side called '%.*s'", name.shown(), name.text());
      value.shape.sides[i] = limits_.subset * (name.is("Q") ? 1 : limits_.slots);
    }
    return true;
  }

  bool count_uses() {
    for (const Node& node : model_.nodes)
      for (uint32_t i = 0; i < node.inputs.count; i++) uses_[value_of(node.inputs, i)]++;
    for (const Port& port : model_.outputs) uses_[static_cast<size_t>(model_.value(port.mention))]++;
    return true;
  }

  size_t value_of(const Range& mentions, uint32_t i) const {
    return static_cast<size_t>(model_.value(mentions.first + i));
  }

  bool follow() {
    double operations = 0;
    for (const Node& node : model_.nodes) {
      for (uint32_t i = 0; i < node.inputs.count; i++) {
        const size_t value = value_of(node.inputs, i);
        if (!is_known_[value]) {
          const Bytes name = model_.name(node.inputs.first + i);
          return complaint_.fail("'%.*s', which %.*s takes and no node before it gives", name.shown(),
                                 name.text(), node.op.shown(), node.op.text());
        }
        inputs_[i] = &known_[value];
      }
      for (uint32_t i = 0; i < node.outputs.count; i++) outputs_[i] = Known();
      if (!infer_node(model_, node, inputs_.data(), outputs_.data(), operations, complaint_)) return false;
      for (uint32_t i = 0; i < node.outputs.count; i++)
        if (!define(node.outputs.first + i, outputs_[i])) return false;
      if (alive_ + scratch_bytes(node) > limits_.memory_bytes) {
        return complaint_.fail(
            "values that take %.0f MiB at '%.*s', and %.0f MiB at most for the weights of this "
            "bundle",
            (alive_ + scratch_bytes(node)) / (1 << 20), node.op.shown(), node.op.text(),
            limits_.memory_bytes / (1 << 20));
      }
      if (operations > limits_.operations) {
        return complaint_.fail("more than %.1e operations, the most for the model of this bundle",
                               limits_.operations);
      }
      let_go(node);
    }
    return true;
  }

  // Scores of an attention that are kept as a whole.
  double scratch_bytes(const Node& node) const {
    if (!node.op.is("Attention")) return 0;
    const Shape &q = inputs_[0]->shape, &k = inputs_[1]->shape;
    return 8.0 * static_cast<double>(q.sides[0]) * static_cast<double>(q.sides[1]) *
           static_cast<double>(q.sides[2]) * static_cast<double>(k.sides[2]);
  }

  // Values that nobody needs after a node, also of its own that nobody needs at all.
  void let_go(const Node& node) {
    for (uint32_t i = 0; i < node.inputs.count; i++) uses_[value_of(node.inputs, i)]--;
    for (const Range& mentions : {node.inputs, node.outputs}) {
      for (uint32_t i = 0; i < mentions.count; i++) {
        const size_t value = value_of(mentions, i);
        if (uses_[value] != 0) continue;
        alive_ -= static_cast<double>(known_[value].bytes());
        uses_[value] = kGone;
      }
    }
  }

  bool check_outputs() {
    for (const Port& port : model_.outputs) {
      const auto value = static_cast<size_t>(model_.value(port.mention));
      const Bytes name = model_.name(port.mention);
      Known expected;
      if (!of_port(port, expected)) return false;
      const bool fits =
          is_known_[value] && known_[value].dtype == expected.dtype && known_[value].shape == expected.shape;
      if (!fits) {
        return complaint_.fail("the output '%.*s', %s, which no node gives like this", name.shown(),
                               name.text(), dtype_name(port.dtype));
      }
    }
    return true;
  }

  const Model& model_;
  const Limits& limits_;
  const Allocator& allocator_;
  Complaint& complaint_;
  Buffer<Known> known_;  // by value
  Buffer<bool> is_known_;
  Buffer<int32_t> uses_;  // that are still to come
  Buffer<const Known*> inputs_;
  Buffer<Known> outputs_;
  double alive_ = 0;  // bytes
};

}  // namespace

const Tensor* find_weight(const Bundle& bundle, Bytes name) {
  char text[128] = {};  // no tensor has a longer name
  if (name.size < sizeof text) std::memcpy(text, name.data, name.size);
  return bundle.find(text);
}

bool check_graph(const Model& model, const Bundle& bundle, const Buffer<uint8_t>& weights,
                 const Signature& signature, const Limits& limits, const Allocator& allocator,
                 Complaint& complaint) {
  for (const Initializer& tensor : model.initializers)
    if (tensor.is_stored && !check_stored(model, tensor, bundle, weights, complaint)) return false;
  List<Value> inputs(allocator), outputs(allocator);
  if (!values_of(model, model.inputs, inputs, complaint) ||
      !values_of(model, model.outputs, outputs, complaint))
    return false;
  Error& error = complaint.error();
  return check_values(complaint.file(), "input", signature.inputs, inputs, error) &&
         check_values(complaint.file(), "output", signature.outputs, outputs, error) &&
         Sizes(model, limits, allocator, complaint).check();
}

}  // namespace grt
