"""An ONNX graph in memory, read from a file's bytes and written again: what was checked is what runs.

Engines get the bytes that `write_model` makes, never those of a file. A graph holds what `genie-rt export`
writes and nothing else: no subgraphs, functions, sparse tensors, metadata or other files than the bundle's
weights. The messages: `onnx.proto` of ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from genie_rt.runtime.backends.exported.wire import (
    BLOCK,
    FIXED32,
    VARINT,
    Field,
    Reader,
    block,
    each,
    fixed32,
    number,
    signed,
    text,
)
from genie_rt.runtime.manifest import WEIGHTS

DTYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "int64": 7, "bool": 9, "float16": 10, "bfloat16": 16,
}  # fmt: skip
"""ONNX's numbers of the dtypes that graphs compute in."""

ITEM_BYTES = {
    "float32": 4, "uint8": 1, "int8": 1, "int64": 8, "bool": 1, "float16": 2, "bfloat16": 2,
}  # fmt: skip

IR_VERSIONS = {20: 9, 23: 11}
"""By opset: what ONNX paired it with when it came out, so that engines of that time read it."""

PRODUCER = "genie-rt"
EXTERNAL = 1  # TensorProto.DataLocation
MAX_RANK = 6
MAX_NAME_BYTES = 1000
FIELDS_PER_NODE = 60
"""More than a node has, with its inputs and its constants; `Concat` of many pages included."""

Attribute: TypeAlias = int | float | str | tuple[int, ...]

_KINDS = {"f": 1, "i": 2, "s": 3, "ints": 7}  # AttributeProto.AttributeType, by the field with the value

