"""A graph that reads, takes or does what no exported one does is refused before an engine sees it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.exported.checked import MAX_IDENTITIES, CheckedGraph, check_graph
from genie_rt.runtime.backends.exported.limits import Limits, limits_of
from genie_rt.runtime.backends.exported.onnx_model import Attribute, Model, Node, Port, Tensor, read_model
from genie_rt.runtime.backends.exported.onnx_model import write_model as write
from genie_rt.runtime.backends.exported.signature import Signature, Value, signatures
from genie_rt.runtime.backends.exported.wire import block, number
from genie_rt.runtime.bundle import open_bundle, read_file, read_weights
from genie_rt.runtime.manifest import WEIGHTS, graph_file
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


def check(model: Model | bytes) -> CheckedGraph:
    data = model if isinstance(model, bytes) else write(model)
    return check_graph(Path("tiny.onnx"), data, STORED, SIGNATURE, LIMITS)


def refused(model: Model | bytes, *parts: str) -> None:
    with pytest.raises(BundleError) as caught:
        check(model)
    for part in ("tiny.onnx: expected a graph as genie-rt export writes it, found", *parts, "export again"):
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1000


def within(*nodes: Node, constants: tuple[Tensor, ...] = ()) -> Model:
    """The graph with more nodes, before its own."""
    return replace(MODEL, nodes=(*nodes, ADD), initializers=(*MODEL.initializers, *constants))


# --- what is read and what runs ----------------------------------------------------------------------------


def test_a_graph_that_was_checked_is_written_again_as_it_was() -> None:
    checked = check(MODEL)
    assert checked.model == MODEL
    assert checked.to_bytes() == write(MODEL)


def test_every_graph_of_the_demo_is_read_and_written_to_the_byte() -> None:
    bundle = open_bundle("demo")
    weights, count = read_weights(bundle), 0
    for precision in ("float32", "int8"):
        for name, signature in signatures(bundle.config, precision, dict(bundle.plans)).items():
            file = graph_file(name, precision)
            if file in bundle.files:
                data = read_file(bundle, file).tobytes()
                limits = limits_of(bundle.config, name, bundle.plans, weights.data.nbytes)
                assert check_graph(bundle.path / file, data, weights, signature, limits).to_bytes() == data
                count += 1
    assert count == len([file for file in bundle.files if file.endswith(".onnx")])


def message(*, ir: int = 9, opset: bytes | None = None, graph: bytes = b"", more: bytes = b"") -> bytes:
    """A model, in bytes that `write` would not write."""
    opset = block(1, "") + number(2, 20) if opset is None else opset
    return number(1, ir) + block(7, graph) + block(8, opset) + more


def tensor(*, place: dict[str, str] | None = None, more: bytes = b"") -> bytes:
    """A graph with one initialiser."""
    place = {"location": WEIGHTS, "offset": "0", "length": "24"} if place is None else place
    head = number(1, 2) + number(1, 3) + number(2, 1) + block(8, "w")
    pairs = b"".join(block(13, block(1, key) + block(2, value)) for key, value in place.items())
    return block(2, "g") + block(5, head + pairs + number(14, 1) + more)


PLACE = {"location": WEIGHTS, "offset": "0", "length": "24"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
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
        (message(graph=block(2, "g") + block(1, b"\xaa\x80\x80\x80\x10\x00")), "more than 32 bits"),  # node
        (message(graph=block(2, "g") + b"\xaa\x80\x80\x80\x10\x00"), "more than 32 bits"),  # initializer
    ],
)  # fmt: skip
def test_bytes_that_hold_anything_else(data: bytes, says: str) -> None:
    refused(data, says)


def attribute(*fields: bytes) -> bytes:
    """A model with one node, `Cast`, and one attribute."""
    cast = block(1, "x") + block(2, "y") + block(4, "Cast") + block(5, block(1, "to") + b"".join(fields))
    return message(graph=block(2, "g") + block(1, cast))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (attribute(block(5, b""), number(20, 4)), "the field 5 of AttributeProto of Cast"),  # a tensor
        (attribute(block(6, b""), number(20, 5)), "the field 6 of AttributeProto of Cast"),  # a subgraph
        (attribute(block(21, "x")), "the field 21 of AttributeProto of Cast"),  # ref_attr_name
        (attribute(number(3, 1), number(20, 1)), "the attribute to of Cast without one value"),
        (attribute(number(3, 1), block(4, "x"), number(20, 2)), "the attribute to of Cast without one value"),
        (attribute(number(3, 1)), "the attribute to of Cast without one value"),
        (attribute(b"\x15\x00\x00\xc0\x7f", number(20, 1)), "the attribute to of Cast: nan"),
    ],
)
def test_attributes_that_hold_anything_else(data: bytes, says: str) -> None:
    refused(data, says)


def test_the_other_fields_of_a_node() -> None:
    names = block(1, "x") + block(2, "y") + block(4, "Add")
    for field in (7, 6, 8, 9):  # domain, doc_string, overload, metadata
        refused(
            message(graph=block(2, "g") + block(1, names + block(field, "x"))),
            f"the field {field} of NodeProto",
        )


@pytest.mark.parametrize(
    "changed",
    [
        replace(weight(), offset=weight().offset + 4),
        replace(weight(), offset=0),
        replace(weight(), shape=(3, 2)),
        replace(weight(), name="z"),
        replace(weight(), dtype="bfloat16", length=12),
        replace(weight("v"), name="w"),
    ],
)
def test_weights_are_those_of_the_file_under_their_own_names(changed: Tensor) -> None:
    """So that its header cannot be computed with, nor one weight in place of another."""
    model = replace(MODEL, initializers=(changed,))
    refused(model, f"the weight {changed.name!r}", f"at byte {changed.offset}")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (replace(MODEL, inputs=MODEL.inputs[:1]), "input 'u': expected"),
        (replace(MODEL, outputs=()), "output 'y': expected"),
        (
            replace(MODEL, inputs=(replace(MODEL.inputs[0], shape=(1, 3)), MODEL.inputs[1])),
            "input 'x': expected float32 [2, 3] for the model of this bundle, found float32 [1, 3]",
        ),
    ],
)
def test_a_graph_of_another_signature(model: Model, says: str) -> None:
    with pytest.raises(BundleError) as caught:
        check(model)
    assert says in str(caught.value)


# --- what is computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op",
    ["Loop", "If", "Scan", "ConstantOfShape", "Expand", "Tile", "Constant", "Resize", "RandomNormal", "add"],
)
def test_operators_that_no_exported_graph_has(op: str) -> None:
    refused(within(node(op, "x")), f"the operator '{op}', which no exported graph has")


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


@pytest.mark.parametrize(("extra", "constants", "says"), SHAPES, ids=lambda value: getattr(value, "op", ""))
def test_sizes_that_do_not_fit_or_are_not_known(
    extra: Node, constants: tuple[Tensor, ...], says: str
) -> None:
    refused(within(extra, constants=constants), says)


def test_a_shape_that_follows_from_another_is_no_list_of_numbers_to_cut_by() -> None:
    """Cut by a length that may be smaller at play, more would be left than was counted."""
    length = node("Shape", "u", to="q")
    refused(within(length, node("Slice", "w", "q", "e"), constants=(ints("e", 2),)), "'q' decides")
    check(within(length, node("Squeeze", "q", to="l"), node("Range", "0", "l", "1"),
                 constants=(scalar("0", 0), scalar("1", 1))))  # fmt: skip


def scalar(name: str, value: int) -> Tensor:
    return Tensor(name=name, dtype="int64", shape=(), data=np.array(value, "<i8").tobytes())


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


def test_much_that_is_made_of_little_is_refused_by_its_size() -> None:
    check(squared(2))
    refused(squared(3), "values that take", "MiB at 'MatMul here'", "MiB at most")


def test_operations_are_counted() -> None:
    times = [node("MatMul", f"m{turn}", "s", to=f"m{turn + 1}") for turn in range(30)]
    square = Tensor(name="s", dtype="float32", shape=(64, 64), data=bytes(4 * 64 * 64))
    first = Tensor(name="m0", dtype="float32", shape=(1, 64), data=bytes(256))
    check(within(*times[:8], constants=(square, first)))
    refused(within(*times, constants=(square, first)), "more than 1.0e+05 operations")


@pytest.mark.parametrize("op", ["Identity", "Sqrt"])
def test_thousands_of_nodes_are_refused_before_they_are_read(op: str) -> None:
    names = ["x", *map(str, range(20_000))]
    chain = [node(op, name, to=after) for name, after in pairwise(names)]
    refused(within(*chain), "more than 8400 fields")
    refused(within(*chain[:40]), "41 nodes, and 40 at most for the model of this bundle")
    if op == "Identity":
        refused(within(*chain[: MAX_IDENTITIES + 1]), f"more than {MAX_IDENTITIES} nodes that do nothing")
    check(within(*chain[:MAX_IDENTITIES]))


@pytest.mark.parametrize(
    "grow",
    [
        lambda: node("Concat", *["x"] * 100_000, axis=0),
        lambda: node("Transpose", "x", perm=tuple(range(100_000))),
        lambda: node("Split", "x", count=100_000, axis=0, num_outputs=100_000),
    ],
)
def test_nodes_of_too_many_parts_are_refused_before_they_are_read(grow: Callable[[], Node]) -> None:
    refused(within(grow()), "more than 8400 fields")


def test_the_limits_of_a_graph_follow_from_its_model() -> None:
    bundle = open_bundle("demo")
    found: dict[str, Any] = {
        name: limits_of(bundle.config, name, bundle.plans, bundle.files[WEIGHTS].size)
        for name in ("commit", "pass", "frame-fast", "frame-quality")
    }
    assert found["commit"].nodes == found["pass"].nodes < found["frame-fast"].nodes
    assert found["frame-fast"].nodes < found["frame-quality"].nodes < 20_000
    assert found["pass"].operations < found["frame-quality"].operations
    assert {limits.memory_bytes for limits in found.values()} == {found["pass"].memory_bytes}
    assert found["pass"].memory_bytes < 700 * 2**20
    assert (found["pass"].size("Q"), found["pass"].subset) == (bundle.config.num_positions,) * 2
    with pytest.raises(ValueError, match="a side called 'N'"):
        found["pass"].size("N")


def test_what_is_read_is_what_was_written() -> None:
    model = within(node("Softmax", "x", axis=-1), node("RMSNormalization", "x", "v", to="r", epsilon=1e-6))
    found = read_model(write(model), 10)
    assert found.nodes[0] == model.nodes[0]
    assert found.nodes[1].attributes["epsilon"] == pytest.approx(1e-6)
    assert found.with_weights_as_inputs().inputs[-1] == Port(name="w", dtype="float32", shape=(2, 3))
