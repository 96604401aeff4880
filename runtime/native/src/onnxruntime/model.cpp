#include "onnxruntime/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace grt {

namespace {

constexpr Encoding kVarint = Encoding::kVarint, kBlock = Encoding::kBlock, kFixed32 = Encoding::kFixed32;
constexpr bool kRepeated = true;
constexpr size_t kMaxNameBytes = 1000;
constexpr int64_t kMaxSide = int64_t{1} << 40;
// More than a node has, with its inputs and its constants; `Concat` of many pages included.
constexpr int64_t kFieldsPerNode = 60;
constexpr uint64_t kExternal = 1;  // TensorProto.DataLocation
constexpr const char* kWeights = "weights.safetensors";

constexpr Field kModelFields[] = {{1, "ir_version", kVarint},
                                  {2, "producer_name", kBlock},
                                  {7, "graph", kBlock},
                                  {8, "opset_import", kBlock, kRepeated}};
constexpr Field kOpsetFields[] = {{1, "domain", kBlock}, {2, "version", kVarint}};
constexpr Field kGraphFields[] = {{1, "node", kBlock, kRepeated},
                                  {2, "name", kBlock},
                                  {5, "initializer", kBlock, kRepeated},
                                  {11, "input", kBlock, kRepeated},
                                  {12, "output", kBlock, kRepeated}};
constexpr Field kNodeFields[] = {{1, "input", kBlock, kRepeated},
                                 {2, "output", kBlock, kRepeated},
                                 {3, "name", kBlock},
                                 {4, "op_type", kBlock},
                                 {5, "attribute", kBlock, kRepeated}};
constexpr Field kAttributeFields[] = {{1, "name", kBlock},
                                      {2, "f", kFixed32},
                                      {3, "i", kVarint},
                                      {4, "s", kBlock},
                                      {8, "ints", kVarint, kRepeated},
                                      {20, "type", kVarint}};
constexpr Field kTensorFields[] = {{1, "dims", kVarint, kRepeated},
                                   {2, "data_type", kVarint},
                                   {8, "name", kBlock},
                                   {9, "raw_data", kBlock},
                                   {13, "external_data", kBlock, kRepeated},
                                   {14, "data_location", kVarint}};
constexpr Field kPairFields[] = {{1, "key", kBlock}, {2, "value", kBlock}};
constexpr Field kValueFields[] = {{1, "name", kBlock}, {2, "type", kBlock}};
constexpr Field kTypeFields[] = {{1, "tensor_type", kBlock}};
constexpr Field kTensorTypeFields[] = {{1, "elem_type", kVarint}, {2, "shape", kBlock}};
constexpr Field kShapeFields[] = {{1, "dim", kBlock, kRepeated}};
constexpr Field kDimFields[] = {{1, "dim_value", kVarint}, {2, "dim_param", kBlock}};

template <size_t count>
constexpr MessageKind kind_of(const char* name, const Field (&fields)[count]) {
  return {name, fields, count};
}

constexpr MessageKind kModel = kind_of("ModelProto", kModelFields);
constexpr MessageKind kOpset = kind_of("OperatorSetIdProto", kOpsetFields);
constexpr MessageKind kGraph = kind_of("GraphProto", kGraphFields);
constexpr MessageKind kNode = kind_of("NodeProto", kNodeFields);
constexpr MessageKind kAttribute = kind_of("AttributeProto", kAttributeFields);
constexpr MessageKind kTensor = kind_of("TensorProto", kTensorFields);
constexpr MessageKind kPair = kind_of("StringStringEntryProto", kPairFields);
constexpr MessageKind kValue = kind_of("ValueInfoProto", kValueFields);
constexpr MessageKind kType = kind_of("TypeProto", kTypeFields);
constexpr MessageKind kTensorType = kind_of("TypeProto.Tensor", kTensorTypeFields);
constexpr MessageKind kShape = kind_of("TensorShapeProto", kShapeFields);
constexpr MessageKind kDim = kind_of("TensorShapeProto.Dimension", kDimFields);

// By opset: what ONNX paired it with when it came out, so that engines of that time read it.
int64_t ir_version_of(int64_t opset) { return opset == 20 ? 9 : opset == 23 ? 11 : 0; }

bool check_name(Bytes name, Complaint& complaint) {
  if (name.size < 1 || name.size > kMaxNameBytes)
    return complaint.fail("a name of %zu characters", name.size);
  for (size_t i = 0; i < name.size; i++)
    if (name.data[i] < ' ' || name.data[i] > '~')
      return complaint.fail("a name that is not of ASCII's letters");
  return true;
}

bool check_dtype(uint64_t dtype, Complaint& complaint) {
  if (dtype < 100 && item_bytes(static_cast<int32_t>(dtype)) > 0) return true;
  return complaint.fail("the dtype %llu, which no exported graph has",
                        static_cast<unsigned long long>(dtype));
}

bool add_side(Shape& shape, uint64_t side, Bytes name, Complaint& complaint) {
  if (shape.rank == kMaxRank)
    return complaint.fail("'%.*s' of more than %d axes", name.shown(), name.text(), kMaxRank);
  if (side < 1 || side >= static_cast<uint64_t>(kMaxSide)) {
    return complaint.fail("'%.*s' with a side of %llu", name.shown(), name.text(),
                          static_cast<unsigned long long>(side));
  }
  shape.sides[shape.rank++] = static_cast<int64_t>(side);
  return true;
}

// Bytes of a tensor; -1 if nothing has so many.
int64_t bytes_of(int32_t dtype, const Shape& shape) {
  int64_t bytes = item_bytes(dtype);
  for (int32_t i = 0; i < shape.rank; i++) {
    if (bytes > kMaxSide / shape.sides[i]) return -1;
    bytes *= shape.sides[i];
  }
  return bytes;
}

// Digits alone, at most 18.
bool read_digits(Bytes text, uint64_t& value) {
  value = 0;
  if (text.size < 1 || text.size > 18) return false;
  for (size_t i = 0; i < text.size; i++) {
    if (text.data[i] < '0' || text.data[i] > '9') return false;
    value = 10 * value + (text.data[i] - '0');
  }
  return true;
}

}  // namespace

