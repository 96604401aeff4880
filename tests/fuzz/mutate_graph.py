"""Changes to ONNX graphs: to the wire format, which parsers read differently, and to what the graph says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, TypeAlias

import onnx
from fuzz.mutate import mutate_bytes
from onnx import AttributeProto, ModelProto, TensorProto, helper

Hostile: TypeAlias = tuple[str, bytes, bool]
"""What was done, the graph's bytes, and whether no reader may take them."""

SECRET = "unlisted.bin"
"""A file that lies in the bundle's folder and in no list of its files."""


def mutate_graph(random: Random, data: bytes) -> Hostile:
    """A change to a graph's bytes."""
    draw = random.random()
    if draw < 0.15:
        return (*mutate_bytes(random, data), False)
    if draw < 0.4:
        return _mutate_wire(random, data)
    model = onnx.load_model_from_string(data)
    change, wrong = random.choice(_CHANGES)
    word = change(random, model)
    return word, model.SerializeToString(), wrong


# The wire format.


def varint(value: int, least: int = 1) -> bytes:
    """A number of seven bits a byte, in at least so many bytes."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < least:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields_of(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Number, encoding and value of every field of a message; ValueError where it is none."""
    found: list[tuple[int, int, int | bytes]] = []
    at = 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise ValueError("no number")
            value |= (data[at] & 0x7F) << shift
            at += 1
            if data[at - 1] < 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = take()
        number, encoding = tag >> 3, tag & 7
        if not number or encoding not in (0, 1, 2, 5):
            raise ValueError("no field")
        if encoding == 0:
            found.append((number, encoding, take()))
            continue
        size = {1: 8, 5: 4}.get(encoding) or take()
        if at + size > len(data):
            raise ValueError("cut off")
        found.append((number, encoding, data[at : at + size]))
        at += size
    return found


def field_bytes(number: int, encoding: int, value: int | bytes, width: int = 1) -> bytes:
    """A field; `width` bytes at least for its tag and its numbers."""
    tag = varint(number << 3 | encoding, width)
    if isinstance(value, int):
        return tag + varint(value, width)
    return tag + (varint(len(value), width) if encoding == 2 else b"") + value


_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value"},
    "node": {5: "attribute"},
    "tensor": {13: "pair"},
    "value": {2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dim"},
}
"""Fields that hold messages, by the kind of message that they stand in."""


def _mutate_wire(random: Random, data: bytes, kind: str = "model") -> Hostile:
    """A change to one field, at a random depth, within messages whose lengths are right."""
    fields = fields_of(data)
    index = random.randrange(len(fields))
    number, encoding, value = fields[index]
    inside = _MESSAGES.get(kind, {}).get(number)
    if isinstance(value, bytes) and value and inside is not None and random.random() < 0.8:
        word, inner, wrong = _mutate_wire(random, value, inside)
        return word, _joined(fields, index, field_bytes(number, encoding, inner)), wrong
    plain = field_bytes(number, encoding, value)
    match random.randrange(9):
        case 0:
            new = field_bytes(number + (1 << 29) * random.choice((1, 2, 7)), encoding, value)
            return "a tag above 2^32", _joined(fields, index, new), True
        case 1:
            hidden = field_bytes(random.choice((13, 5, 15, 20)) + (1 << 29), 2, b"\x0a\x01x")
            return "a field behind a tag above 2^32", _joined(fields, index, plain + hidden), True
        case 2:
            new = field_bytes(number, encoding, value, width=random.choice((5, 6, 9)))
            return "numbers in too many bytes", _joined(fields, index, new), True
        case 3:
            return "a field twice", _joined(fields, index, plain + plain), False
        case 4:
            return "a field dropped", _joined(fields, index, b""), False
        case 5:
            groups = varint(number << 3 | 3) + plain + varint(number << 3 | 4)
            return "a field in a group", _joined(fields, index, groups), True
        case 6:
            extremes = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
            new = field_bytes(number, 0, random.choice(extremes))
            return "an extreme number", _joined(fields, index, new), False
        case 7:
            new = field_bytes(random.randrange(1, 40), encoding, value)
            return "another field's number", _joined(fields, index, new), False
        case _:
            random.shuffle(fields)
            return "in another order", b"".join(field_bytes(*each) for each in fields), False


