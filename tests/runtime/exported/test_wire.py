"""Bytes that two parsers of protocol buffers could read in two ways are read in none."""

import struct

import pytest

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
)

KNOWN: dict[int, Field] = {
    1: ("count", VARINT, False),
    2: ("name", BLOCK, False),
    3: ("sizes", VARINT, True),
    4: ("scale", FIXED32, False),
    20: ("kind", VARINT, False),
}


def read(data: bytes, max_fields: int = 100) -> dict[str, object]:
    return Reader(max_fields).message(memoryview(data), "Thing", KNOWN)


def test_what_was_written_is_read() -> None:
    data = number(1, 300) + block(2, "a name") + each(number, 3, (0, -1, 2**63 - 1)) + fixed32(4, 0.1)
    found = read(data + number(20, 2**64 - 1))
    assert (found["count"], bytes(found["name"]), found["kind"]) == (300, b"a name", 2**64 - 1)  # type: ignore[arg-type]
    assert [signed(size) for size in found["sizes"]] == [0, -1, 2**63 - 1]  # type: ignore[attr-defined]
    assert found["scale"] == struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert read(b"") == {"sizes": []}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xea\x80\x80\x80\x10\x00", "a number of more than 32 bits"),  # the tag 106 of a parser that cuts
        (b"\x88\x80\x80\x80\x10\x01", "a number of more than 32 bits"),  # count, likewise
        (b"\x88\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01", "a number of more than 32 bits"),
        (b"\x88\x00\x01", "a number in more bytes than it needs"),
        (b"\x08\x81\x00", "a number in more bytes than it needs"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a number of more than 64 bits"),
        (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", "a number of more than 64 bits"),
        (b"\x12\xff\xff\xff\xff\x10", "a number of more than 32 bits"),
        (b"\x08", "a number without an end"),
        (b"\x08\x80", "a number without an end"),
        (b"\x12\x05abc", "Thing.name of 5 bytes where 3 are left"),
        (b"\x25\x00\x00\x00", "Thing.scale of 4 bytes where 3 are left"),
        (b"\x0b\x08\x01\x0c", "Thing.count in the encoding 3"),  # a group
        (b"\x0a\x01\x01", "Thing.count in the encoding 2"),
        (b"\x1a\x02\x01\x02", "Thing.sizes in the encoding 2"),  # packed, which ONNX does not write
        (b"\x11" + bytes(8), "Thing.name in the encoding 1"),
        (b"\x0e", "Thing.count in the encoding 6"),
        (b"\x08\x01\x08\x01", "Thing.count more than once"),
        (b"\x12\x00\x12\x00", "Thing.name more than once"),
        (b"\x00\x00", "the field 0 of Thing"),
        (b"\x28\x00", "the field 5 of Thing"),
        (b"\xf8\xff\xff\xff\x0f\x00", "the field 536870911 of Thing"),
    ],
)  # fmt: skip
def test_unusual_bytes_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(data)


def test_fields_are_counted_over_all_messages() -> None:
    reader = Reader(3)
    reader.message(memoryview(number(1, 1) + block(2, "")), "Thing", KNOWN)
    with pytest.raises(ValueError, match="more than 3 fields"):
        reader.message(memoryview(each(number, 3, range(2))), "Thing", KNOWN)