int64_t item_bytes(int32_t dtype) {
  switch (dtype) {
    case GRT_ONNX_FLOAT32:
      return 4;
    case GRT_ONNX_INT64:
      return 8;
    case GRT_ONNX_UINT8:
    case GRT_ONNX_INT8:
    case GRT_ONNX_BOOL:
      return 1;
    case GRT_ONNX_FLOAT16:
    case GRT_ONNX_BFLOAT16:
      return 2;
    default:
      return 0;
  }
}

const char* dtype_name(int32_t dtype) {
  switch (dtype) {
    case GRT_ONNX_FLOAT32:
      return "float32";
    case GRT_ONNX_INT64:
      return "int64";
    case GRT_ONNX_UINT8:
      return "uint8";
    case GRT_ONNX_INT8:
      return "int8";
    case GRT_ONNX_BOOL:
      return "bool";
    case GRT_ONNX_FLOAT16:
      return "float16";
    case GRT_ONNX_BFLOAT16:
      return "bfloat16";
    default:
      return "unknown";
  }
}

bool Model::read(Bytes data, int64_t max_nodes, Complaint& complaint) {
  const int64_t max_fields = kFieldsPerNode * (max_nodes + 100);
  FieldBudget budget{max_fields, max_fields};
  Message model(kModel, data, budget, complaint);
  Bytes graph;
  uint64_t ir_version = 0;
  int32_t num_opsets = 0;
  while (model.next()) {
    if (model.number() == 1) ir_version = model.whole();
    if (model.number() == 7) graph = model.block();
    if (model.number() == 8 && (num_opsets++, !read_opset(model.block(), budget, complaint))) return false;
  }
  if (model.failed()) return false;
  if (num_opsets != 1 || !model.has(7))
    return complaint.fail("no graph of the standard operators, and of these alone");
  if (ir_version_of(opset) == 0) {
    return complaint.fail("opset %lld, and this version knows 20 or 23; update genie-rt, or",
                          static_cast<long long>(opset));
  }
  if (ir_version != static_cast<uint64_t>(ir_version_of(opset))) {
    return complaint.fail("IR version %llu with opset %lld, which has %lld",
                          static_cast<unsigned long long>(ir_version), static_cast<long long>(opset),
                          static_cast<long long>(ir_version_of(opset)));
  }
  return read_graph(graph, max_nodes, budget, complaint) && number_values(complaint);
}

