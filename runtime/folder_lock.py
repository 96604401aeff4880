"""One writer a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_rt.errors import GenieError, InputError, StateError
from genie_rt.interrupt import Cleanup

_LOGGER = logging.getLogger("genie_rt.lock")
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def sole_writer(
    lock: Path, folder: Path, work: str, *, error: type[GenieError] = InputError
) -> Iterator[None]:
    """Within its block no other process that asks for the same lock gets it.

    The kernel holds the lock for this process and lets it go when the process ends, so a kill leaves a file
    without meaning behind, not a lock. Where the system or the file system knows no locks there is a note in
    the log and no protection.

    Args:
        lock: path of the file; made here with its folder, and removed at the end.
        folder: that it protects, for messages.
        work: what is being done, for messages: "training into it".
        error: raised where nothing can be written.

    Raises:
        StateError: another process has the lock; the message has its number.
        InputError, or `error`: the file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock, folder, work)
    except OSError as failure:
        raise error(f"{folder}: expected a folder to write to, found: {failure.strerror}") from failure
    if descriptor is None:
        yield
        return
    try:
        with Cleanup(lambda: lock.unlink(missing_ok=True)):
            yield
    finally:
        # while it is held: whoever waits for it looks whether it is still the file of that name
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _locked(lock: Path, folder: Path, work: str) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        descriptor = os.open(
            lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666
        )
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{lock}: expected a regular file, found something else; remove it")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(lock, descriptor):  # its last owner removed it in between
                os.close(descriptor)
                continue
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            if error.errno in _UNKNOWN:
                _LOGGER.warning(
                    "%s: this file system has no locks; take care that nobody else writes there", folder
                )
                return None
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StateError(
                f"{folder}: expected no other process {work}, found {owner}; wait until it ends, stop it, or "
                "choose another folder"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        text = os.pread(descriptor, 32, 0).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return f"process {text}" if text.isdecimal() else "one that does not say its number"
