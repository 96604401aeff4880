"""What an ONNX file says about itself, read without any engine: its versions, and the files that it names.

Engines differ in what they find wrong with a graph and when; some take an operator set that they do not
know for their newest. So this is looked at first. The wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import BundleError

NEWEST_OPSET = 23
"""That `genie-rt export` writes. Whether an engine knows it, it says itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Of one graph.

    Attributes:
        ir_version: of the file format.
        opset: of the standard operators.
        files: bytes that the graph needs of each file beside it.
    """

    ir_version: int
    opset: int
    files: dict[str, int]


def check_header(path: Path) -> Header:
    """Reads and checks the header of a graph file.

    Raises:
        BundleError: it is no graph, of a newer operator set, or a file that it names is missing or too short.
    """
    try:
        header = _read(path.read_bytes())
        sizes = {name: _size(path.parent / name) for name in header.files}
    except OSError as error:
        raise BundleError(f"{path}: expected a graph that can be read, found {error}") from error
    except (ValueError, IndexError) as error:
        raise BundleError(f"{path}: expected an ONNX graph, found {error}; export again") from error
    if not 1 <= header.opset <= NEWEST_OPSET:
        raise BundleError(
            f"{path}: expected operators of opset {NEWEST_OPSET} or older, found opset {header.opset}; "
            "update genie-rt, or export again with this version"
        )
    for name, size in header.files.items():
        if Path(name).name != name:
            raise BundleError(f"{path}: expected weights in a file beside it, found them in {name!r}")
        found = sizes[name]
        if found is None or found < size:
            raise BundleError(
                f"{path}: expected {size} bytes or more of weights in {name!r}, found "
                f"{'no such file' if found is None else found}; fetch the whole bundle again"
            )
    return header


def _size(path: Path) -> int | None:
    """Bytes of a file, None where there is none."""
    return path.stat().st_size if path.is_file() else None


def _read(data: bytes) -> Header:
    ir_version = opset = 0
    files: dict[str, int] = {}
    for number, value in _fields(memoryview(data)):  # ModelProto
        if number == 1 and isinstance(value, int):
            ir_version = value
        elif number == 8 and not isinstance(value, int):
            entry = dict(_fields(value))  # OperatorSetIdProto: domain, version
            if not bytes(entry.get(1, b"")) and isinstance(version := entry.get(2, 0), int):
                opset = version
        elif number == 7 and not isinstance(value, int):
            for field, tensor in _fields(value):  # GraphProto
                if field == 5 and not isinstance(tensor, int):
                    _add_external(tensor, files)
    if not ir_version or not opset:
        raise ValueError("neither a version nor operators")
    return Header(ir_version=ir_version, opset=opset, files=files)


def _add_external(tensor: memoryview, files: dict[str, int]) -> None:
    """Adds what a TensorProto keeps in another file."""
    entries: dict[str, str] = {}
    for field, value in _fields(tensor):
        if field == 13 and not isinstance(value, int):  # StringStringEntryProto: key, value
            pair = {key: bytes(text).decode() for key, text in _fields(value) if not isinstance(text, int)}
            entries[pair.get(1, "")] = pair.get(2, "")
    if location := entries.get("location"):
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        files[location] = max(files.get(location, 0), end)


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