bool Model::read_opset(Bytes data, FieldBudget& budget, Complaint& complaint) {
  Message found(kOpset, data, budget, complaint);
  while (found.next()) {
    if (found.number() == 1 && found.block().size > 0)
      return complaint.fail("no graph of the standard operators, and of these alone");
    if (found.number() == 2) opset = static_cast<int64_t>(std::min<uint64_t>(found.whole(), 1000000));
  }
  return !found.failed();
}

bool Model::read_graph(Bytes data, int64_t max_nodes, FieldBudget& budget, Complaint& complaint) {
  Message graph(kGraph, data, budget, complaint);
  Bytes name;
  while (graph.next()) {
    bool ok = true;
    switch (graph.number()) {
      case 1:
        if (static_cast<int64_t>(nodes.size()) == max_nodes) {
          return complaint.fail("more than %lld nodes, the most for the model of this bundle",
                                static_cast<long long>(max_nodes));
        }
        ok = read_node(graph.block(), budget, complaint);
        break;
      case 2:
        name = graph.block();
        break;
      case 5:
        ok = read_initializer(graph.block(), budget, complaint);
        break;
      case 11:
        ok = read_port(graph.block(), inputs, budget, complaint);
        break;
      default:
        ok = read_port(graph.block(), outputs, budget, complaint);
    }
    if (!ok) return false;
  }
  return !graph.failed() && check_name(name, complaint);
}

bool Model::read_node(Bytes data, FieldBudget& budget, Complaint& complaint) {
  Node node;
  node.inputs.first = node.outputs.first = static_cast<uint32_t>(mentions.size());
  node.attributes.first = static_cast<uint32_t>(attributes.size());
  Message found(kNode, data, budget, complaint);
  while (found.next()) {  // in the order of the numbers: names of one kind stand side by side
    uint32_t index;
    bool ok = true;
    switch (found.number()) {
      case 1:
        ok = mention(found.block(), index, complaint);
        node.outputs.first++;
        node.inputs.count++;
        break;
      case 2:
        ok = mention(found.block(), index, complaint);
        node.outputs.count++;
        break;
      case 3:
        node.name = found.block();
        ok = node.name.size == 0 || check_name(node.name, complaint);
        break;
      case 4:
        node.op = found.block();
        break;
      default:
        ok = read_attribute(found.block(), node, budget, complaint);
        node.attributes.count++;
    }
    if (!ok) return false;
  }
  return !found.failed() && check_name(node.op, complaint) && nodes.add(node, complaint.error());
}