_MODEL: dict[int, Field] = {
    1: ("ir_version", VARINT, False),
    2: ("producer_name", BLOCK, False),
    7: ("graph", BLOCK, False),
    8: ("opset_import", BLOCK, True),
}
_OPSET: dict[int, Field] = {1: ("domain", BLOCK, False), 2: ("version", VARINT, False)}
_GRAPH: dict[int, Field] = {
    1: ("node", BLOCK, True),
    2: ("name", BLOCK, False),
    5: ("initializer", BLOCK, True),
    11: ("input", BLOCK, True),
    12: ("output", BLOCK, True),
}
_NODE: dict[int, Field] = {
    1: ("input", BLOCK, True),
    2: ("output", BLOCK, True),
    3: ("name", BLOCK, False),
    4: ("op_type", BLOCK, False),
    5: ("attribute", BLOCK, True),
}
_ATTRIBUTE: dict[int, Field] = {
    1: ("name", BLOCK, False),
    2: ("f", FIXED32, False),
    3: ("i", VARINT, False),
    4: ("s", BLOCK, False),
    8: ("ints", VARINT, True),
    20: ("type", VARINT, False),
}
_TENSOR: dict[int, Field] = {
    1: ("dims", VARINT, True),
    2: ("data_type", VARINT, False),
    8: ("name", BLOCK, False),
    9: ("raw_data", BLOCK, False),
    13: ("external_data", BLOCK, True),
    14: ("data_location", VARINT, False),
}
_PAIR: dict[int, Field] = {1: ("key", BLOCK, False), 2: ("value", BLOCK, False)}
_VALUE: dict[int, Field] = {1: ("name", BLOCK, False), 2: ("type", BLOCK, False)}
_TYPE: dict[int, Field] = {1: ("tensor_type", BLOCK, False)}
_TENSOR_TYPE: dict[int, Field] = {1: ("elem_type", VARINT, False), 2: ("shape", BLOCK, False)}
_SHAPE: dict[int, Field] = {1: ("dim", BLOCK, True)}
_DIM: dict[int, Field] = {1: ("dim_value", VARINT, False), 2: ("dim_param", BLOCK, False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An initialiser.

    Attributes:
        dtype: one of `DTYPES`.
        data: its bytes, little-endian; None of one that lies in the file of weights.
        offset, length: where it lies there, in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | None = None
    offset: int = 0
    length: int = 0

    @property
    def is_stored(self) -> bool:
        """Whether its bytes lie in the file of weights."""
        return self.data is None

    def numbers(self) -> NDArray[Any]:
        """The values of one that has its bytes with it; not of bfloat16, which NumPy does not know."""
        return np.frombuffer(self.data or b"", np.dtype(self.dtype)).reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator of standard ONNX with the names of what it takes and gives."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the graph. `shape` has a name where a side is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A graph and the operators' version that it is written in."""

    opset: int
    name: str
    nodes: tuple[Node, ...]
    initializers: tuple[Tensor, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def stored(self) -> tuple[Tensor, ...]:
        """Initialisers whose bytes lie in the file of weights."""
        return tuple(tensor for tensor in self.initializers if tensor.is_stored)

    def with_weights_as_inputs(self) -> Model:
        """The graph whose stored initialisers are inputs, after its own."""
        return replace(
            self,
            initializers=tuple(tensor for tensor in self.initializers if not tensor.is_stored),
            inputs=(*self.inputs, *(Port(name=t.name, dtype=t.dtype, shape=t.shape) for t in self.stored)),
        )


def read_model(data: bytes, max_nodes: int) -> Model:
    """Reads a graph from a file's bytes.

    Raises:
        ValueError: it is no ONNX, has more nodes than it may, or holds what `genie-rt export` never writes.
    """
    reader = Reader(FIELDS_PER_NODE * (max_nodes + 100))
    found = reader.message(memoryview(data), "ModelProto", _MODEL)
    opsets = [
        reader.message(each_opset, "OperatorSetIdProto", _OPSET) for each_opset in found["opset_import"]
    ]
    if len(opsets) != 1 or text(opsets[0].get("domain", memoryview(b""))) or "graph" not in found:
        raise ValueError("no graph of the standard operators, and of these alone")
    opset, ir_version = opsets[0].get("version", 0), found.get("ir_version", 0)
    if opset not in IR_VERSIONS:
        known = " or ".join(map(str, IR_VERSIONS))
        raise ValueError(f"opset {opset}, and this version knows {known}; update genie-rt, or")
    if ir_version != IR_VERSIONS[opset]:
        raise ValueError(f"IR version {ir_version} with opset {opset}, which has {IR_VERSIONS[opset]}")
    graph = reader.message(found["graph"], "GraphProto", _GRAPH)
    if len(graph["node"]) > max_nodes:
        raise ValueError(f"{len(graph['node'])} nodes, and {max_nodes} at most for the model of this bundle")
    return Model(
        opset=opset,
        name=_name(graph),
        nodes=tuple(_read_node(reader, node) for node in graph["node"]),
        initializers=tuple(_read_tensor(reader, tensor) for tensor in graph["initializer"]),
        inputs=tuple(_read_port(reader, value) for value in graph["input"]),
        outputs=tuple(_read_port(reader, value) for value in graph["output"]),
    )


def write_model(model: Model) -> bytes:
    """The bytes of a graph, as `genie-rt export` writes them; weights are named, not in them."""
    graph = (
        each(block, 1, map(_node_bytes, model.nodes))
        + block(2, model.name)
        + each(block, 5, map(_tensor_bytes, model.initializers))
        + each(block, 11, map(_port_bytes, model.inputs))
        + each(block, 12, map(_port_bytes, model.outputs))
    )
    opset = block(1, "") + number(2, model.opset)
    return number(1, IR_VERSIONS[model.opset]) + block(2, PRODUCER) + block(7, graph) + block(8, opset)


# Messages, one after the other.


def _read_node(reader: Reader, data: memoryview) -> Node:
    found = reader.message(data, "NodeProto", _NODE)
    attributes: dict[str, Attribute] = {}
    op = _name(found, "op_type")
    for entry in found["attribute"]:
        name, value = _read_attribute(reader, entry, op)
        if name in attributes:
            raise ValueError(f"the attribute {name} of {op} twice")
        attributes[name] = value
    names = {kind: tuple(_checked(text(value)) for value in found[kind]) for kind in ("input", "output")}
    node_name = text(found.get("name", memoryview(b"")))
    return Node(op=op, name=node_name, inputs=names["input"], outputs=names["output"], attributes=attributes)


def _node_bytes(node: Node) -> bytes:
    return (
        each(block, 1, node.inputs)
        + each(block, 2, node.outputs)
        + (block(3, node.name) if node.name else b"")
        + block(4, node.op)
        + each(block, 5, (_attribute_bytes(name, value) for name, value in sorted(node.attributes.items())))
    )


def _read_attribute(reader: Reader, data: memoryview, op: str) -> tuple[str, Attribute]:
    found = reader.message(data, f"AttributeProto of {op}", _ATTRIBUTE)
    name = _name(found)
    if not found["ints"]:
        del found["ints"]
    values = [key for key in found if key in _KINDS]
    if len(values) != 1 or found.get("type") != _KINDS[values[0]]:
        raise ValueError(f"the attribute {name} of {op} without one value of the type that it names")
    value = found[values[0]]
    if values[0] == "ints":
        return name, tuple(signed(each_int) for each_int in value)
    if values[0] == "f":
        if not math.isfinite(value):
            raise ValueError(f"the attribute {name} of {op}: {value}")
        return name, value
    return name, signed(value) if values[0] == "i" else text(value)


def _attribute_bytes(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return block(1, name) + number(3, value) + number(20, _KINDS["i"])
    if isinstance(value, float):
        return block(1, name) + fixed32(2, value) + number(20, _KINDS["f"])
    if isinstance(value, str):
        return block(1, name) + block(4, value) + number(20, _KINDS["s"])
    return block(1, name) + each(number, 8, value) + number(20, _KINDS["ints"])


def _read_tensor(reader: Reader, data: memoryview) -> Tensor:
    found = reader.message(data, "TensorProto", _TENSOR)
    name, dtype = _name(found), _dtype(found.get("data_type", 0))
    shape = _fixed_shape(name, found["dims"])
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if found.get("data_location", 0) == EXTERNAL and "raw_data" not in found:
        offset, length = _read_place(reader, name, found["external_data"])
        if length != size:
            raise ValueError(f"{length} bytes of weights for {name!r}, {dtype} {list(shape)}")
        return Tensor(name=name, dtype=dtype, shape=shape, offset=offset, length=length)
    if "data_location" in found or found["external_data"] or "raw_data" not in found:
        raise ValueError(f"the tensor {name!r} neither in the graph nor in {WEIGHTS!r} alone")
    if len(found["raw_data"]) != size:
        raise ValueError(f"{len(found['raw_data'])} bytes for {name!r}, {dtype} {list(shape)}")
    return Tensor(name=name, dtype=dtype, shape=shape, data=bytes(found["raw_data"]))


def _tensor_bytes(tensor: Tensor) -> bytes:
    head = each(number, 1, tensor.shape) + number(2, DTYPES[tensor.dtype]) + block(8, tensor.name)
    if tensor.data is not None:
        return head + block(9, tensor.data)
    place = {"location": WEIGHTS, "offset": str(tensor.offset), "length": str(tensor.length)}
    pairs = each(block, 13, (block(1, key) + block(2, value) for key, value in place.items()))
    return head + pairs + number(14, EXTERNAL)


def _read_place(reader: Reader, name: str, pairs: list[memoryview]) -> tuple[int, int]:
    """Offset and length of a tensor in the file of weights."""
    place: dict[str, str] = {}
    for entry in pairs:
        pair = reader.message(entry, "StringStringEntryProto", _PAIR)
        key, value = (text(pair.get(part, memoryview(b""))) for part in ("key", "value"))
        if key == "location" and value != WEIGHTS:
            raise ValueError(f"weights in the file {value[:100]!r}, not in {WEIGHTS!r} alone")
        if key in place:
            raise ValueError(f"the {key} of {name!r} twice")
        place[key] = value
    if place.keys() != {"location", "offset", "length"}:
        raise ValueError(f"the weights {name!r} without location, offset and length, and these alone")
    for key in ("offset", "length"):
        if not (place[key].isascii() and place[key].isdigit() and len(place[key]) <= 18):
            raise ValueError(f"weights at the {key} {place[key][:100]!r}")
    return int(place["offset"]), int(place["length"])


def _read_port(reader: Reader, data: memoryview) -> Port:
    found = reader.message(data, "ValueInfoProto", _VALUE)
    name = _name(found)
    kind = reader.message(found.get("type", memoryview(b"")), "TypeProto", _TYPE)
    tensor = reader.message(kind.get("tensor_type", memoryview(b"")), "TypeProto.Tensor", _TENSOR_TYPE)
    if "shape" not in tensor:
        raise ValueError(f"{name!r} without a shape")
    shape: list[int | str] = []
    for entry in reader.message(tensor["shape"], "TensorShapeProto", _SHAPE)["dim"]:
        dim = reader.message(entry, "TensorShapeProto.Dimension", _DIM)
        if len(dim) != 1:
            raise ValueError(f"{name!r} with a side of no one size")
        shape.append(_name(dim, "dim_param") if "dim_param" in dim else dim["dim_value"])
    sizes = _fixed_shape(name, [side for side in shape if isinstance(side, int)])
    if len(shape) > MAX_RANK or len(sizes) > len(shape):
        raise ValueError(f"{name!r} of {len(shape)} axes")
    return Port(name=name, dtype=_dtype(tensor.get("elem_type", 0)), shape=tuple(shape))


def _port_bytes(port: Port) -> bytes:
    dims = each(
        block, 1, (number(1, side) if isinstance(side, int) else block(2, side) for side in port.shape)
    )
    return block(1, port.name) + block(2, block(1, number(1, DTYPES[port.dtype]) + block(2, dims)))


def _name(found: Mapping[str, Any], key: str = "name") -> str:
    return _checked(text(found.get(key, memoryview(b""))))


def _checked(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(name)} characters")
    return name


def _dtype(code: int) -> str:
    for name, known in DTYPES.items():
        if known == code:
            return name
    raise ValueError(f"the dtype {code}, which no exported graph has")


def _fixed_shape(name: str, sides: list[int]) -> tuple[int, ...]:
    if len(sides) > MAX_RANK or not all(1 <= side < 1 << 40 for side in sides):
        raise ValueError(f"{name!r} of the shape {sides[: MAX_RANK + 1]}")
    return tuple(sides)
