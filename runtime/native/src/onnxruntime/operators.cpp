#include "onnxruntime/operators.hpp"

#include <algorithm>

#include "onnxruntime/operator_shapes.hpp"

namespace grt {

namespace {

// How many operations that takes.

double largest(Call& call) {
  int64_t most = 0;
  for (uint32_t i = 0; i < call.num_inputs(); i++) most = std::max(most, call.in(i).count());
  for (uint32_t i = 0; i < call.num_outputs(); i++) most = std::max(most, call.out(i).count());
  return static_cast<double>(most);
}

double given(Call& call) {
  double sum = 0;
  for (uint32_t i = 0; i < call.num_outputs(); i++) sum += static_cast<double>(call.out(i).count());
  return sum;
}

double sorted(Call& call) { return 20.0 * static_cast<double>(call.in(0).count()); }

double multiplied(Call& call) {
  const Shape& a = call.in(0).shape;
  return 2.0 * static_cast<double>(call.out(0).count()) * static_cast<double>(a.sides[a.rank - 1]);
}

double attended(Call& call) {
  const Shape &q = call.in(0).shape, &k = call.in(1).shape, &v = call.in(2).shape;
  double product = 2;
  for (int32_t i = 0; i < 3; i++) product *= static_cast<double>(q.sides[i]);
  return product * static_cast<double>(k.sides[2]) * static_cast<double>(q.sides[3] + v.sides[3]);
}

struct AttributeRule {
  const char* name = nullptr;
  Attribute::Kind kind = Attribute::kInt;
};

constexpr uint32_t kMany = 1 << 16;

struct Operator {
  const char* name;
  uint32_t least, most, gives;  // inputs, and the most outputs
  bool (*infer)(Call&);
  double (*work)(Call&);
  AttributeRule attributes[3] = {};
};

constexpr AttributeRule kAxis = {"axis", Attribute::kInt}, kKeep = {"keepdims", Attribute::kInt};

constexpr Operator kOperators[] = {
    {"Add", 2, 2, 1, infer::elementwise, largest},
    {"Sub", 2, 2, 1, infer::elementwise, largest},
    {"Mul", 2, 2, 1, infer::elementwise, largest},
    {"Div", 2, 2, 1, infer::elementwise, largest},
    {"Pow", 2, 2, 1, infer::elementwise, largest},
    {"Or", 2, 2, 1, infer::elementwise, largest},
    {"Min", 1, kMany, 1, infer::elementwise, largest},
    {"Max", 1, kMany, 1, infer::elementwise, largest},
    {"Sum", 1, kMany, 1, infer::elementwise, largest},
    {"Less", 2, 2, 1, infer::compare, largest},
    {"LessOrEqual", 2, 2, 1, infer::compare, largest},
    {"Identity", 1, 1, 1, infer::same, largest},
    {"Not", 1, 1, 1, infer::same, largest},
    {"Sqrt", 1, 1, 1, infer::same, largest},
    {"Log", 1, 1, 1, infer::same, largest},
    {"Round", 1, 1, 1, infer::same, largest},
    {"Clip", 3, 3, 1, infer::same, largest},
    {"Where", 3, 3, 1, infer::where, largest},
    {"Cast", 1, 1, 1, infer::cast, largest, {{"to", Attribute::kInt}}},
    {"Gelu", 1, 1, 1, infer::same, largest, {{"approximate", Attribute::kText}}},
    {"Softmax", 1, 1, 1, infer::same, largest, {kAxis}},
    {"RMSNormalization", 2, 2, 1, infer::same, largest, {kAxis, {"epsilon", Attribute::kFloat}}},
    {"QuantizeLinear", 3, 3, 1, infer::quantise, largest, {kAxis}},
    {"DequantizeLinear", 3, 3, 1, infer::dequantise, largest, {kAxis}},
    {"ReduceSum", 1, 2, 1, infer::reduce, largest, {kKeep}},
    {"ReduceMean", 1, 2, 1, infer::reduce, largest, {kKeep}},
    {"ArgMax", 1, 1, 1, infer::arg_max, largest, {kAxis, kKeep, {"select_last_index", Attribute::kInt}}},
    {"TopK", 2, 2, 2, infer::top_k, sorted, {kAxis}},
    {"Reshape", 2, 2, 1, infer::reshape, largest},
    {"Transpose", 1, 1, 1, infer::transpose, largest, {{"perm", Attribute::kInts}}},
    {"Concat", 1, kMany, 1, infer::concat, largest, {kAxis}},
    {"Split", 1, 1, kMany, infer::split, largest, {kAxis, {"num_outputs", Attribute::kInt}}},
    {"Slice", 3, 4, 1, infer::slice, given},
    {"Pad", 2, 2, 1, infer::pad, largest, {{"mode", Attribute::kText}}},
    {"Squeeze", 1, 2, 1, infer::squeeze, largest},
    {"Unsqueeze", 2, 2, 1, infer::unsqueeze, largest},
    {"Shape", 1, 1, 1, infer::shape_of, given},
    {"Range", 3, 3, 1, infer::range, largest},
    {"Gather", 2, 2, 1, infer::gather, given, {kAxis}},
    {"GatherElements", 2, 2, 1, infer::gather_elements, given, {kAxis}},
    {"ScatterElements", 3, 3, 1, infer::same, largest, {kAxis}},
    {"ScatterND", 3, 3, 1, infer::scatter_nd, largest},
    {"MatMul", 2, 2, 1, infer::mat_mul, multiplied},
    {"Gemm", 2, 3, 1, infer::gemm, multiplied, {{"transB", Attribute::kInt}}},
    {"Attention", 3, 3, 1, infer::attention, attended, {{"scale", Attribute::kFloat}}},
};

bool check_attributes(const Model& model, const Operator& op, Call& call) {
  for (uint32_t i = 0; i < call.node().attributes.count; i++) {
    const Attribute& found = model.attributes[call.node().attributes.first + i];
    bool is_known = false;
    for (const AttributeRule& rule : op.attributes)
      is_known = is_known || (rule.name != nullptr && found.name.is(rule.name) && rule.kind == found.kind);
    if (!is_known) return call.fail("the attribute %.*s", found.name.shown(), found.name.text());
  }
  return true;
}

}  // namespace

int64_t count_of(const Shape& shape) {
  int64_t product = 1;
  for (int32_t i = 0; i < shape.rank; i++) {
    if (product > kHugeCount / shape.sides[i]) return kHugeCount;
    product *= shape.sides[i];
  }
  return product;
}

int64_t Known::bytes() const { return count() * item_bytes(dtype); }

int64_t Known::number(int64_t i) const {
  uint64_t value = 0;
  for (int byte = 7; byte >= 0; byte--) value = value << 8 | numbers.data[8 * i + byte];
  return static_cast<int64_t>(value);
}

bool infer_node(const Model& model, const Node& node, const Known* const* inputs, Known* outputs,
                double& operations, Complaint& complaint) {
  const Operator* op = nullptr;
  for (const Operator& each : kOperators)
    if (node.op.is(each.name)) op = &each;
  if (op == nullptr) {
    return complaint.fail("the operator '%.*s', which no exported graph has", node.op.shown(),
                          node.op.text());
  }
  Call call(model, node, inputs, outputs, complaint);
  const bool fits = op->least <= call.num_inputs() && call.num_inputs() <= op->most &&
                    call.num_outputs() >= 1 && call.num_outputs() <= op->gives;
  if (!fits) return call.fail("%u inputs and %u outputs", call.num_inputs(), call.num_outputs());
  if (!check_attributes(model, *op, call) || !op->infer(call)) return false;
  operations += op->work(call);
  return true;
}

}  // namespace grt