bool Model::read_attribute(Bytes data, const Node& node, FieldBudget& budget, Complaint& complaint) {
  Attribute attribute;
  attribute.ints.first = static_cast<uint32_t>(ints.size());
  uint64_t type = 0;
  int32_t num_values = 0;
  Message found(kAttribute, data, budget, complaint);
  while (found.next()) {
    const auto take = [&](Attribute::Kind kind) {
      attribute.kind = kind;
      num_values++;
    };
    switch (found.number()) {
      case 1:
        attribute.name = found.block();
        break;
      case 2:
        attribute.real = found.real();
        take(Attribute::kFloat);
        break;
      case 3:
        attribute.whole = found.whole_signed();
        take(Attribute::kInt);
        break;
      case 4:
        attribute.text = found.block();
        take(Attribute::kText);
        break;
      case 8:
        if (!ints.add(found.whole_signed(), complaint.error())) return false;
        if (attribute.ints.count++ == 0) take(Attribute::kInts);
        break;
      default:
        type = found.whole();
    }
  }
  if (found.failed() || !check_name(attribute.name, complaint)) return false;
  const Bytes name = attribute.name;
  if (num_values != 1 || type != attribute.kind) {
    return complaint.fail("the attribute %.*s of %.*s without one value of the type that it names",
                          name.shown(), name.text(), node.op.shown(), node.op.text());
  }
  if (attribute.kind == Attribute::kFloat && !std::isfinite(attribute.real)) {
    return complaint.fail("the attribute %.*s of %.*s: %g", name.shown(), name.text(), node.op.shown(),
                          node.op.text(), static_cast<double>(attribute.real));
  }
  for (size_t i = node.attributes.first; i < attributes.size(); i++) {
    if (attributes[i].name == name) {
      return complaint.fail("the attribute %.*s of %.*s twice", name.shown(), name.text(), node.op.shown(),
                            node.op.text());
    }
  }
  return attributes.add(attribute, complaint.error());
}

bool Model::read_initializer(Bytes data, FieldBudget& budget, Complaint& complaint) {
  Initializer tensor;
  Bytes name;
  uint64_t dtype = 0, location = 0, dims[kMaxRank + 1] = {};
  int32_t rank = 0;
  uint32_t place = 0;  // a bit each for location, offset and length
  Message found(kTensor, data, budget, complaint);
  while (found.next()) {
    switch (found.number()) {
      case 1:
        if (rank <= kMaxRank) dims[rank++] = found.whole();
        break;
      case 2:
        dtype = found.whole();
        break;
      case 8:
        name = found.block();
        break;
      case 9:
        tensor.data = found.block();
        break;
      case 13:
        if (!read_place(found.block(), tensor, place, budget, complaint)) return false;
        break;
      default:
        location = found.whole();
    }
  }
  if (found.failed() || !mention(name, tensor.mention, complaint) || !check_dtype(dtype, complaint))
    return false;
  tensor.dtype = static_cast<int32_t>(dtype);
  for (int32_t i = 0; i < rank; i++)
    if (!add_side(tensor.shape, dims[i], name, complaint)) return false;
  tensor.is_stored = location == kExternal && !found.has(9);
  const bool is_inside = !found.has(14) && !found.has(13) && found.has(9);
  if (!tensor.is_stored && !is_inside) {
    return complaint.fail("the tensor '%.*s' neither in the graph nor in '%s' alone", name.shown(),
                          name.text(), kWeights);
  }
  if (tensor.is_stored && place != 7) {
    return complaint.fail("the weights '%.*s' without location, offset and length, and these alone",
                          name.shown(), name.text());
  }
  const uint64_t size = tensor.is_stored ? tensor.length : tensor.data.size;
  const int64_t expected = bytes_of(tensor.dtype, tensor.shape);
  if (expected < 0 || size != static_cast<uint64_t>(expected)) {
    return complaint.fail("%llu bytes for '%.*s', %s of %lld bytes", static_cast<unsigned long long>(size),
                          name.shown(), name.text(), dtype_name(tensor.dtype),
                          static_cast<long long>(expected));
  }
  return initializers.add(tensor, complaint.error());
}

