"""The wire format of protocol buffers, read so that no other parser can read the same bytes otherwise.

Parsers differ in what they do with unusual bytes: some cut a tag to 32 bits, so that a field of a number
above 2^29 becomes another field; some take numbers written in more bytes than they need; of a field that
stands there twice one keeps the last and another merges both. All of that is refused here. The format:
protobuf.dev, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

VARINT, BLOCK, FIXED32 = 0, 2, 5
"""The encodings that an ONNX graph needs. There are 64-bit numbers and groups too; both are refused."""

Raw: TypeAlias = int | float | memoryview
"""A number, or the bytes of a text or of a message."""

Field: TypeAlias = tuple[str, int, bool]
"""What a message may hold under a number: a name, its encoding, and whether it may stand there repeatedly."""


class Reader:
    """Reads messages, and no more fields in all of them than it may.

    Args:
        max_fields: of all messages that this reader reads.
    """

    def __init__(self, max_fields: int) -> None:
        self.left = self.max_fields = max_fields

    def message(self, data: memoryview, kind: str, known: Mapping[int, Field]) -> dict[str, Any]:
        """The fields of a message by name: a `Raw` each, or a list of them where it may be repeated.

        Args:
            kind: of message, for errors.
            known: what it may hold, by number.

        Raises:
            ValueError: there is anything in it that is not known, or written as no writer writes it.
        """
        found: dict[str, Any] = {name: [] for name, _, repeated in known.values() if repeated}
        place = 0
        while place < len(data):
            if not self.left:
                raise ValueError(f"more than {self.max_fields} fields")
            self.left -= 1
            tag, place = _varint(data, place, 32)
            number, encoding = tag >> 3, tag & 7
            if number not in known:
                raise ValueError(f"the field {number} of {kind}, which no exported graph has")
            name, expected, repeated = known[number]
            if encoding != expected:
                raise ValueError(f"{kind}.{name} in the encoding {encoding}, not {expected}")
            value: Raw
            if encoding == VARINT:
                value, place = _varint(data, place, 64)
            else:
                size = 4
                if encoding == BLOCK:
                    size, place = _varint(data, place, 32)
                end = place + size
                if end > len(data):
                    raise ValueError(f"{kind}.{name} of {size} bytes where {len(data) - place} are left")
                value = data[place:end]
                if encoding == FIXED32:
                    value = float(struct.unpack("<f", value)[0])
                place = end
            if repeated:
                found[name].append(value)
            elif name in found:
                raise ValueError(f"{kind}.{name} more than once")
            else:
                found[name] = value
        return found


def text(value: memoryview) -> str:
    """A text.

    Raises:
        ValueError: it is no UTF-8.
    """
    return bytes(value).decode()


def signed(value: int) -> int:
    """A number that was written as two's complement in 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def number(field: int, value: int) -> bytes:
    """A field with a whole number from -2^63 to 2^64 - 1."""
    return _bytes_of(field << 3 | VARINT) + _bytes_of(value & (1 << 64) - 1)


def block(field: int, value: bytes | str) -> bytes:
    """A field with a text, bytes or a message."""
    data = value.encode() if isinstance(value, str) else value
    return _bytes_of(field << 3 | BLOCK) + _bytes_of(len(data)) + data


def fixed32(field: int, value: float) -> bytes:
    """A field with a float32."""
    return _bytes_of(field << 3 | FIXED32) + struct.pack("<f", value)


def each(write: Callable[[int, Any], bytes], field: int, values: Iterable[Any]) -> bytes:
    """A field that is repeated, written by one of the functions above."""
    return b"".join(write(field, value) for value in values)


def _varint(data: memoryview, place: int, bits: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, the lowest first, and the place after it."""
    value = shift = 0
    while True:
        if place >= len(data):
            raise ValueError("a number without an end")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if value >> bits or shift >= 70:
            raise ValueError(f"a number of more than {bits} bits")
        if byte < 0x80:
            break
        shift += 7
    if shift and not byte:
        raise ValueError("a number in more bytes than it needs")
    return value, place


def _bytes_of(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
