"""Graphs that read, take or do what no exported one does: every reader of ours refuses them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from safetensors.numpy import save

from genie_rt.runtime.backends.exported.limits import Limits
from genie_rt.runtime.backends.exported.onnx_model import Attribute, Model, Node, Port, Tensor
from genie_rt.runtime.backends.exported.onnx_model import write_model as write
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.exported.wire import block, number
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.stored_weights import read_stored

FILE = save({"v": np.ones(3, np.float32), "w": np.arange(6, dtype=np.float32).reshape(2, 3)})
STORED = read_stored(np.frombuffer(FILE, np.uint8))
LIMITS = Limits(nodes=40, operations=100_000, memory_bytes=100_000, subset=8, slots=2)
SIGNATURE = Signature(
    inputs={
        "x": Value(dtype="float32", shape=(2, 3)),
        "u": Value(dtype="float32", shape=("Q",)),
    },
    outputs={"y": Value(dtype="float32", shape=(2, 3))},
)


def node(op: str, *inputs: str, to: str = "n", count: int = 1, **attributes: Attribute) -> Node:
    outputs = (to,) if count == 1 else tuple(f"{to}{index}" for index in range(count))
    return Node(op=op, name=f"{op} here", inputs=inputs, outputs=outputs, attributes=attributes)


def weight(name: str = "w") -> Tensor:
    stored = STORED.tensors[name]
    return Tensor(name=name, dtype="float32", shape=stored.shape, offset=stored.offset, length=stored.length)


def ints(name: str, *numbers: int) -> Tensor:
    return Tensor(name=name, dtype="int64", shape=(len(numbers),), data=np.array(numbers, "<i8").tobytes())


ADD = node("Add", "x", "w", to="y")
MODEL = Model(
    opset=20, name="tiny", nodes=(ADD,), initializers=(weight(),),
    inputs=(
        Port(name="x", dtype="float32", shape=(2, 3)),
        Port(name="u", dtype="float32", shape=("Q",)),
    ),
    outputs=(Port(name="y", dtype="float32", shape=(2, 3)),),
)  # fmt: skip


def within(*nodes: Node, constants: tuple[Tensor, ...] = ()) -> Model:
    """The graph with more nodes, before its own."""
    return replace(MODEL, nodes=(*nodes, ADD), initializers=(*MODEL.initializers, *constants))


def scalar(name: str, value: int) -> Tensor:
    return Tensor(name=name, dtype="int64", shape=(), data=np.array(value, "<i8").tobytes())


def message(*, ir: int = 9, opset: bytes | None = None, graph: bytes = b"", more: bytes = b"") -> bytes:
    """A model, in bytes that `write` would not write."""
    opset = block(1, "") + number(2, 20) if opset is None else opset
    return number(1, ir) + block(7, graph) + block(8, opset) + more


def tensor(*, place: dict[str, str] | None = None, more: bytes = b"") -> bytes:
    """A graph with one initialiser."""
    place = {"location": WEIGHTS, "offset": "0", "length": "24"} if place is None else place
    head = number(1, 2) + number(1, 3) + number(2, 1) + block(8, "w")
    pairs = b"".join(block(13, block(1, key) + block(2, value)) for key, value in place.items())
    return block(2, "g") + block(5, head + more + pairs + number(14, 1))


PLACE = {"location": WEIGHTS, "offset": "0", "length": "24"}


HOSTILE_BYTES: list[tuple[bytes, str]] = [
    (b"", "no graph of the standard operators"),
    (b"no graph at all", "field"),
    (message(opset=number(2, 99)), "opset 99, and this version knows 20 or 23; update genie-rt"),
    (message(ir=99), "IR version 99 with opset 20"),
    (message(opset=block(1, "com.microsoft") + number(2, 1)), "no graph of the standard operators"),
    (message(more=block(8, number(2, 20))), "no graph of the standard operators"),
    (message(more=block(7, b"")), "ModelProto.graph more than once"),  # parsers merge the two
    (message(more=block(20, b"")), "the field 20 of ModelProto"),  # training_info
    (message(more=block(25, b"")), "the field 25 of ModelProto"),  # functions
    (message(more=block(14, b"")), "the field 14 of ModelProto"),  # metadata
    (message(graph=block(15, b"")), "the field 15 of GraphProto"),  # sparse_initializer
    (message(graph=block(13, b"")), "the field 13 of GraphProto"),  # value_info
    (message(graph=tensor(place=PLACE | {"location": "evil.bin"})), "the file 'evil.bin'"),
    (message(graph=tensor(place=PLACE | {"location": f"../{WEIGHTS}"})), f"the file '../{WEIGHTS}'"),
    (message(graph=tensor(place=PLACE | {"location": "/etc/passwd"})), "the file '/etc/passwd'"),
    (message(graph=tensor(place=PLACE | {"location": "*/_ORT_MEM_ADDR_/*"})), "_ORT_MEM_ADDR_"),
    (message(graph=tensor(place=PLACE | {"location": "w\0.bin"})), r"the file 'w\x00.bin'"),
    (message(graph=tensor(place=PLACE | {"offset": "-8"})), "at the offset '-8'"),
    (message(graph=tensor(place=PLACE | {"offset": "٨"})), "at the offset '٨'"),
    (message(graph=tensor(place=PLACE | {"offset": "9" * 30})), "at the offset '999"),
    (message(graph=tensor(place=PLACE | {"length": "8"})), "8 bytes of weights for 'w'"),
    (message(graph=tensor(place=PLACE | {"checksum": "0"})), "location, offset and length"),
    (message(graph=tensor(place={"location": WEIGHTS})), "location, offset and length"),
    (message(graph=tensor(more=block(13, block(1, "location") + block(2, WEIGHTS)))), "location of 'w'"),
    (message(graph=tensor(more=block(13, block(1, "location") + block(2, "evil")))), "the file 'evil'"),
    (message(graph=tensor(more=block(9, bytes(24)))), "neither in the graph nor in"),
    (message(graph=tensor(place={}, more=block(9, bytes(24)))), "neither in the graph nor in"),
    (message(graph=tensor(more=block(4, bytes(24)))), "the field 4 of TensorProto"),  # float_data
    (message(graph=tensor(more=b"\xea\x80\x80\x80\x10\x00")), "more than 32 bits"),  # external_data
    (message(graph=block(1, b"\xaa\x80\x80\x80\x10\x00") + block(2, "g")), "more than 32 bits"),  # node
    (message(graph=block(2, "g") + b"\xaa\x80\x80\x80\x10\x00"), "more than 32 bits"),  # initializer
]  # fmt: skip
"""Files, and what is said of them."""


def attribute(*fields: bytes) -> bytes:
    """A model with one node, `Cast`, and one attribute."""
    cast = block(1, "x") + block(2, "y") + block(4, "Cast") + block(5, block(1, "to") + b"".join(fields))
    return message(graph=block(1, cast) + block(2, "g"))


HOSTILE_ATTRIBUTES: list[tuple[bytes, str]] = [
    (attribute(block(5, b""), number(20, 4)), "the field 5 of AttributeProto of Cast"),  # a tensor
    (attribute(block(6, b""), number(20, 5)), "the field 6 of AttributeProto of Cast"),  # a subgraph
    (attribute(block(21, "x")), "the field 21 of AttributeProto of Cast"),  # ref_attr_name
    (attribute(number(3, 1), number(20, 1)), "the attribute to of Cast without one value"),
    (attribute(number(3, 1), block(4, "x"), number(20, 2)), "the attribute to of Cast without one value"),
    (attribute(number(3, 1)), "the attribute to of Cast without one value"),
    (attribute(b"\x15\x00\x00\xc0\x7f", number(20, 1)), "the attribute to of Cast: nan"),
]

OTHER_WEIGHTS: list[Tensor] = [
    replace(weight(), offset=weight().offset + 4),
    replace(weight(), offset=0),
    replace(weight(), shape=(3, 2)),
    replace(weight(), name="z"),
    replace(weight(), dtype="bfloat16", length=12),
    replace(weight("v"), name="w"),
]

OTHER_SIGNATURES: list[tuple[Model, str]] = [
    (replace(MODEL, inputs=MODEL.inputs[:1]), "input 'u': expected"),
    (replace(MODEL, outputs=()), "output 'y': expected"),
    (
        replace(MODEL, inputs=(replace(MODEL.inputs[0], shape=(1, 3)), MODEL.inputs[1])),
        "input 'x': expected float32 [2, 3] for the model of this bundle, found float32 [1, 3]",
    ),
]

OTHER_OPERATORS = [
    "Loop",
    "If",
    "Scan",
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Constant",
    "Resize",
    "RandomNormal",
    "add",
]

SHAPES: list[tuple[Node, tuple[Tensor, ...], str]] = [
    (node("Reshape", "x", "s"), (ints("s", 7),), "[2, 3] to the shape [7]"),
    (node("Reshape", "x", "s"), (ints("s", -1, -1),), "to the shape [-1, -1]"),
    (node("Reshape", "x", "s"), (ints("s", 0, 3),), "to the shape [0, 3]"),
    (node("Reshape", "x", "s"), (ints("s", -2, -3),), "to the shape [-2, -3]"),
    (node("Reshape", "x", "u"), (), "'u' decides about a shape and is not known in advance"),
    (node("Slice", "x", "s", "e"), (ints("s", 0), ints("e", 9)), "from 0 to 9 of 2"),
    (node("Slice", "x", "s", "e"), (ints("s", -1), ints("e", 2)), "from -1 to 2 of 2"),
    (node("Slice", "x", "s", "e"), (ints("s", 1), ints("e", 1)), "from 1 to 1 of 2"),
    (node("Pad", "u", "p"), (ints("p", 0, 1 << 40),), "padded by [0, 1099511627776]"),
    (node("Pad", "u", "p", mode="wrap"), (ints("p", 0, 1),), "mode 'wrap'"),
    (node("Range", "a", "b", "c"), (ints("a", 0), ints("b", 1 << 40), ints("c", 1)), "MiB"),
    (node("Range", "a", "b", "c"), (ints("a", 0), ints("b", 9), ints("c", 0)), "from 0 to 9 by 0"),
    (node("TopK", "x", "k", count=2), (ints("k", 9),), "the largest 9 of 3"),
    (node("Split", "x", count=3, axis=0, num_outputs=3), (), "2 in 3 parts"),
    (node("Gather", "x", "i", axis=5), (ints("i", 0),), "axis 5 of 2"),
    (node("Transpose", "x", perm=(0, 0)), (), "perm (0, 0)"),
    (node("Squeeze", "x", "a"), (ints("a", 0),), "axes [0] of [2, 3]"),
    (node("Unsqueeze", "x", "a"), (ints("a", 0, 0),), "axes [0, 0]"),
    (node("Unsqueeze", "x", "a"), (ints("a", *range(5)),), "outputs, of shape"),
    (node("Add", "x", "u"), (), "shapes [[2, 3], [8]] together"),
    (node("Mul", "x", "i"), (ints("i", 1),), "float32 and int64 together"),
    (node("MatMul", "x", "x"), (), "[2, 3] times [2, 3]"),
    (node("Gemm", "x", "x"), (), "transposed"),
    (node("Concat", "x", "u", axis=0), (), "shapes [[2, 3], [8]] together"),
    (node("Attention", "x", "x", "x"), (), "[2, 3] to [2, 3]"),
    (node("Attention", "x", "x", "x", "x"), (), "4 inputs"),
    (node("Clip", "x"), (), "1 inputs"),
    (node("Cast", "x", to_=1), (), "the attribute to_=1"),
    (node("Softmax", "x", axis=1.0), (), "the attribute axis=1.0"),
    (node("Add", "x", "nowhere"), (), "'nowhere', which Add takes and no node before it gives"),
    (node("Add", "x", "w", to="x"), (), "two values called 'x'"),
]


def squared(turns: int) -> Model:
    """The outer product of a column with itself, of that with itself, and so on."""
    nodes = [node("Reshape", "u", "column", to="c0"), node("Reshape", "u", "row", to="r0")]
    size = 8
    constants = [ints("column", 8, 1), ints("row", 1, 8)]
    for turn in range(turns):
        size *= size
        nodes.append(node("MatMul", f"c{turn}", f"r{turn}", to=f"m{turn}"))
        for name, shape in (("c", (size, 1)), ("r", (1, size))):
            constants.append(ints(f"{name}s{turn}", *shape))
            nodes.append(node("Reshape", f"m{turn}", f"{name}s{turn}", to=f"{name}{turn + 1}"))
    return within(*nodes, constants=tuple(constants))


def hostile_graphs() -> Iterator[tuple[str, bytes]]:
    """All of the above as files, with a name for each."""
    for index, (data, _) in enumerate([*HOSTILE_BYTES, *HOSTILE_ATTRIBUTES]):
        yield f"bytes-{index}", data
    for index, weight_ in enumerate(OTHER_WEIGHTS):
        yield f"weight-{index}", write(replace(MODEL, initializers=(weight_,)))
    for index, (model, _) in enumerate(OTHER_SIGNATURES):
        yield f"signature-{index}", write(model)
    for op in OTHER_OPERATORS:
        yield f"operator-{op}", write(within(node(op, "x")))
    for index, (extra, constants, _) in enumerate(SHAPES):
        yield f"shape-{index}-{extra.op}", write(within(extra, constants=constants))
    yield "squared", write(squared(3))