// One of location, offset and length in the file of weights.
bool Model::read_place(Bytes data, Initializer& tensor, uint32_t& place, FieldBudget& budget,
                       Complaint& complaint) {
  Bytes key, value;
  Message found(kPair, data, budget, complaint);
  while (found.next()) (found.number() == 1 ? key : value) = found.block();
  if (found.failed()) return false;
  const uint32_t bit = key.is("location") ? 1 : key.is("offset") ? 2 : key.is("length") ? 4 : 0;
  if (bit == 0 || (place & bit) != 0)
    return complaint.fail("weights without location, offset and length, each once, and these alone");
  place |= bit;
  if (bit == 1) {
    return value.is(kWeights) ||
           complaint.fail("weights in another file than '%s', by a name of %zu bytes", kWeights, value.size);
  }
  return read_digits(value, bit == 2 ? tensor.offset : tensor.length) ||
         complaint.fail("weights at %s that is no number", bit == 2 ? "an offset" : "a length");
}

bool Model::read_port(Bytes data, List<Port>& ports, FieldBudget& budget, Complaint& complaint) {
  Port port;
  Bytes name, type, tensor_type, shape;
  Message value(kValue, data, budget, complaint);
  while (value.next()) (value.number() == 1 ? name : type) = value.block();
  if (value.failed() || !mention(name, port.mention, complaint)) return false;
  Message of_type(kType, type, budget, complaint);
  while (of_type.next()) tensor_type = of_type.block();
  if (of_type.failed()) return false;
  uint64_t dtype = 0;
  Message tensor(kTensorType, tensor_type, budget, complaint);
  while (tensor.next()) {
    if (tensor.number() == 1) dtype = tensor.whole();
    else shape = tensor.block();
  }
  if (tensor.failed()) return false;
  if (!tensor.has(2)) return complaint.fail("'%.*s' without a shape", name.shown(), name.text());
  Message sides(kShape, shape, budget, complaint);
  while (sides.next()) {
    Message side(kDim, sides.block(), budget, complaint);
    uint64_t size = 0;
    Bytes side_name;
    while (side.next()) {
      if (side.number() == 1) size = side.whole();
      else side_name = side.block();
    }
    if (side.failed()) return false;
    if (side.has(1) == side.has(2))
      return complaint.fail("'%.*s' with a side of no one size", name.shown(), name.text());
    const int32_t axis = port.shape.rank;
    if (!add_side(port.shape, side.has(2) ? 1 : size, name, complaint)) return false;
    if (side.has(2)) {
      if (!check_name(side_name, complaint)) return false;
      port.shape.sides[axis] = 0;
      port.side_names[axis] = side_name;
    }
  }
  if (sides.failed() || !check_dtype(dtype, complaint)) return false;
  port.dtype = static_cast<int32_t>(dtype);
  return ports.add(port, complaint.error());
}

bool Model::mention(Bytes name, uint32_t& index, Complaint& complaint) {
  index = static_cast<uint32_t>(mentions.size());
  return check_name(name, complaint) && mentions.add(name, complaint.error());
}

// Finds out which mentions are of one value. By sorting: names can be chosen so that a hash table is slow.
bool Model::number_values(Complaint& complaint) {
  const size_t count = mentions.size();
  Buffer<uint32_t> sorted;
  if (!sorted.create(allocator_, count, complaint.error()) ||
      !values_.create(allocator_, count, complaint.error()))
    return false;
  for (size_t i = 0; i < count; i++) sorted[i] = static_cast<uint32_t>(i);
  const auto compare = [this](uint32_t a, uint32_t b) {
    const Bytes x = mentions[a], y = mentions[b];
    const int order = std::memcmp(x.data, y.data, std::min(x.size, y.size));
    return order != 0 ? order : (x.size > y.size) - (x.size < y.size);
  };
  std::sort(sorted.begin(), sorted.end(), [&](uint32_t a, uint32_t b) { return compare(a, b) < 0; });
  for (size_t i = 0; i < count; i++) {
    if (i > 0 && compare(sorted[i - 1], sorted[i]) != 0) num_values_++;
    values_[sorted[i]] = num_values_;
  }
  if (count > 0) num_values_++;
  return true;
}

}  // namespace grt
