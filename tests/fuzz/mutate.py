"""Changes to bytes, to JSON and to safetensors, drawn from a `random.Random`.

Hypothesis offers such an object too, and makes what it drew smaller when a test fails.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

Change: TypeAlias = tuple[str, bytes]
"""What was done, and the bytes that came of it."""

_HOSTILE_BYTES = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff" * 8,
    b"\xff" * 7 + b"\x7f", b"\xea\x80\x80\x80\x10", b"\x80" * 9 + b"\x01", b"\xff" * 9 + b"\x01",
    b"\xed\xa0\x80", b"\xc0\x80", b"\r\n", b"../", b"NaN", b"1e400",
)  # fmt: skip


def mutate_bytes(random: Random, data: bytes, other: bytes = b"") -> Change:
    """One to four changes to bytes.

    Args:
        other: bytes of the same kind, to take parts of.
    """
    words = []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        word, data = _mutate_once(random, data, other)
        words.append(word)
    return " and ".join(words), data


def _mutate_once(random: Random, data: bytes, other: bytes) -> Change:
    size = len(data)
    at = random.randrange(size + 1) if random.random() < 0.6 else min(size, random.randrange(64))
    length = min(size - at, random.choice((1, 2, 4, 8, 64, 1024)))
    match random.randrange(9):
        case 0:
            bit = 1 << random.randrange(8)
            return "a flipped bit", data[:at] + bytes(b ^ bit for b in data[at : at + 1]) + data[at + 1 :]
        case 1:
            return "another byte", data[:at] + random.randbytes(1) + data[at + 1 :]
        case 2:
            return "bytes put in", data[:at] + random.randbytes(length) + data[at:]
        case 3:
            return "bytes taken out", data[:at] + data[at + length :]
        case 4:
            return "cut off", data[:at]
        case 5:
            return "bytes repeated", data[:at] + data[at : at + length] * random.choice((2, 3, 50)) + data[
                at + length :
            ]
        case 6:
            part = random.choice(_HOSTILE_BYTES)
            return "hostile bytes", data[:at] + part + data[at + random.choice((0, len(part))) :]
        case 7:
            donor = other or data
            begin = random.randrange(len(donor) + 1)
            part = donor[begin : begin + max(length, 8)]
            return "a part of another", data[:at] + part + data[at + random.choice((0, len(part))) :]
        case _:
            number = random.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, size, size + 1))
            form = random.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            packed = struct.pack(form, number & (1 << 8 * struct.calcsize(form)) - 1)
            return "another number", data[:at] + packed + data[at + len(packed) :]


# JSON.


class Raw(str):
    """Text that goes into JSON as it is. Half of a surrogate pair becomes the byte that it stands for."""


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand there more than once."""


def render(value: Any) -> bytes:
    """JSON, and what only looks like it."""
    return _text(value).encode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs | dict):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ", ".join(f"{json.dumps(key)}: {_text(each)}" for key, each in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value)


def _values(random: Random) -> Any:
    """A value that a reader may not expect."""
    numbers = (0, -1, 1, 2, 7, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.5, 1e308, 5e-324)
    return random.choice(
        (
            *numbers, None, True, False, "", "0", "NaN", "..", "../../etc/passwd", "a\0b", "\x1b[2J", " ",
            "\u202e", "x" * 100_000, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [0] * 10_000,
            Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e400"), Raw("-1e999"), Raw("1" + "0" * 400),
            Raw("9" * 5000), Raw("1" + "0" * 400 + ".5"), Raw('"\\ud800"'), Raw('"\udcff"'), Raw("0x10"),
            Raw("01"), Raw("'a'"), Raw("[" * 100_000 + "]" * 100_000), Raw('{"a":' * 200 + "1" + "}" * 200),
        )
    )  # fmt: skip


def places_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where values stand in a value, itself included: keys and indices."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [place, *(found for key, child in children for found in places_of(child, (*place, key)))]


def mutate_json(random: Random, data: bytes) -> Change:
    """One to three changes to a JSON text that keep the rest of it as it was; sometimes to its bytes."""
    if random.random() < 0.12:
        return mutate_bytes(random, data)
    value = json.loads(data)
    words = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        word, value = mutate_value(random, value)
        words.append(word)
    return " and ".join(words), render(value)


def mutate_value(random: Random, value: Any) -> tuple[str, Any]:
    """One change to a value that `json.loads` gave."""
    # half of the changes go to the upper levels, where long lists below do not draw all of them
    depth = random.randrange(1, 4) if random.random() < 0.5 else 99
    places = [place for place in places_of(value) if len(place) <= depth]
    place = random.choice(places)
    words: list[str] = []

    def change(old: Any) -> Any:
        word, new = _changed(random, old)
        words.append(f"{'.'.join(map(str, place))[:80] or 'the top'}: {word}")
        return new

    return (lambda new: (words[0], new))(with_change(value, place, change))