def _joined(fields: list[tuple[int, int, int | bytes]], index: int, new: bytes) -> bytes:
    parts = [field_bytes(*field) for field in fields]
    parts[index] = new
    return b"".join(parts)


# What the graph says. Each says what it did.


def _node(random: Random, model: ModelProto) -> Any:
    return random.choice(list(model.graph.node))


def _before(model: ModelProto, *nodes: Any) -> None:
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])


def _through(random: Random, model: ModelProto, make: Callable[[str, str], list[Any]]) -> None:
    """Puts nodes between a node and one of its inputs."""
    node = _node(random, model)
    while not node.input:
        node = _node(random, model)
    at = random.randrange(len(node.input))
    new = make(node.input[at], "smuggled")
    index = list(model.graph.node).index(node)
    node.input[at] = "smuggled"
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*kept[:index], *new, *kept[index:]])


def _int64s(model: ModelProto, name: str, *values: int) -> str:
    model.graph.initializer.append(
        TensorProto(name=name, data_type=TensorProto.INT64, dims=[len(values)],
                    raw_data=b"".join(value.to_bytes(8, "little", signed=True) for value in values))
    )  # fmt: skip
    return name


def _sub_graph(name: str) -> Any:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])
    made = helper.make_node(
        "Constant", [], ["inner"], value=helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0])
    )
    return helper.make_graph([made], name, [], [value])


def _loop(random: Random, model: ModelProto) -> str:
    trips = random.choice((2**62, 2**31, 10**9))
    _int64s(model, "trips", trips)
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_on"]) for name in ("go", "kept")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []), go,
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept_on", TensorProto.FLOAT, None),
        ],
    )  # fmt: skip
    _through(random, model, lambda old, new: [helper.make_node("Loop", ["trips", "", old], [new], body=body)])
    return f"a Loop of {trips} trips"


def _if(random: Random, model: ModelProto) -> str:
    branches = {"then_branch": _sub_graph("then"), "else_branch": _sub_graph("else")}
    _through(random, model, lambda old, new: [helper.make_node("If", [old], [new], **branches)])
    return "an If"


def _huge(random: Random, model: ModelProto) -> str:
    op = random.choice(("ConstantOfShape", "Expand", "Tile", "Pad", "Range", "Resize", "OneHot", "EyeLike"))
    sides = random.choice(((1 << 16, 1 << 16), (1 << 33,), (1 << 20, 1 << 10, 3), (1 << 62, 4)))
    _int64s(model, "sides", *sides)
    inputs = {"ConstantOfShape": lambda old: ["sides"]}.get(op, lambda old: [old, "sides"])
    _through(random, model, lambda old, new: [helper.make_node(op, inputs(old), [new])])
    return f"{op} to {sides}"


def _identities(random: Random, model: ModelProto) -> str:
    count = random.choice((5, 1000, 20_000))
    op = random.choice(("Identity", "Identity", "Neg", "Cast", "Transpose", "Abs"))

    def make(old: str, new: str) -> list[Any]:
        names = [old, *(f"chain{i}" for i in range(count - 1)), new]
        kept: dict[str, Any] = {"to": TensorProto.FLOAT} if op == "Cast" else {}
        return [helper.make_node(op, [one], [two], **kept) for one, two in pairwise(names)]

    _through(random, model, make)
    return f"{count} nodes of {op}"


