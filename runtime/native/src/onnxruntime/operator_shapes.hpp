// How large what an operator gives is, for `operators.cpp`.
#pragma once

#include <algorithm>

#include "onnxruntime/operators.hpp"

namespace grt {

constexpr int32_t kMostNumbers = 2 * kMaxRank;

// The whole numbers of an input that decides about shapes.
struct Numbers {
  int64_t values[kMostNumbers] = {};
  int32_t count = 0;
};

// One node with what is known of its inputs.
class Call {
 public:
  Call(const Model& model, const Node& node, const Known* const* inputs, Known* outputs, Complaint& complaint)
      : model_(model), node_(node), inputs_(inputs), outputs_(outputs), complaint_(complaint) {}

  uint32_t num_inputs() const { return node_.inputs.count; }
  uint32_t num_outputs() const { return node_.outputs.count; }
  const Known& in(uint32_t i) const { return *inputs_[i]; }
  Known& out(uint32_t i) { return outputs_[i]; }
  const Node& node() const { return node_; }

  [[gnu::format(printf, 2, 3)]] bool fail(const char* format, ...) {
    char with[160];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(with, sizeof with, format, arguments);
    va_end(arguments);
    const Bytes name =
        node_.name.size > 0 || node_.outputs.count == 0 ? node_.name : model_.name(node_.outputs.first);
    return complaint_.fail("the node '%.*s' (%.*s) with %s", name.shown(), name.size > 0 ? name.text() : "",
                           node_.op.shown(), node_.op.text(), with);
  }
  bool fail_shapes() {
    char text[2][80];
    show(in(0).shape, text[0]);
    show(in(num_inputs() > 1 ? 1 : 0).shape, text[1]);
    return fail("inputs of the shapes %s and %s", text[0], text[1]);
  }

  const Attribute* attribute(const char* name) const {
    for (uint32_t i = 0; i < node_.attributes.count; i++) {
      const Attribute& found = model_.attributes[node_.attributes.first + i];
      if (found.name.is(name)) return &found;
    }
    return nullptr;
  }
  int64_t whole(const char* name, int64_t otherwise) const {
    const Attribute* found = attribute(name);
    return found == nullptr ? otherwise : found->whole;
  }
  const int64_t* ints(const Attribute& attribute) const { return &model_.ints[attribute.ints.first]; }

  bool axis_of(int64_t axis, int32_t rank, int32_t& found) {
    if (axis < -rank || axis >= rank) return fail("axis %lld of %d", static_cast<long long>(axis), rank);
    found = static_cast<int32_t>(axis < 0 ? axis + rank : axis);
    return true;
  }
  bool axis(int32_t rank, int64_t otherwise, int32_t& found) {
    return axis_of(whole("axis", otherwise), rank, found);
  }

  // Those of an input that may not depend on what is computed.
  bool numbers(uint32_t index, Numbers& found) {
    const Known& value = in(index);
    if (!value.has_numbers || value.count() > kMostNumbers) {
      const Bytes name = model_.name(node_.inputs.first + index);
      return fail("'%.*s', which decides about a shape and is not known in advance", name.shown(),
                  name.text());
    }
    found.count = static_cast<int32_t>(value.count());
    for (int32_t i = 0; i < found.count; i++) found.values[i] = value.number(i);
    return true;
  }
  // Those of an input that is a list of axes, each once, as a bit each.
  bool axes(uint32_t index, int32_t rank, Numbers& found, uint32_t& mask) {
    if (!numbers(index, found)) return false;
    mask = 0;
    for (int32_t i = 0; i < found.count; i++) {
      int32_t place = 0;
      if (!axis_of(found.values[i], rank, place)) return false;
      if ((mask >> place & 1) != 0) return fail("an axis twice");
      mask |= 1u << place;
      found.values[i] = place;
    }
    return true;
  }

  bool one_dtype(uint32_t first) {
    for (uint32_t i = first + 1; i < num_inputs(); i++) {
      if (in(i).dtype != in(first).dtype)
        return fail("%s and %s together", dtype_name(in(first).dtype), dtype_name(in(i).dtype));
    }
    return true;
  }

  // `to` becomes the shape that it and another have once they are broadcast.
  bool broadcast(Shape& to, const Shape& other) {
    Shape joined;
    joined.rank = std::max(to.rank, other.rank);
    for (int32_t i = 0; i < joined.rank; i++) {
      const int32_t x = i - (joined.rank - to.rank), y = i - (joined.rank - other.rank);
      const int64_t a = x < 0 ? 1 : to.sides[x], b = y < 0 ? 1 : other.sides[y];
      if (a != b && a != 1 && b != 1) return fail_shapes();
      joined.sides[i] = std::max(a, b);
    }
    to = joined;
    return true;
  }
  bool broadcast_all(Shape& shape) {
    shape = in(0).shape;
    for (uint32_t i = 1; i < num_inputs(); i++)
      if (!broadcast(shape, in(i).shape)) return false;
    return true;
  }

 private:
  static void show(const Shape& shape, char (&text)[80]) {
    size_t length = 0;
    text[length++] = '[';
    for (int32_t i = 0; i < shape.rank && length < sizeof text - 24; i++) {
      length +=
          static_cast<size_t>(std::snprintf(text + length, sizeof text - length, i > 0 ? ", %lld" : "%lld",
                                            static_cast<long long>(shape.sides[i])));
    }
    std::snprintf(text + length, sizeof text - length, "]");
  }

  const Model& model_;
  const Node& node_;
  const Known* const* inputs_;
  Known* outputs_;
  Complaint& complaint_;
};

// One for each kind of operator: sets the call's outputs, or says what is wrong with it.
namespace infer {

bool elementwise(Call& call);
bool compare(Call& call);
bool where(Call& call);
bool same(Call& call);
bool cast(Call& call);
bool quantise(Call& call);
bool dequantise(Call& call);
bool reduce(Call& call);
bool arg_max(Call& call);
bool top_k(Call& call);
bool reshape(Call& call);
bool transpose(Call& call);
bool concat(Call& call);
bool split(Call& call);
bool slice(Call& call);
bool pad(Call& call);
bool squeeze(Call& call);
bool unsqueeze(Call& call);
bool shape_of(Call& call);
bool range(Call& call);
bool gather(Call& call);
bool gather_elements(Call& call);
bool scatter_nd(Call& call);
bool mat_mul(Call& call);
bool gemm(Call& call);
bool attention(Call& call);

}  // namespace infer

}  // namespace grt
