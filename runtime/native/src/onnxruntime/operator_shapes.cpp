#include "onnxruntime/operator_shapes.hpp"

#include <algorithm>

namespace grt::infer {

static bool give(Call& call, int32_t dtype, const Shape& shape) {
  call.out(0).dtype = dtype;
  call.out(0).shape = shape;
  return true;
}

static Shape without(const Shape& shape, uint32_t axes, bool keep) {
  Shape reduced;
  for (int32_t i = 0; i < shape.rank; i++) {
    const bool drop = (axes >> i & 1) != 0;
    if (!drop || keep) reduced.sides[reduced.rank++] = drop ? 1 : shape.sides[i];
  }
  return reduced;
}

// How large what comes out is.

bool elementwise(Call& call) {
  Shape shape;
  return call.one_dtype(0) && call.broadcast_all(shape) && give(call, call.in(0).dtype, shape);
}

bool compare(Call& call) {
  Shape shape;
  return call.one_dtype(0) && call.broadcast_all(shape) && give(call, GRT_ONNX_BOOL, shape);
}

bool where(Call& call) {
  Shape shape;
  return call.one_dtype(1) && call.broadcast_all(shape) && give(call, call.in(1).dtype, shape);
}

bool same(Call& call) { return give(call, call.in(0).dtype, call.in(0).shape); }

bool cast(Call& call) {
  const int64_t dtype = call.whole("to", 0);
  if (dtype < 0 || dtype > 100 || item_bytes(static_cast<int32_t>(dtype)) == 0)
    return call.fail("to the dtype %lld", static_cast<long long>(dtype));
  return give(call, static_cast<int32_t>(dtype), call.in(0).shape);
}

bool quantise(Call& call) { return give(call, call.in(2).dtype, call.in(0).shape); }

bool dequantise(Call& call) { return give(call, call.in(1).dtype, call.in(0).shape); }

bool reduce(Call& call) {
  const Known& x = call.in(0);
  Numbers axes;
  uint32_t mask = (1u << x.shape.rank) - 1;
  if (call.num_inputs() > 1 && !call.axes(1, x.shape.rank, axes, mask)) return false;
  return give(call, x.dtype, without(x.shape, mask, call.whole("keepdims", 1) != 0));
}

bool arg_max(Call& call) {
  const Shape& shape = call.in(0).shape;
  int32_t axis = 0;
  if (!call.axis(shape.rank, 0, axis)) return false;
  return give(call, GRT_ONNX_INT64, without(shape, 1u << axis, call.whole("keepdims", 1) != 0));
}

bool top_k(Call& call) {
  const Known& x = call.in(0);
  int32_t axis = 0;
  Numbers count;
  if (!call.axis(x.shape.rank, -1, axis) || !call.numbers(1, count)) return false;
  if (count.count != 1 || count.values[0] < 1 || count.values[0] > x.shape.sides[axis])
    return call.fail("another count than 1 to %lld", static_cast<long long>(x.shape.sides[axis]));
  Shape shape = x.shape;
  shape.sides[axis] = count.values[0];
  if (call.num_outputs() > 1) {
    call.out(1).dtype = GRT_ONNX_INT64;
    call.out(1).shape = shape;
  }
  return call.num_outputs() == 2 ? give(call, x.dtype, shape) : call.fail("%u outputs", call.num_outputs());
}

bool reshape(Call& call) {
  const Known& x = call.in(0);
  Numbers target;
  if (!call.numbers(1, target)) return false;
  if (target.count > kMaxRank) return call.fail("%d axes", target.count);
  Shape shape;
  int32_t open = -1;
  for (int32_t i = 0; i < target.count; i++) {
    const int64_t side = target.values[i];
    if (side == -1 ? open >= 0 : side < 1) return call.fail("a side of %lld", static_cast<long long>(side));
    if (side == -1) open = i;
    shape.sides[shape.rank++] = side == -1 ? 1 : side;
  }
  const int64_t known = count_of(shape), count = x.count();
  if (open >= 0 && count % known == 0) shape.sides[open] = count / known;
  const int64_t reached = open >= 0 && count % known == 0 ? count : known;
  if (count >= kHugeCount || reached != count)
    return call.fail("%lld values where %lld are", static_cast<long long>(known),
                     static_cast<long long>(count));
  return give(call, x.dtype, shape);
}

bool transpose(Call& call) {
  const Known& x = call.in(0);
  const Attribute* perm = call.attribute("perm");
  const int32_t rank = x.shape.rank;
  if (perm != nullptr && perm->ints.count != static_cast<uint32_t>(rank))
    return call.fail("perm of another rank");
  Shape shape;
  shape.rank = rank;
  uint32_t seen = 0;
  for (int32_t i = 0; i < rank; i++) {
    const int64_t axis = perm == nullptr ? rank - 1 - i : call.ints(*perm)[i];
    if (axis < 0 || axis >= rank || (seen >> axis & 1) != 0)
      return call.fail("perm of axes that are not there");
    seen |= 1u << axis;
    shape.sides[i] = x.shape.sides[axis];
  }
  return give(call, x.dtype, shape);
}

bool concat(Call& call) {
  Shape shape = call.in(0).shape;
  int32_t axis = 0;
  if (!call.axis(shape.rank, 0, axis) || !call.one_dtype(0)) return false;
  for (uint32_t i = 1; i < call.num_inputs(); i++) {
    Shape rest = call.in(i).shape;
    if (rest.rank != shape.rank) return call.fail_shapes();
    const int64_t side = rest.sides[axis];
    rest.sides[axis] = shape.sides[axis];
    if (!(rest == shape)) return call.fail_shapes();
    shape.sides[axis] = std::min(shape.sides[axis] + side, kHugeCount);
  }
  return give(call, call.in(0).dtype, shape);
}

bool split(Call& call) {
  const Known& x = call.in(0);
  const int64_t parts = call.num_outputs();
  int32_t axis = 0;
  if (!call.axis(x.shape.rank, 0, axis)) return false;
  Shape shape = x.shape;
  if (parts < 1 || call.whole("num_outputs", 0) != parts || shape.sides[axis] % parts != 0) {
    return call.fail("%lld in %lld parts", static_cast<long long>(shape.sides[axis]),
                     static_cast<long long>(parts));
  }
  shape.sides[axis] /= parts;
  for (uint32_t i = 1; i < call.num_outputs(); i++) {
    call.out(i).dtype = x.dtype;
    call.out(i).shape = shape;
  }
  return give(call, x.dtype, shape);
}

bool slice(Call& call) {
  Shape shape = call.in(0).shape;
  Numbers starts, ends, axes;
  uint32_t mask = 0;
  if (!call.numbers(1, starts) || !call.numbers(2, ends)) return false;
  if (call.num_inputs() > 3) {
    if (!call.axes(3, shape.rank, axes, mask)) return false;
  } else {
    axes.count = std::min(starts.count, shape.rank);
    for (int32_t i = 0; i < axes.count; i++) axes.values[i] = i;
  }
  if (starts.count != ends.count || starts.count != axes.count)
    return call.fail("starts, ends and axes unlike");
  for (int32_t i = 0; i < axes.count; i++) {
    const int64_t start = starts.values[i], end = ends.values[i];
    int64_t& side = shape.sides[axes.values[i]];
    if (start < 0 || start >= end || end > side) {  // counted from the front alone: see the header
      return call.fail("from %lld to %lld of %lld", static_cast<long long>(start),
                       static_cast<long long>(end), static_cast<long long>(side));
    }
    side = end - start;
  }
  return give(call, call.in(0).dtype, shape);
}

bool pad(Call& call) {
  Shape shape = call.in(0).shape;
  Numbers pads;
  if (!call.numbers(1, pads)) return false;
  const int64_t most = 2 * *std::max_element(shape.sides, shape.sides + kMaxRank);
  for (int32_t i = 0; i < pads.count; i++)
    if (pads.values[i] < 0 || pads.values[i] > most)
      return call.fail("a pad of %lld", static_cast<long long>(pads.values[i]));
  if (pads.count != 2 * shape.rank) return call.fail("%d pads", pads.count);
  const Attribute* mode = call.attribute("mode");
  if (mode != nullptr && !mode->text.is("constant") && !mode->text.is("edge"))
    return call.fail("the mode '%.*s'", mode->text.shown(), mode->text.text());
  for (int32_t i = 0; i < shape.rank; i++) shape.sides[i] += pads.values[i] + pads.values[shape.rank + i];
  return give(call, call.in(0).dtype, shape);
}

bool squeeze(Call& call) {
  const Known& x = call.in(0);
  Numbers axes;
  uint32_t mask = 0;
  if (call.num_inputs() > 1) {
    if (!call.axes(1, x.shape.rank, axes, mask)) return false;
  } else {
    for (int32_t i = 0; i < x.shape.rank; i++) mask |= x.shape.sides[i] == 1 ? 1u << i : 0;
  }
  for (int32_t i = 0; i < x.shape.rank; i++)
    if ((mask >> i & 1) != 0 && x.shape.sides[i] != 1) return call.fail("an axis of more than one");
  call.out(0).length = x.length;
  return give(call, x.dtype, without(x.shape, mask, false));
}

bool unsqueeze(Call& call) {
  const Known& x = call.in(0);
  Numbers axes;
  uint32_t mask = 0;
  if (!call.in(1).has_numbers || call.in(1).count() + x.shape.rank > kMaxRank)
    return call.fail("too many axes");
  const int32_t rank = x.shape.rank + static_cast<int32_t>(call.in(1).count());
  if (!call.axes(1, rank, axes, mask)) return false;
  Shape shape;
  for (int32_t i = 0, next = 0; i < rank; i++)
    shape.sides[shape.rank++] = (mask >> i & 1) != 0 ? 1 : x.shape.sides[next++];
  return give(call, x.dtype, shape);
}

bool shape_of(Call& call) {
  const Shape& shape = call.in(0).shape;
  if (shape.rank < 1) return call.fail("no axis");
  if (shape.rank == 1) call.out(0).length = shape.sides[0];
  Shape list;
  list.rank = 1;
  list.sides[0] = shape.rank;
  return give(call, GRT_ONNX_INT64, list);
}

bool range(Call& call) {
  Numbers start, end, step;
  if (!call.numbers(0, start) || !call.numbers(2, step)) return false;
  int64_t length = call.in(1).length;
  if (length == 0) {
    if (!call.numbers(1, end) || end.count != 1) return call.fail("no end");
    length = end.values[0];
  }
  const bool counts = start.count == 1 && start.values[0] == 0 && step.count == 1 && step.values[0] == 1;
  if (!counts || length < 1) return call.fail("another than from 0 by 1");
  Shape list;
  list.rank = 1;
  list.sides[0] = std::min(length, kHugeCount);
  return give(call, GRT_ONNX_INT64, list);
}

bool gather(Call& call) {
  const Shape &x = call.in(0).shape, &index = call.in(1).shape;
  int32_t axis = 0;
  if (!call.axis(x.rank, 0, axis)) return false;
  if (x.rank - 1 + index.rank > kMaxRank) return call.fail_shapes();
  Shape shape;
  for (int32_t i = 0; i < axis; i++) shape.sides[shape.rank++] = x.sides[i];
  for (int32_t i = 0; i < index.rank; i++) shape.sides[shape.rank++] = index.sides[i];
  for (int32_t i = axis + 1; i < x.rank; i++) shape.sides[shape.rank++] = x.sides[i];
  return give(call, call.in(0).dtype, shape);
}

bool gather_elements(Call& call) {
  const Shape &x = call.in(0).shape, &index = call.in(1).shape;
  int32_t axis = 0;
  if (!call.axis(x.rank, 0, axis)) return false;
  return index.rank == x.rank ? give(call, call.in(0).dtype, index) : call.fail_shapes();
}

bool scatter_nd(Call& call) {
  const Shape& index = call.in(1).shape;
  if (index.rank < 1 || index.sides[index.rank - 1] != 1) return call.fail("indices of more than one axis");
  return same(call);
}

bool mat_mul(Call& call) {
  const Shape &a = call.in(0).shape, &b = call.in(1).shape;
  if (a.rank < 2 || b.rank < 2 || a.sides[a.rank - 1] != b.sides[b.rank - 2]) return call.fail_shapes();
  Shape shape = a, other = b;
  shape.rank -= 2;
  other.rank -= 2;
  if (!call.one_dtype(0) || !call.broadcast(shape, other)) return false;
  shape.sides[shape.rank++] = a.sides[a.rank - 2];
  shape.sides[shape.rank++] = b.sides[b.rank - 1];
  return give(call, call.in(0).dtype, shape);
}

bool gemm(Call& call) {
  const Shape &a = call.in(0).shape, &b = call.in(1).shape;
  const bool fits = a.rank == 2 && b.rank == 2 && call.whole("transB", 0) == 1 && a.sides[1] == b.sides[1];
  if (!fits || !call.one_dtype(0)) return fits ? false : call.fail_shapes();
  Shape shape;
  shape.rank = 2;
  shape.sides[0] = a.sides[0];
  shape.sides[1] = b.sides[0];
  Shape joined = shape;
  if (call.num_inputs() > 2 && !call.broadcast(joined, call.in(2).shape)) return false;
  return joined == shape ? give(call, call.in(0).dtype, shape) : call.fail_shapes();
}

bool attention(Call& call) {
  const Shape &q = call.in(0).shape, &k = call.in(1).shape, &v = call.in(2).shape;
  const bool fits = q.rank == 4 && k.rank == 4 && v.rank == 4 && q.sides[3] == k.sides[3] &&
                    k.sides[0] == v.sides[0] && k.sides[1] == v.sides[1] && k.sides[2] == v.sides[2] &&
                    q.sides[0] == k.sides[0] && q.sides[1] == k.sides[1];
  if (!fits) return call.fail_shapes();
  Shape shape = q;
  shape.sides[3] = v.sides[3];
  return call.one_dtype(0) && give(call, call.in(0).dtype, shape);
}

}  // namespace grt::infer