def with_change(value: Any, place: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy in which what stands at a place is another."""
    if not place:
        return change(value)
    if isinstance(value, dict):
        return {**value, place[0]: with_change(value[place[0]], place[1:], change)}
    if isinstance(value, list):
        index, rest = place[0], place[1:]
        return [with_change(each, rest, change) if i == index else each for i, each in enumerate(value)]
    return value


def _changed(random: Random, old: Any) -> tuple[str, Any]:
    if isinstance(old, dict) and old and random.random() < 0.7:
        key = random.choice(list(old))
        match random.randrange(5):
            case 0:
                return "a key dropped", {each: old[each] for each in old if each != key}
            case 1:
                return "a key twice", Pairs([*old.items(), (key, _values(random))])
            case 2:
                name = random.choice(("", "x", key + "s", key.upper(), "../" + key, "\0", "k" * 10_000))
                return "a key renamed", {name if each == key else each: old[each] for each in old}
            case 3:
                return "a key more", {**old, random.choice(("extra", "", "__class__")): _values(random)}
            case _:
                return "values swapped", dict(zip(old, reversed(list(old.values())), strict=True))
    if isinstance(old, list) and old and random.random() < 0.5:
        match random.randrange(4):
            case 0:
                return "an entry dropped", old[:-1]
            case 1:
                return "an entry twice", [*old, random.choice(old)]
            case 2:
                return "in another order", old[::-1]
            case _:
                return "a long list", old * random.choice((2, 100))
    if type(old) in (int, float) and random.random() < 0.5:
        near = (old + 1, old - 1, -old, old * 2, float(old), str(old), [old], old * 10**6)
        return "another number", random.choice(near)
    value = _values(random)
    return f"{_text(value)[:30]} for {type(old).__name__}", value


# safetensors.


def mutate_safetensors(random: Random, data: bytes) -> tuple[str, bytes, bool]:
    """A change to a file of tensors; what was done, the bytes, and whether no reader may take them."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = random.choice(names)
    entry = dict(header[name])
    begin, end = entry["data_offsets"]
    total = len(body)

    def packed(value: Any, rest: bytes = body) -> bytes:
        text = render(value)
        return len(text).to_bytes(8, "little") + text + rest

    match random.randrange(12):
        case 0:
            return (*mutate_bytes(random, data), False)
        case 1:
            return (*_behind(data[: 8 + length], mutate_bytes(random, body)), False)
        case 2:
            word, text = mutate_json(random, data[8 : 8 + length])
            return f"header: {word}", len(text).to_bytes(8, "little") + text + body, False
        case 3:
            offsets = random.choice(
                (
                    [begin + 4, end + 4],
                    [begin - 4, end],
                    [0, end],
                    [end, begin],
                    [begin, total + 4],
                    [-4, 4],
                    [2**63, 2**63 + 4],
                    [begin, end - 1],
                    [total, total],
                    [begin, end, end],
                    [begin],
                    [],
                    [begin + 2**64, end + 2**64],
                    [0.0, float(end)],
                    ["0", str(end)],
                    [True, end],
                    None,
                )
            )
            if offsets == [begin, end]:
                return "the same offsets", data, False
            return f"offsets {offsets}", packed({**header, name: {**entry, "data_offsets": offsets}}), True
        case 4:
            dtypes = ["F64", "I64", "U8", "BOOL", "F8_E4M3", "F16", "f32", "", "F32\0", None, 5, ["F32"]]
            dtype = random.choice(dtypes)
            return f"dtype {dtype}", packed({**header, name: {**entry, "dtype": dtype}}), True
        case 5:
            shapes = (
                [],
                [0],
                [2**62, 4],
                [-1, -end],
                [2**32, 2**32],
                [end] * 9,
                [1] * 65,
                [2.0],
                ["2"],
                None,
            )
            shape = random.choice(shapes)
            wrong = bool(shape != entry["shape"])
            return f"shape {shape}", packed({**header, name: {**entry, "shape": shape}}), wrong
        case 6:
            other = random.choice(names)
            if other == name:
                return "nothing", data, False
            return f"{name} over {other}", packed({**header, name: header[other]}), True
        case 7:
            twice = Pairs([*header.items(), (name, entry)])
            return f"{name} twice", packed(twice), True
        case 8:
            size = random.choice((0, 1, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1))
            return f"a header of {size}", size.to_bytes(8, "little") + data[8:], True
        case 9:
            bad = struct.pack("<f", random.choice((float("nan"), float("inf"), -float("inf"))))
            at = begin + random.randrange((end - begin) // 4) * 4 if end - begin >= 4 else 0
            if entry["dtype"] == "BF16":
                bad = bad[2:] * 2
            is_float = entry["dtype"] in ("F32", "BF16") and end - begin >= 4
            return "a number that is none", packed(header, body[:at] + bad + body[at + 4 :]), is_float
        case 10:
            rest = random.choice((body + b"\0", body[:-1], body + body, b"", body + bytes(1 << 20)))
            return "another length", packed(header, rest), True
        case _:
            bloated = {**header, "__metadata__": {"a": "x" * random.choice((10, 1 << 20, 8 << 20))}}
            return "long metadata", packed(bloated), False


def _behind(front: bytes, change: Change) -> Change:
    return change[0], front + change[1]
