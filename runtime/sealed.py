"""Files that are believed only if they are, to the byte, what was written: a line of JSON, then the bytes.

What is kept is as good as code, and reading a damaged one may do anything. The line holds the sha256 of what
follows; both go to the disk as one file, so that they cannot be of two builds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from genie_rt.errors import BundleError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.files import open_regular
from genie_rt.runtime.untrusted_json import json_value

MAX_LINE_BYTES = 1 << 16
MAX_BYTES = 1 << 40

_SHA256 = re.compile("[0-9a-f]{64}")


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
    with _opened(path) as file:
        seal, length = _read_line(path, file)
        size = os.fstat(file.fileno()).st_size - length
        _compare(path, "size", seal["size"], size)  # before anything of that size is read
        file.seek(length)
        data = file.read()
    _compare(path, "sha256", seal["sha256"], hashlib.sha256(data).hexdigest())
    return Sealed(about=seal["about"], data=data)


def read_about(path: Path) -> dict[str, Any]:
    """What was noted about a file's bytes, without a look at them. Raises as `read_sealed`."""
    with _opened(path) as file:
        return dict(_read_line(path, file)[0]["about"])


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    path.stat()  # that there is none is no error of the file
    return open_regular(path, expected="a sealed file", error=BundleError)


def _read_line(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The first line's object, and the bytes of that line."""
    line, newline, _ = file.read(MAX_LINE_BYTES).partition(b"\n")
    seal = json_value(
        line, str(path), expected="a file with a first line of sha256, size and notes", error=BundleError
    )
    if not newline or seal.object().keys() != {"sha256", "size", "about"}:
        raise seal.wrong("the keys sha256, size and about in a first line")
    seal["about"].object()
    seal["size"].whole(0, MAX_BYTES)
    if not _SHA256.fullmatch(seal["sha256"].text()):
        raise seal["sha256"].wrong("64 digits of 0-9 a-f")
    return seal.object(), len(line) + 1


def _compare(path: Path, key: str, expected: object, found: object) -> None:
    if found != expected:
        raise BundleError(
            f"{path}: expected the {key} {expected} that was written, found {found}: the file was changed or "
            "damaged"
        )