def _elsewhere(random: Random, model: ModelProto) -> str:
    tensors = [each for each in model.graph.initializer if each.external_data]
    if not tensors:
        return _unlisted(random, model)
    tensor = random.choice(tensors)
    place = random.choice(
        (
            SECRET, f"./{SECRET}", "/etc/passwd", "../weights.safetensors", "./weights.safetensors", "",
            "weights.safetensors\0", "*/_ORT_MEM_ADDR_/*", "bundle.json", "//weights.safetensors", "WEIGHTS",
            "file:///etc/passwd", "prompts/../weights.safetensors",
        )
    )  # fmt: skip
    for pair in tensor.external_data:
        if pair.key == "location":
            pair.value = place
    return f"weights at {place!r}"


def _offset(random: Random, model: ModelProto) -> str:
    tensors = [each for each in model.graph.initializer if each.external_data]
    if not tensors:
        return _unlisted(random, model)
    tensor = random.choice(tensors)
    key = random.choice(("offset", "length"))
    old = next(pair for pair in tensor.external_data if pair.key == key)
    values = ("-1", "0", str(2**63), str(2**64), "1e3", "0x10", " 8", "", "٣", "9" * 5000, f"{old.value}0")
    old.value = random.choice([value for value in values if value != old.value])
    return f"weights at the {key} {old.value[:30]}"


def _unlisted(random: Random, model: ModelProto) -> str:
    size = random.choice((4, 1 << 20))
    model.graph.initializer.append(
        TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[size // 4], data_location=1)
    )
    for key, value in (("location", SECRET), ("offset", "0"), ("length", str(size))):
        model.graph.initializer[-1].external_data.add(key=key, value=value)
    return "a weight in an unlisted file"


def _constant(random: Random, model: ModelProto) -> str:
    """A constant with external data, in an attribute."""
    tensor = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value=SECRET)
    _before(model, helper.make_node("Constant", [], ["secret"], value=tensor))
    return "a constant in an unlisted file"


def _domain(random: Random, model: ModelProto) -> str:
    domain = random.choice(("com.microsoft", "ai.onnx.ml", "x", "ai.onnx"))
    if random.random() < 0.5:
        model.opset_import.append(helper.make_opsetid(domain, random.choice((1, 23))))
    _node(random, model).domain = domain
    return f"a node of the domain {domain}"


def _opset(random: Random, model: ModelProto) -> str:
    if random.random() < 0.5:
        model.opset_import[0].version = random.choice((0, 1, 7, 19, 22, 24, 2**31, 2**63 - 1, -1))
        return f"opset {model.opset_import[0].version}"
    model.ir_version = random.choice((0, 1, 3, 10, 99, 2**63 - 1))
    return f"IR version {model.ir_version}"


def _function(random: Random, model: ModelProto) -> str:
    model.functions.append(
        helper.make_function(
            "", random.choice(("Add", "f")), ["a", "b"], ["c"], [helper.make_node("Sub", ["a", "b"], ["c"])],
            [helper.make_opsetid("", 20)],
        )
    )  # fmt: skip
    return "a function"


def _sparse(random: Random, model: ModelProto) -> str:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("at", TensorProto.INT64, [1], [random.choice((0, 2**62, -1))])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))
    return "a sparse tensor"


def _metadata(random: Random, model: ModelProto) -> str:
    place = random.choice((model, model.graph, _node(random, model)))
    entry = place.metadata_props.add()
    entry.key, entry.value = "ORT_CONFIG", "{}"
    return "metadata"


def _attribute(random: Random, model: ModelProto) -> str:
    nodes = [node for node in model.graph.node if node.attribute]
    node = random.choice(nodes)
    attribute = random.choice(list(node.attribute))
    extremes = (-1, -(2**63), 2**63 - 1, 2**31, 0, 7, 100)
    if attribute.type == AttributeProto.INT:
        attribute.i = random.choice(extremes)
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[random.randrange(len(attribute.ints))] = random.choice(extremes)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = random.choice((0.0, -1.0, 3.4e38, float("nan"), float("inf")))
    else:
        attribute.s = random.choice((b"", b"tanh", b"\xff", b"x" * 10_000))
    return f"{node.op_type}.{attribute.name} changed"


