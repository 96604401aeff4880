"""Files that are believed only if they are, to the byte, what was written: a line of JSON, then the bytes.

An engine is code for a GPU, and reading a damaged one may do anything. The line holds the sha256 of what
follows; both go to the disk as one file, so that they cannot be of two builds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.errors import BundleError
from genie_rt.runtime.atomic import atomic_file

MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Bytes, and what was noted about them."""

    about: dict[str, Any]
    data: bytes


def write_sealed(path: Path, about: dict[str, Any], data: bytes | memoryview) -> None:
    """Writes a file that takes the place of an older one, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    seal = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "about": about}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(seal).encode() + b"\n")
        file.write(data)


def read_sealed(path: Path) -> Sealed:
    """Reads a file that is whole.

    Raises:
        BundleError: it is not what was written.
        FileNotFoundError: there is none.
    """
    with path.open("rb") as file:
        seal = _read_line(path, file.readline(MAX_LINE_BYTES))
        data = file.read()
    found = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    for key, value in found.items():
        if seal[key] != value:
            raise BundleError(
                f"{path}: expected the {key} {seal[key]} that was written, found {value}: the file was "
                "changed or damaged"
            )
    return Sealed(about=seal["about"], data=data)


def read_about(path: Path) -> dict[str, Any]:
    """What was noted about a file's bytes, without a look at them. Raises as `read_sealed`."""
    with path.open("rb") as file:
        about: dict[str, Any] = _read_line(path, file.readline(MAX_LINE_BYTES))["about"]
        return about


def _read_line(path: Path, line: bytes) -> dict[str, Any]:
    try:
        seal = json.loads(line)
        if not line.endswith(b"\n") or seal.keys() != {"sha256", "size", "about"}:
            raise ValueError("another one")
        if not isinstance(seal["about"], dict):
            raise ValueError("no notes in it")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path}: expected a first line with sha256, size and notes, found {error}"
        ) from error
    return dict(seal)
