"""Whether a graph that an engine has read is the one that the contract describes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from genie_rt.errors import BundleError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported.signature import Signature, Value

Found = Mapping[str, tuple[str, Sequence[int | None]]]
"""Inputs or outputs of a graph, by name: dtype and shape, None where a side is not fixed."""


def check_values(path: Path, signature: Signature, inputs: Found, outputs: Found) -> None:
    """Compares what a graph takes and gives with its signature.

    Raises:
        BundleError: a name is missing or unknown, or a dtype or shape is another; the first that is found.
    """
    for kind, expected, found in (
        ("input", signature.inputs, inputs),
        ("output", signature.outputs, outputs),
    ):
        for name in [*expected, *found]:
            want = _described(expected[name]) if name in expected else "none of that name"
            have = "none" if name not in found else _words(*found[name])
            if name not in expected or name not in found or not _fits(expected[name], *found[name]):
                raise BundleError(
                    f"{path}: {kind} {name!r}: expected {want} for the model of this bundle, found {have}; "
                    "export the bundle again with this version"
                )


def check_version(package: str, found: str, oldest: tuple[int, ...], extra: str) -> None:
    """Checks that an engine is not older than it may be.

    Args:
        found: what the package says of itself, such as "1.24.1" or "2026.0.0-20965-c6d6a13a886".
        extra: of genie-rt, that installs it.

    Raises:
        UnsupportedError: it is.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", found.partition("-")[0])[: len(oldest)])
    if numbers < oldest:
        raise UnsupportedError(
            f"expected the package {package} {'.'.join(map(str, oldest))} or newer, found {found}; update it "
            f"with: {install_hint(extra)}"
        )


def _fits(value: Value, dtype: str, shape: Sequence[int | None]) -> bool:
    return (
        dtype == value.dtype
        and len(shape) == len(value.shape)
        and all(
            side is None if isinstance(expected, str) else side == expected
            for expected, side in zip(value.shape, shape, strict=True)
        )
    )


def _described(value: Value) -> str:
    return _words(value.dtype, [None if isinstance(side, str) else side for side in value.shape])


def _words(dtype: str, shape: Sequence[int | None]) -> str:
    return f"{dtype} [{', '.join('any' if side is None else str(side) for side in shape)}]"