def _numbers(random: Random, model: ModelProto) -> str:
    found = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64 and t.raw_data]
    tensor = random.choice(found)
    at = random.randrange(len(tensor.raw_data) // 8)
    values = [
        int.from_bytes(tensor.raw_data[8 * i : 8 * i + 8], "little", signed=True)
        for i in range(len(tensor.raw_data) // 8)
    ]
    values[at] = random.choice(
        (0, -1, 1, 2, 2**31, 2**40, 2**62, -(2**63), values[at] + 1, values[at] * 1000)
    )
    tensor.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    return f"{values[at]} in {tensor.name}"


def _retyped(random: Random, model: ModelProto) -> str:
    node, other = _node(random, model), _node(random, model)
    words = f"{other.op_type} for {node.op_type}"
    node.op_type = other.op_type
    return words


def _rewired(random: Random, model: ModelProto) -> str:
    node = _node(random, model)
    names = [name for each in model.graph.node for name in (*each.input, *each.output)]
    names += [each.name for each in model.graph.initializer] + ["", "nobody", names[-1]]
    if random.random() < 0.7 and node.input:
        at = random.randrange(len(node.input))
        node.input[at] = random.choice(names)
        return f"an input of {node.op_type} is {node.input[at]!r}"
    node.output[0] = random.choice(names)
    return f"an output of {node.op_type} is {node.output[0]!r}"


def _reshaped(random: Random, model: ModelProto) -> str:
    port = random.choice([*model.graph.input, *model.graph.output])
    dims = port.type.tensor_type.shape.dim
    if dims and random.random() < 0.7:
        dim = random.choice(list(dims))
        if random.random() < 0.3:
            dim.dim_param = random.choice(("Q", "N", "batch"))
        else:
            dim.dim_value = random.choice((0, -1, 1, 2**31, 2**40, 2**63 - 1))
    else:
        port.type.tensor_type.elem_type = random.choice((0, 1, 6, 7, 8, 10, 11, 16, 99))
    return f"the port {port.name} changed"


def _stored_as(random: Random, model: ModelProto) -> str:
    tensor = random.choice(list(model.graph.initializer))
    if random.random() < 0.5:
        tensor.data_type = random.choice((0, 1, 6, 7, 8, 10, 11, 16, 17, 99))
    else:
        tensor.dims.append(random.choice((1, 2, 0, 2**62, -1)))
    return f"the tensor {tensor.name} changed"


def _named(random: Random, model: ModelProto) -> str:
    node = _node(random, model)
    node.name = random.choice(("a\0b", "x" * 100_000, "\n\x1b[2J", "../x", "é" * 500))
    return "a strange name"


def _bulky(random: Random, model: ModelProto) -> str:
    size = random.choice((1 << 20, 16 << 20))
    model.graph.initializer.append(
        TensorProto(name="bulk", data_type=TensorProto.FLOAT, dims=[size // 4], raw_data=bytes(size))
    )
    return f"{size} bytes more"


_CHANGES: tuple[tuple[Callable[[Random, ModelProto], str], bool], ...] = (
    (_loop, True),
    (_if, True),
    (_huge, True),
    (_identities, False),
    (_elsewhere, True),
    (_offset, True),
    (_unlisted, True),
    (_constant, True),
    (_domain, True),
    (_opset, False),
    (_function, True),
    (_sparse, True),
    (_metadata, True),
    (_attribute, False),
    (_numbers, False),
    (_numbers, False),
    (_retyped, False),
    (_rewired, False),
    (_rewired, False),
    (_reshaped, False),
    (_stored_as, False),
    (_named, False),
    (_bulky, False),
)
"""And whether it is wrong to take what came of it, whatever then happens."""
