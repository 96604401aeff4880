"""Checks of arguments from outside, for every public call: the value, or an error that says what is right.

Numbers of other libraries are taken as what they say: NumPy scalars, arrays and torch tensors without axes,
whatever has `__index__`. A truth value is never a number, and what is masked has no value.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeGuard, TypeVar

from genie_rt.errors import ConfigError, GenieError, InputError

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

_MOST_SHOWN = 80
_LONGEST_PATH = 4096


def found(value: object) -> str:
    """A value for a message, with its type where how it is written does not tell it, cut if it is long."""
    kind = type(value)
    try:
        text = repr(value)
    except Exception:  # of a foreign object, which may raise anything
        text = "one that cannot be shown"
    text = " ".join(text.split())
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    if value is None or kind in (bool, int, float, str):  # as they are written says which
        return text
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{text} ({name})"


def plain(value: object) -> object:
    """Python's own number or text where the value is one of NumPy or torch without axes, else the value."""
    if type(value) in (int, float, str):  # nearly always
        return value
    if hasattr(value, "mask") or getattr(value, "ndim", None) != 0:
        return value
    if _is_of_numpy(value) and value.dtype.kind in "mM":  # a time says no number
        return value
    torch = sys.modules.get("torch")  # who passes a tensor has imported torch
    if _is_of_numpy(value) or (torch and isinstance(value, torch.Tensor)):
        try:
            return value.item()
        except (RuntimeError, ValueError, TypeError):  # a tensor without data
            return value
    return value


def _is_of_numpy(value: object) -> TypeGuard[np.ndarray[Any, Any] | np.generic]:
    """Whether it is an array or a scalar of NumPy, which is not imported to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def whole_number(
    value: object, lowest: int, highest: int, what: str, *, error: type[GenieError] = InputError
) -> int:
    """A whole number within bounds, as an int.

    Args:
        what: is asked for, such as "a seed from 0 to 2**64 - 1"; the message begins with "expected" unless
            it has a colon.

    Raises:
        InputError, or `error`: it is another one, a truth value, or no whole number.
    """
    number = as_whole(value)
    if number is None or not lowest <= number <= highest:
        raise error(_message(what, value))
    return number


def as_whole(value: object) -> int | None:
    """A whole number as an int; None if it is none."""
    if type(value) is int:
        return value
    value = plain(value)
    if isinstance(value, bool) or _is_of_numpy(value) or not isinstance(value, SupportsIndex):
        return None
    if getattr(value, "ndim", 0):  # tensors of one element have __index__ too
        return None
    try:
        return int(value.__index__())
    except Exception:  # of a foreign object, which may raise anything
        return None


def real_number(
    value: object, lowest: float, highest: float, what: str, *, error: type[GenieError] = ConfigError
) -> float:
    """A finite number within bounds, as a float. NaN is none.

    Args:
        what: as for `whole_number`.

    Raises:
        ConfigError, or `error`: it is another one, a truth value, or no number.
    """
    number = as_real(value)
    if number is None or not lowest <= number <= highest:
        raise error(_message(what, value))
    return number


def as_real(value: object) -> float | None:
    """A finite number as a float; None if it is none."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if _is_of_numpy(value) and value.dtype.kind != "f":  # longdouble has no other form; a time is none
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def truth(value: object, what: str, *, error: type[GenieError] = InputError) -> bool:
    """True or False, also as a NumPy or torch scalar.

    Raises:
        InputError, or `error`: it is another thing, such as the text "no".
    """
    found_value = plain(value)
    if not isinstance(found_value, bool):
        raise error(_message(f"{what}: expected True or False", value))
    return found_value


def one_of(value: object, known: Iterable[str]) -> str | None:
    """The text, if it is one of those that are known; else None."""
    text = plain(value)
    return text if isinstance(text, str) and text in tuple(known) else None


def check_path(value: object, expected: str, *, error: type[GenieError] = InputError) -> Path:
    """A path from a text or a path-like object.

    Args:
        expected: to be at that path, for the message: "a picture".

    Raises:
        InputError, or `error`: it is another thing, empty, or longer than any path.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_PATH:
        raise error(f"expected the path of {expected}, found {found(value)}")
    return Path(text)


def sequence(value: Iterable[T], expected: str, *, ordered: bool = True) -> Iterable[T]:
    """What can be gone through one by one: a list, an array, a generator. Not a text or bytes.

    Args:
        expected: for the message, such as "a list of actions".
        ordered: whether the order counts, so that a set will not do.

    Raises:
        InputError: it is another thing.
    """
    refused: tuple[type, ...] = (str, bytes, bytearray, memoryview, Mapping)
    if ordered:
        refused += (Set,)
    if isinstance(value, refused) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        hint = f"; write [{found(value)}]" if isinstance(value, str) else ""
        raise InputError(f"expected {expected}, found {found(value)}{hint}")
    return value


def _message(what: str, value: object) -> str:
    return f"{what if ': expected' in what else f'expected {what}'}, found {found(value)}"
