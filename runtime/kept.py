"""What was made once and would take long to make again, kept in a folder of the user's cache.

Whoever can write there can change what this process computes, so the folder is its owner's alone. Nothing in
it is believed that is not, to the byte, what was written for the very thing that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from genie_rt.errors import BundleError, GenieError, InputError, UnsupportedError
from genie_rt.runtime.sealed import read_sealed, write_sealed

MAX_BYTES = 2**30
"""Most bytes of all files of one cache. The demo's graphs take 20 MB in one number format."""

LEFTOVER_S = 3600.0
"""After which a file that somebody was writing belongs to nobody any more."""

SUFFIX = ".kept"

_LOGGER = logging.getLogger("genie_rt.kept")


def private_folder(root: Path, what: str) -> Path:
    """Makes a folder that nobody but its owner may write, or checks that it is one.

    Args:
        what: is kept there and is as good as code, for messages: "an engine".

    Raises:
        UnsupportedError: others may write it, it belongs to someone else, or the system has no permissions.
        InputError: it cannot be made.
    """
    if os.name != "posix":
        raise UnsupportedError(f"{what} is kept under POSIX's permissions and locks, found another system")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.stat()
    except OSError as error:
        raise InputError(f"{root}: expected a folder that can be made, found: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise UnsupportedError(
            f"{root}: expected a folder of the user {os.geteuid()}, found one of {found.st_uid}; {what} is "
            "code: choose another place with XDG_CACHE_HOME"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsupportedError(
            f"{root}: expected a folder that only its owner can write, found the mode "
            f"{stat.S_IMODE(found.st_mode):o}; {what} is code: look what is in it, then chmod 700 {root}"
        )
    return root


class Kept:
    """Bytes by all that they depend on. Losing any of them costs time and nothing else.

    So nothing here raises: a folder that cannot be used or is not private, a full disk, a damaged file are
    logged, and what was asked for is made anew. Processes may share a folder: files appear whole, and of two
    that make the same thing at once the later stays.

    Args:
        root: made when it is first needed; None keeps nothing.
        max_bytes: of all files together. Those that were not asked for longest go first.
    """

    def __init__(self, root: Path | None, max_bytes: int = MAX_BYTES) -> None:
        self.root, self.max_bytes = root, max_bytes
        self._is_private = False

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self.root is not None

    def find(self, wanted: Mapping[str, Any]) -> bytes | None:
        """What was kept, or None.

        Args:
            wanted: all that the bytes depend on, in JSON's types.
        """
        path = self._path(wanted)
        if path is None:
            return None
        try:
            sealed = read_sealed(path)
            if sealed.about != wanted:
                raise BundleError(f"{path}: expected notes about what was asked for, found others")
            os.utime(path)  # asked for last
        except FileNotFoundError:
            return None
        except (GenieError, OSError) as error:
            _LOGGER.warning("%s; it is made again", error)
            self.drop(wanted)
            return None
        return sealed.data

    def keep(self, wanted: Mapping[str, Any], data: bytes) -> None:
        """Keeps bytes for the next who wants the same, where there is room."""
        path = self._path(wanted)
        if path is None or len(data) > self.max_bytes:
            return
        try:
            write_sealed(path, dict(wanted), data)
            self._make_room(path)
        except (GenieError, OSError) as error:
            _LOGGER.info("%s; it is not kept", error)

    def drop(self, wanted: Mapping[str, Any]) -> None:
        """Lets go of what turned out to be of no use."""
        if (path := self._path(wanted)) is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _path(self, wanted: Mapping[str, Any]) -> Path | None:
        """Path of the file; None where nothing is kept."""
        if self.root is not None and not self._is_private:
            try:
                private_folder(self.root, "a compiled graph")
                self._is_private = True
            except GenieError as error:
                is_usual = isinstance(error, InputError) or os.name != "posix"
                _LOGGER.log(logging.INFO if is_usual else logging.WARNING, "%s; nothing is kept", error)
                self.root = None
        if self.root is None:
            return None
        key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]
        return self.root / f"{key}{SUFFIX}"

    def _make_room(self, newest: Path) -> None:
        found = []
        for path in newest.parent.iterdir():
            try:
                about = path.lstat()
            except FileNotFoundError:  # another process was faster
                continue
            if path.suffix == SUFFIX:
                found.append((path != newest, -about.st_mtime, path.name, about.st_size))
            elif path.suffix == ".tmp" and about.st_mtime < time.time() - LEFTOVER_S:
                path.unlink(missing_ok=True)
        total = 0
        for _, _, name, size in sorted(found):
            total += size
            if total > self.max_bytes:
                newest.with_name(name).unlink(missing_ok=True)
