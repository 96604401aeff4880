"""What flags of several commands mean: a bundle's name, where results go, how many threads compute."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro

from genie_rt.errors import InputError
from genie_rt.parsing import shown

MAX_THREADS = 1024

BundleName: TypeAlias = tyro.conf.Positional[Annotated[str, shown(metavar="[BUNDLE]")]]
"""A bundle, given by place: the name of a shipped one, or the path of a folder."""


def check_file(flag: str, path: Path | None) -> None:
    """Refuses a file that could not be written, before the work whose results go there. Leaves nothing.

    Args:
        flag: that named the file, such as "--json".
        path: a file that need not be there, in folders that need not be; None for no file.

    Raises:
        InputError: it is a folder or a device, lies below a file, or its folder cannot be written.
    """
    if path is None:
        return
    mode = _mode(flag, path)
    if mode is not None and not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "something else, such as a device"
        raise InputError(f"{flag} {path}: expected the name of a file to write, found {what}")
    _check_writable(flag, path.parent)


def check_folder(flag: str, path: Path | None) -> None:
    """Refuses a folder in which no files could be made; as `check_file`, of a folder."""
    if path is not None:
        _check_writable(flag, path)


def set_threads(num_threads: int | None) -> None:
    """Lets torch compute with so many CPU threads; None leaves it alone.

    Says so on stderr where that is more than this process may use at once.

    Raises:
        InputError: the number is not from 1 to 1024.
    """
    if num_threads is None:
        return
    if not 1 <= num_threads <= MAX_THREADS:
        raise InputError(f"--threads: expected a whole number from 1 to {MAX_THREADS}, found {num_threads}")
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_threads > cores:
        print(
            f"note: --threads {num_threads}: this machine offers {cores}, so threads wait for each other and "
            "times grow",
            file=sys.stderr,
        )
    torch.set_num_threads(num_threads)


def _mode(flag: str, path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (
        OSError,
        ValueError,
    ) as error:  # a name too long, a NUL in it, a folder that may not be looked into
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{flag} {path}: expected a name that can be written, found: {reason}") from error


def _check_writable(flag: str, folder: Path) -> None:
    """Makes and removes a file in the folder, or in the nearest one above that is there."""
    import tempfile

    nearest = folder
    while (mode := _mode(flag, nearest)) is None and nearest != nearest.parent:
        nearest = nearest.parent
    if mode is not None and not stat.S_ISDIR(mode):
        raise InputError(f"{flag}: expected a folder at {nearest}, found a file")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise InputError(
            f"{flag}: expected a folder that can be written, found {nearest}: {error.strerror}; name another"
        ) from error
