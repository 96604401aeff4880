"""A folder that takes the place of another one, so that a kill at any moment loses neither.

The new one is written beside its place, as `.NAME.XXXXXXXX`. On Linux both are then exchanged in one step, so
that there is a whole folder at the place at every moment. Where the system or the file system cannot do that
(macOS, Windows, some network file systems) there are two renames; a kill between them leaves nothing at the
place, and what was there as `.NAME.XXXXXXXX.old`. Whoever looks for it next puts that back: `restored`.

All of this goes on under one lock a place, so what is found under it is of processes that are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_rt.errors import GenieError, InputError, StateError
from genie_rt.interrupt import Cleanup
from genie_rt.runtime.folder_lock import sole_writer

_LOGGER = logging.getLogger("genie_rt.files")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextmanager
def new_folder(
    out: Path, is_ours: Callable[[Path], bool], *, error: type[GenieError] = InputError
) -> Iterator[Path]:
    """The path of a folder to make beside `out`, for `put_in_place`; gone at the end of the block.

    What earlier writers of `out` left when they were killed is put back or removed.

    Args:
        is_ours: whether a folder that was left holds nothing but what such writers write; others are kept.
        error: raised where nothing can be written.

    Raises:
        StateError: another process is at it.
    """
    with sole_writer(_lock_of(out), out, "exporting to it", error=error):
        _put_back(out)
        _sweep(out, is_ours)
        new = out.parent / f".{out.name}.{secrets.token_hex(4)}"
        try:
            with Cleanup(lambda: shutil.rmtree(new, ignore_errors=True)):
                yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)


def put_in_place(new: Path, out: Path, check: Callable[[Path], None]) -> None:
    """Makes `new` the folder at `out`, and removes what is there.

    Args:
        check: looks once more at what was there, where nobody can reach it any more: files may have come.
            If it raises, all is as it was.

    Raises:
        OSError: the system refused; all is as it was.
    """
    if not os.path.lexists(out):
        new.rename(out)
        return
    ours = new.stat().st_ino
    try:
        exchanged = _exchange(new, out)
        if exchanged:
            check(new)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            if out.stat().st_ino == ours:
                _exchange(new, out)
        raise
    if exchanged:
        shutil.rmtree(new, ignore_errors=True)
    else:
        _rename_twice(new, out, check)


def restored(out: Path) -> bool:
    """Puts back a folder that a killed writer had moved away; False where there is none, or no right to."""
    if os.path.lexists(out) or moved_away(out) is None:
        return False
    try:
        with sole_writer(_lock_of(out), out, "exporting to it"):
            return _put_back(out)
    except (StateError, InputError):  # somebody is at it, or this user may only read
        return False


def moved_away(out: Path) -> Path | None:
    """The folder that a writer of `out` moved away; the newest, should there be several."""
    found = [path for path in _left(out) if path.suffix == ".old"]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _rename_twice(new: Path, out: Path, check: Callable[[Path], None]) -> None:
    old = new.with_name(f"{new.name}.old")
    try:
        out.rename(old)
        check(old)
        new.rename(out)
    finally:
        if new.exists() and old.exists():  # failed, or interrupted
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchanges two folders in one step; False where that cannot be done here."""
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # an older C library
        return False
    if call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(b))


def _put_back(out: Path) -> bool:
    old = None if os.path.lexists(out) else moved_away(out)
    if old is None:
        return False
    try:
        old.rename(out)
    except OSError as error:
        raise InputError(f"{out}: expected to rename {old.name} to it, found: {error.strerror}") from error
    _LOGGER.warning("%s: put back as it was before an export that was interrupted", out)
    return True


def _sweep(out: Path, is_ours: Callable[[Path], bool]) -> None:
    for path in _left(out):
        if is_ours(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            _LOGGER.warning("%s: left by an export that was interrupted, with other files in it; kept", path)


def _left(out: Path) -> list[Path]:
    """Folders beside `out` that writers of it made."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}(\.old)?")
    try:
        found = [path for path in out.parent.iterdir() if pattern.fullmatch(path.name)]
    except (OSError, ValueError):  # no such folder; a NUL in its name
        return []
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _lock_of(out: Path) -> Path:
    return out.parent / f".{out.name}.lock"
