"""Opening files that nobody vouches for: regular ones, of a bounded size, without waiting for anybody.

A named pipe in place of a file waits for whoever writes to it, a device does as it likes, and a file may grow
while it is read. What is looked at is what was opened, so nobody can put another file there in between.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from genie_rt.errors import GenieError, InputError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# a pipe without a writer opens at once, and a terminal does not become the process's own
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)


@contextmanager
def open_regular(
    path: str | Path, *, expected: str = "a file", error: type[GenieError] = InputError
) -> Iterator[BinaryIO]:
    """Opens a regular file for reading, unbuffered; a symbolic link is followed to one.

    Args:
        expected: what the file should be, for messages: "a checkpoint", "a JSON record".
        error: what to raise, such as `BundleError`.

    Raises:
        InputError, or `error`: there is nothing of that name, it is no regular file, or it cannot be opened
            or read. Errors of the system within the block become this too.
    """
    try:
        _refuse_others(path, os.stat(path).st_mode, expected, error)  # noqa: PTH116, and opens no device
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _refuse_others(path, os.fstat(descriptor).st_mode, expected, error)
            yield file
    except (OSError, ValueError) as problem:
        # a name with NUL or half a character is a ValueError
        if isinstance(problem, ValueError) and not _is_bad_name(path):
            raise
        raise error(f"{path}: expected {expected}, found {_words(problem)}") from problem


def read_regular(
    path: str | Path, max_bytes: int, *, expected: str = "a file", error: type[GenieError] = InputError
) -> bytes:
    """The bytes of a regular file of at most `max_bytes`.

    Raises:
        InputError, or `error`: it has more, or as `open_regular`.
    """
    with open_regular(path, expected=expected, error=error) as file:
        if (size := os.fstat(file.fileno()).st_size) <= max_bytes:
            data = _read(file, max_bytes + 1)  # it may have grown
            if len(data) <= max_bytes:
                return data
            size = len(data)
    raise error(f"{path}: expected {expected} of at most {max_bytes} bytes, found {size} or more")


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    parts = []
    while max_bytes and (part := file.read(min(max_bytes, 1 << 24))):
        parts.append(part)
        max_bytes -= len(part)
    return b"".join(parts)


def _refuse_others(path: str | Path, mode: int, expected: str, error: type[GenieError]) -> None:
    if not stat.S_ISREG(mode):
        found = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise error(f"{path}: expected {expected}, found {found}, which is no regular file")


def _is_bad_name(path: str | Path) -> bool:
    try:
        return b"\0" in os.fsencode(path)
    except ValueError:
        return True


def _words(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError | ValueError):
        return "nothing of that name"
    if isinstance(problem, OSError) and problem.errno == errno.ELOOP:
        return "a loop of links"
    if isinstance(problem, OSError) and problem.strerror:
        return f"one that cannot be read: {problem.strerror}"
    return str(problem)
