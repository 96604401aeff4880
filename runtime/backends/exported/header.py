"""What an ONNX file says about itself, read without any engine: its versions, and the weights that it needs.

Engines differ in what they find wrong with a graph and when: some take an operator set that they do not know
for their newest, and some read any file that a graph names. So this is looked at first. The wire format:
protobuf.dev, "Encoding"; the messages: `onnx.proto` of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import BundleError
from genie_rt.runtime.manifest import WEIGHTS

NEWEST_OPSET = 23
"""That `genie-rt export` writes. Whether an engine knows it, it says itself."""

MAX_DEPTH = 64
"""Of messages in messages; a graph in a graph is three deeper."""

INSIDE = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}  # fmt: skip
"""The messages that tensors lie in, however deep: which field of them leads to which message."""

INITIALISERS = (7, 5)
"""The fields that lead to the tensors that may lie in the file of weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Of one graph.

    Attributes:
        ir_version: of the file format.
        opset: of the standard operators.
        weight_bytes: that the file of weights beside it has to have.
    """

    ir_version: int
    opset: int
    weight_bytes: int


def check_header(path: Path) -> Header:
    """Reads and checks the header of a graph file.

    Raises:
        BundleError: it is no graph, of a newer operator set, or keeps tensors in any file but the bundle's
            weights, whose hash is known; or that is missing or too short.
    """
    try:
        header = _read(path.read_bytes())
        weights = path.parent / WEIGHTS
        found = weights.stat().st_size if weights.is_file() else None
    except OSError as error:
        raise BundleError(f"{path}: expected a graph that can be read, found {error}") from error
    except (ValueError, IndexError) as error:
        raise BundleError(f"{path}: expected an ONNX graph, found {error}; export again") from error
    if not 1 <= header.opset <= NEWEST_OPSET:
        raise BundleError(
            f"{path}: expected operators of opset {NEWEST_OPSET} or older, found opset {header.opset}; "
            "update genie-rt, or export again with this version"
        )
    if header.weight_bytes > (found or 0):
        raise BundleError(
            f"{path}: expected {header.weight_bytes} bytes or more of weights in {WEIGHTS!r}, found "
            f"{'no such file' if found is None else found}; fetch the whole bundle again"
        )
    return header


def _read(data: bytes) -> Header:
    model = memoryview(data)
    ir_version = opset = 0
    for number, value in _fields(model):  # ModelProto
        if number == 1 and isinstance(value, int):
            ir_version = value
        elif number == 8 and not isinstance(value, int):
            entry = dict(_fields(value))  # OperatorSetIdProto: domain, version
            if not _text(entry.get(1, b"")) and isinstance(version := entry.get(2, 0), int):
                opset = version
    if not ir_version or not opset:
        raise ValueError("neither a version nor operators")
    weight_bytes = max((_end(where, tensor) for where, tensor in _tensors(model, "ModelProto")), default=0)
    return Header(ir_version=ir_version, opset=opset, weight_bytes=weight_bytes)


def _tensors(
    data: memoryview, message: str, where: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], memoryview]]:
    """All tensors below a message, with the fields that lead to each."""
    if len(where) > MAX_DEPTH:
        raise ValueError(f"messages more than {MAX_DEPTH} deep")
    for number, value in _fields(data):
        inside = INSIDE[message].get(number)
        if inside == "TensorProto" and not isinstance(value, int):
            yield (*where, number), value
        elif inside is not None and not isinstance(value, int):
            yield from _tensors(value, inside, (*where, number))


def _end(where: tuple[int, ...], tensor: memoryview) -> int:
    """The end in the file of weights of what a TensorProto keeps there; 0 of one that is in the graph."""
    offset = length = 0
    for field, value in _fields(tensor):
        if field != 13 or isinstance(value, int):
            continue
        pair = dict(_fields(value))  # StringStringEntryProto: key, value
        key, text = _text(pair.get(1, b"")), _text(pair.get(2, b""))
        if key == "location" and (text != WEIGHTS or where != INITIALISERS):
            place = "" if where == INITIALISERS else " and below a node"
            raise ValueError(f"weights in the file {text[:100]!r}{place}, not in {WEIGHTS!r} alone")
        if key in ("offset", "length") and not (text.isascii() and text.isdigit()):
            raise ValueError(f"weights at the {key} {text[:100]!r}")
        offset = int(text) if key == "offset" else offset
        length = int(text) if key == "length" else length
    return offset + length


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number where text belongs")
    return bytes(value).decode()


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: their numbers, with whole numbers or bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, place = _varint(data, place)
        if size is None or place + size > len(data):
            raise ValueError("no such encoding")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without an end")
