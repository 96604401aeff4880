"""JSON that nobody vouches for, read in one way everywhere.

Refused: more bytes than expected, other encodings than UTF-8, a key that stands twice in one object, NaN and
infinite numbers however they are spelled, whole numbers that no float can hold, characters that no file can
hold, deep nesting, and a pipe or device in the file's place.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.errors import GenieError, InputError
from genie_rt.runtime.files import read_regular

MAX_DEPTH = 64
"""Levels of objects and lists, of which our own files have at most 10."""

MAX_DIGITS = 40
"""Most digits of a whole number: room for 128 bits."""

_LARGE = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}|[eE]\+?[0-9]{{3}}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or not of the kind that this module allows; the message says why, in words
            that follow "found".
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes that are not UTF-8 at offset {error.start}") from None
    # Most numbers cannot be too large by their spelling, and a call for each would take its time.
    large = _LARGE.search(text) is not None
    try:
        value = json.loads(
            text, object_pairs_hook=no_key_twice, parse_constant=_finite,
            parse_float=_finite if large else None, parse_int=_whole if large else None,
        )  # fmt: skip
    except RecursionError:
        raise ValueError(f"more than {MAX_DEPTH} levels of nesting") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    _check_depth(value)
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair, which is no character") from None
    return value


def read_json(
    path: Path, *, max_bytes: int, expected: str, error: type[GenieError] = InputError
) -> JsonValue:
    """The value of a JSON file.

    Args:
        expected: what the file should be, for the message.
        error: raised for this file, and later by what is asked of its values.

    Raises:
        GenieError: of the kind that `error` says: the file is missing, unreadable, too large, or not JSON.
    """
    data = read_regular(path, max_bytes, expected=expected, error=error)
    return json_value(data, str(path), expected=expected, error=error)


def json_value(
    data: bytes | str, file: str, *, expected: str, error: type[GenieError] = InputError
) -> JsonValue:
    """The value of a JSON text that was read already. Arguments and errors as of `read_json`."""
    try:
        return JsonValue(parse_json(data), file, expected, error=error)
    except ValueError as failure:
        raise error(f"{file}: expected {expected}, found {str(failure)[:200]}") from failure


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value of parsed JSON and where it stands; whatever is asked of it and is not so is refused.

    Every refusal names the file, the key, what was expected, what was found, and what the file is not.
    """

    value: Any
    file: str
    expected: str
    key: str = ""
    error: type[GenieError] = InputError

    def __getitem__(self, key: str) -> JsonValue:
        """What an object has under a key, which has to be there."""
        values = self.object()
        if key not in values:
            found = f"the keys {', '.join(sorted(values))}" if values else "an empty object"
            raise self.wrong(f"the key {key!r}", found)
        return self._at(key, values[key])

    def get(self, key: str) -> JsonValue | None:
        """What an object has under a key; None where it is absent or null."""
        values = self.object()
        return None if values.get(key) is None else self._at(key, values[key])

    def object(self) -> dict[str, Any]:
        return dict(self._is(dict, "an object"))

    def items(self) -> Iterator[tuple[str, JsonValue]]:
        """Keys and values of an object."""
        for key, value in self.object().items():
            yield key, self._at(key, value)

    def list(self, *, least: int = 0) -> tuple[JsonValue, ...]:
        """Entries of a list that has at least so many."""
        values: list[Any] = self._is(list, "a list")
        if len(values) < least:
            raise self.wrong(f"a list of {least} or more", f"{len(values)} entries")
        return tuple(self._at(index, value) for index, value in enumerate(values))

    def text(self) -> str:
        return str(self._is(str, "a text"))

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value: int = self._is(int, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from `low` to `high`."""
        bounded = math.isfinite(low) or math.isfinite(high)
        expected = f"a number from {low:g} to {high:g}" if bounded else "a number"
        if type(self.value) not in (int, float) or not low <= self.value <= high:
            raise self.wrong(expected)
        return float(self.value)

    def wrong(self, expected: str, found: str | None = None) -> GenieError:
        """The refusal of this value, to be raised."""
        where = f"{self.file}: {self.key}" if self.key else self.file
        found = self._shown() if found is None else found[:200]
        return self.error(f"{where}: expected {expected}, found {found}; it is not {self.expected}")

    def _is(self, kind: type, expected: str) -> Any:
        if type(self.value) is not kind:  # exact: JSON's true is no int
            raise self.wrong(expected)
        return self.value

    def _at(self, step: str | int, value: Any) -> JsonValue:
        dot = "." if self.key else ""
        key = f"{self.key}[{step}]" if isinstance(step, int) else f"{self.key}{dot}{step}"
        return JsonValue(value, self.file, self.expected, key[:200], self.error)

    def _shown(self) -> str:
        match self.value:
            case dict():
                return "an object"
            case list():
                return f"a list of {len(self.value)}"
            case None:
                return "null"
        text = json.dumps(self.value, ensure_ascii=False)
        return text if len(text) <= 80 else f"{text[:77]}..."


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(object_pairs_hook=...)`: two readers could each believe another one of two values.

    Raises:
        ValueError: a key stands there more than once.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key[:80]!r} more than once")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]}, which is not finite")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS + 1:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} levels of nesting")
