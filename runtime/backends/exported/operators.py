"""The operators that exported graphs are made of: what each takes, and how large what it gives becomes.

`genie-rt export` writes no others, and no others run: not `Loop`, whose trips may never end, nor any that
makes much of little, such as `Expand` or `ConstantOfShape`. Every size is known before anything runs. Sides
without a fixed size are taken at their largest; with smaller ones no operator here gives more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from genie_rt.runtime.backends.exported.onnx_model import DTYPES, ITEM_BYTES, MAX_RANK, Attribute, Node

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a value before anything runs.

    Attributes:
        numbers: its values, of integers that stand in the graph; else None.
        length: its one value where that is the length of a list, which may be any up to this; else None.
    """

    dtype: str
    shape: Shape
    numbers: tuple[int, ...] | None = None
    length: int | None = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.count * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One node with what is known of its inputs."""

    node: Node
    inputs: Sequence[Known]

    def attribute(self, name: str, default: Attribute) -> int:
        """A whole number, of an axis say."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise ValueError(f"{name} {value!r}")
        return value

    def axis(self, rank: int, default: int = 0) -> int:
        return _axis(self.attribute("axis", default), rank)

    def numbers(self, index: int) -> tuple[int, ...]:
        """An input that decides about shapes, which may not depend on what is computed."""
        found = self.inputs[index].numbers
        if found is None:
            raise ValueError(f"{self.node.inputs[index]!r} decides about a shape and is not known in advance")
        return found


Infer = Callable[[Call], list[Known]]
Work = Callable[[Call, Sequence[Known]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What a node of one operator may be.

    Attributes:
        takes: the least and the most inputs.
        infer: what it gives.
        attributes: with the type of each.
        work: operations, of what goes in and out.
        gives: the most outputs.
    """

    takes: tuple[int, int]
    infer: Infer
    attributes: Mapping[str, type]
    work: Work
    gives: int = 1


# How large what comes out is.


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def _axes(axes: Sequence[int], rank: int) -> list[int]:
    found = [_axis(axis, rank) for axis in axes]
    if len(set(found)) < len(found):
        raise ValueError(f"axes {list(axes)}")
    return found


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _together(*shapes: Shape) -> Shape:
    """The shape that operands have once they are broadcast."""
    rank = max(map(len, shapes))
    sides = []
    for column in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        sizes = set(column) - {1}
        if len(sizes) > 1:
            raise ValueError(f"shapes {[list(shape) for shape in shapes]} together")
        sides.append(max(column))
    return tuple(sides)


def _one_dtype(values: Sequence[Known]) -> str:
    dtypes = {value.dtype for value in values}
    if len(dtypes) > 1:
        raise ValueError(f"{' and '.join(sorted(dtypes))} together")
    return dtypes.pop()


def _elementwise(call: Call) -> list[Known]:
    shape = _together(*(value.shape for value in call.inputs))
    return [Known(dtype=_one_dtype(call.inputs), shape=shape)]


def _compare(call: Call) -> list[Known]:
    return [Known(dtype="bool", shape=_elementwise(call)[0].shape)]


def _where(call: Call) -> list[Known]:
    shape = _together(*(value.shape for value in call.inputs))
    return [Known(dtype=_one_dtype(call.inputs[1:]), shape=shape)]


def _same(call: Call) -> list[Known]:
    return [Known(dtype=call.inputs[0].dtype, shape=call.inputs[0].shape)]


def _scatter_nd(call: Call) -> list[Known]:
    indices = call.inputs[1].shape
    if indices[-1:] != (1,):
        raise ValueError(f"indices of more than one axis, {list(indices)}")
    return _same(call)


def _cast(call: Call) -> list[Known]:
    code = call.attribute("to", 0)
    dtype = next((name for name, known in DTYPES.items() if known == code), None)
    if dtype is None:
        raise ValueError(f"to the dtype {code}")
    return [Known(dtype=dtype, shape=call.inputs[0].shape)]


def _quantise(call: Call) -> list[Known]:
    return [Known(dtype=call.inputs[2].dtype, shape=call.inputs[0].shape)]


def _dequantise(call: Call) -> list[Known]:
    return [Known(dtype=call.inputs[1].dtype, shape=call.inputs[0].shape)]


def _reduced(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if keep:
        return tuple(1 if axis in axes else side for axis, side in enumerate(shape))
    return tuple(side for axis, side in enumerate(shape) if axis not in axes)


def _reduce(call: Call) -> list[Known]:
    x = call.inputs[0]
    rank = len(x.shape)
    axes = _axes(call.numbers(1), rank) if len(call.inputs) > 1 else list(range(rank))
    return [Known(dtype=x.dtype, shape=_reduced(x.shape, axes, bool(call.attribute("keepdims", 1))))]


def _arg_max(call: Call) -> list[Known]:
    shape = call.inputs[0].shape
    axes = [call.axis(len(shape))]
    return [Known(dtype="int64", shape=_reduced(shape, axes, bool(call.attribute("keepdims", 1))))]


def _top_k(call: Call) -> list[Known]:
    x = call.inputs[0]
    axis, (count,) = call.axis(len(x.shape), -1), call.numbers(1)
    if not 1 <= count <= x.shape[axis]:
        raise ValueError(f"the largest {count} of {x.shape[axis]}")
    shape = _with(x.shape, axis, count)
    return [Known(dtype=x.dtype, shape=shape), Known(dtype="int64", shape=shape)]


def _reshape(call: Call) -> list[Known]:
    x, target = call.inputs[0], list(call.numbers(1))
    if target.count(-1) > 1 or not all(side == -1 or side > 0 for side in target):
        raise ValueError(f"to the shape {target}")
    if -1 in target:
        rest = -math.prod(target)
        if x.count % rest:
            raise ValueError(f"{list(x.shape)} to the shape {target}")
        target[target.index(-1)] = x.count // rest
    if math.prod(target) != x.count:
        raise ValueError(f"{list(x.shape)} to the shape {target}")
    return [Known(dtype=x.dtype, shape=tuple(target))]


def _transpose(call: Call) -> list[Known]:
    x = call.inputs[0]
    order = call.node.attributes.get("perm", tuple(reversed(range(len(x.shape)))))
    if not isinstance(order, tuple) or sorted(order) != list(range(len(x.shape))):
        raise ValueError(f"perm {order!r} of {len(x.shape)} axes")
    return [Known(dtype=x.dtype, shape=tuple(x.shape[axis] for axis in order))]


def _concat(call: Call) -> list[Known]:
    first = call.inputs[0].shape
    axis = call.axis(len(first))
    rests = {_with(value.shape, axis, 0) for value in call.inputs if len(value.shape) == len(first)}
    if rests != {_with(first, axis, 0)} or any(len(value.shape) != len(first) for value in call.inputs):
        raise ValueError(f"shapes {[list(value.shape) for value in call.inputs[:4]]} together")
    size = sum(value.shape[axis] for value in call.inputs)
    return [Known(dtype=_one_dtype(call.inputs), shape=_with(first, axis, size))]


def _split(call: Call) -> list[Known]:
    x, parts = call.inputs[0], len(call.node.outputs)
    axis = call.axis(len(x.shape))
    if call.attribute("num_outputs", 0) != parts or x.shape[axis] % parts:
        raise ValueError(f"{x.shape[axis]} in {parts} parts")
    return [Known(dtype=x.dtype, shape=_with(x.shape, axis, x.shape[axis] // parts))] * parts


def _slice(call: Call) -> list[Known]:
    x = call.inputs[0]
    starts, ends = call.numbers(1), call.numbers(2)
    axes = call.numbers(3) if len(call.inputs) > 3 else tuple(range(len(starts)))
    if not len(starts) == len(ends) == len(axes):
        raise ValueError(f"from {list(starts)} to {list(ends)} of the axes {list(axes)}")
    shape = x.shape
    for axis, start, end in zip(_axes(axes, len(shape)), starts, ends, strict=True):
        if not 0 <= start < end <= shape[axis]:  # counted from the front alone: see the module's docstring
            raise ValueError(f"from {start} to {end} of {shape[axis]}")
        shape = _with(shape, axis, end - start)
    return [Known(dtype=x.dtype, shape=shape)]


def _pad(call: Call) -> list[Known]:
    x, pads = call.inputs[0], call.numbers(1)
    rank = len(x.shape)
    if len(pads) != 2 * rank or not all(0 <= pad <= 2 * max(x.shape) for pad in pads):
        raise ValueError(f"{list(x.shape)} padded by {list(pads)}")
    if call.node.attributes.get("mode", "constant") not in ("constant", "edge"):
        raise ValueError(f"mode {call.node.attributes['mode']!r}")
    shape = tuple(side + pads[axis] + pads[rank + axis] for axis, side in enumerate(x.shape))
    return [Known(dtype=x.dtype, shape=shape)]


def _squeeze(call: Call) -> list[Known]:
    x = call.inputs[0]
    rank = len(x.shape)
    axes = (
        _axes(call.numbers(1), rank)
        if len(call.inputs) > 1
        else [axis for axis, side in enumerate(x.shape) if side == 1]
    )
    if any(x.shape[axis] != 1 for axis in axes):
        raise ValueError(f"axes {axes} of {list(x.shape)}")
    return [Known(dtype=x.dtype, shape=_reduced(x.shape, axes, False), length=x.length)]


def _unsqueeze(call: Call) -> list[Known]:
    x, new = call.inputs[0], call.numbers(1)
    rank = len(x.shape) + len(new)
    axes, sides = _axes(new, rank), iter(x.shape)
    shape = tuple(1 if axis in axes else next(sides) for axis in range(rank))
    return [Known(dtype=x.dtype, shape=shape)]


def _shape(call: Call) -> list[Known]:
    shape = call.inputs[0].shape
    length = shape[0] if len(shape) == 1 else None
    return [Known(dtype="int64", shape=(len(shape),), length=length)]


def _range(call: Call) -> list[Known]:
    (start,), (step,) = call.numbers(0), call.numbers(2)
    end = call.inputs[1].length or call.numbers(1)[0]
    if start != 0 or step != 1 or end < 1:
        raise ValueError(f"from {start} to {end} by {step}")
    return [Known(dtype="int64", shape=(end,))]


def _gather(call: Call) -> list[Known]:
    x, index = call.inputs
    axis = call.axis(len(x.shape))
    return [Known(dtype=x.dtype, shape=(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))]


def _gather_elements(call: Call) -> list[Known]:
    x, index = call.inputs
    call.axis(len(x.shape))
    if len(index.shape) != len(x.shape):
        raise ValueError(f"{list(index.shape)} of {list(x.shape)}")
    return [Known(dtype=x.dtype, shape=index.shape)]


def _mat_mul(call: Call) -> list[Known]:
    a, b = call.inputs
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"{list(a.shape)} times {list(b.shape)}")
    shape = (*_together(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return [Known(dtype=_one_dtype(call.inputs), shape=shape)]


def _gemm(call: Call) -> list[Known]:
    a, b, *rest = call.inputs
    if len(a.shape) != 2 or len(b.shape) != 2 or call.attribute("transB", 0) != 1 or a.shape[1] != b.shape[1]:
        raise ValueError(f"{list(a.shape)} times {list(b.shape)}, transposed")
    shape = (a.shape[0], b.shape[0])
    if rest and _together(shape, rest[0].shape) != shape:
        raise ValueError(f"{list(shape)} plus {list(rest[0].shape)}")
    return [Known(dtype=_one_dtype(call.inputs), shape=shape)]


def _attention(call: Call) -> list[Known]:
    q, k, v = (value.shape for value in call.inputs)
    if {len(q), len(k), len(v)} != {4} or q[-1] != k[-1] or k[:-1] != v[:-1] or q[:2] != k[:2]:
        raise ValueError(f"{list(q)} to {list(k)} and {list(v)}")
    return [Known(dtype=_one_dtype(call.inputs), shape=(*q[:-1], v[-1]))]


# How many operations that takes.


def _largest(call: Call, outputs: Sequence[Known]) -> int:
    return max(value.count for value in (*call.inputs, *outputs))


def _given(call: Call, outputs: Sequence[Known]) -> int:
    return sum(value.count for value in outputs)


def _sorted(call: Call, outputs: Sequence[Known]) -> int:
    return 20 * call.inputs[0].count


def _multiplied(call: Call, outputs: Sequence[Known]) -> int:
    return 2 * outputs[0].count * call.inputs[0].shape[-1]


def _attended(call: Call, outputs: Sequence[Known]) -> int:
    q, k, v = (value.shape for value in call.inputs)
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _operator(
    infer: Infer,
    least: int,
    most: int | None = None,
    work: Work = _largest,
    gives: int = 1,
    **attributes: type,
) -> Operator:
    return Operator(takes=(least, most or least), infer=infer, attributes=attributes, work=work, gives=gives)


MANY = 1 << 16

OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Or"), _operator(_elementwise, 2)),
    **dict.fromkeys(("Min", "Max", "Sum"), _operator(_elementwise, 1, MANY)),
    **dict.fromkeys(("Less", "LessOrEqual"), _operator(_compare, 2)),
    **dict.fromkeys(("Identity", "Not", "Sqrt", "Log", "Round"), _operator(_same, 1)),
    "Clip": _operator(_same, 3),
    "Where": _operator(_where, 3),
    "Cast": _operator(_cast, 1, to=int),
    "Gelu": _operator(_same, 1, approximate=str),
    "Softmax": _operator(_same, 1, axis=int),
    "RMSNormalization": _operator(_same, 2, axis=int, epsilon=float),
    "QuantizeLinear": _operator(_quantise, 3, axis=int),
    "DequantizeLinear": _operator(_dequantise, 3, axis=int),
    "ReduceSum": _operator(_reduce, 1, 2, keepdims=int),
    "ReduceMean": _operator(_reduce, 1, 2, keepdims=int),
    "ArgMax": _operator(_arg_max, 1, axis=int, keepdims=int, select_last_index=int),
    "TopK": _operator(_top_k, 2, work=_sorted, gives=2, axis=int),
    "Reshape": _operator(_reshape, 2),
    "Transpose": _operator(_transpose, 1, perm=tuple),
    "Concat": _operator(_concat, 1, MANY, axis=int),
    "Split": _operator(_split, 1, gives=MANY, axis=int, num_outputs=int),
    "Slice": _operator(_slice, 3, 4, work=_given),
    "Pad": _operator(_pad, 2, mode=str),
    "Squeeze": _operator(_squeeze, 1, 2),
    "Unsqueeze": _operator(_unsqueeze, 2),
    "Shape": _operator(_shape, 1, work=_given),
    "Range": _operator(_range, 3),
    "Gather": _operator(_gather, 2, work=_given, axis=int),
    "GatherElements": _operator(_gather_elements, 2, work=_given, axis=int),
    "ScatterElements": _operator(_same, 3, axis=int),
    "ScatterND": _operator(_scatter_nd, 3),
    "MatMul": _operator(_mat_mul, 2, work=_multiplied),
    "Gemm": _operator(_gemm, 2, 3, work=_multiplied, transB=int),
    "Attention": _operator(_attention, 3, work=_attended, scale=float),
}  # fmt: skip


def evaluate_shapes(node: Node, inputs: Sequence[Known]) -> tuple[list[Known], int]:
    """What a node gives, and the operations that it takes.

    Raises:
        ValueError: no exported graph has such a node.
    """
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise ValueError(f"the operator {node.op[:100]!r}, which no exported graph has")
    try:
        least, most = operator.takes
        if not least <= len(inputs) <= most or not 1 <= len(node.outputs) <= operator.gives:
            raise ValueError(f"{len(inputs)} inputs and {len(node.outputs)} outputs")
        for name, value in node.attributes.items():
            if not isinstance(value, operator.attributes.get(name, ())):
                raise ValueError(f"the attribute {name[:100]}={value!r:.100}")
        call = Call(node=node, inputs=inputs)
        found = operator.infer(call)
        if len(found) != len(node.outputs) or any(len(value.shape) > MAX_RANK for value in found):
            raise ValueError(f"{len(node.outputs)} outputs, of shape {list(found[0].shape)}")
        return found, operator.work(call, found)
    except ValueError as error:
        raise ValueError(f"the node {node.name or node.outputs[0]!r} ({node.op}) with {error}") from error
