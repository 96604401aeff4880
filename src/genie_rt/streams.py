"""The standard streams: one that is closed, full or left by its reader is noticed and said, once."""

from __future__ import annotations

import codecs
import io
import os
import sys

TYPE_CHECKING = False  # this module is imported before everything else, so it imports little
if TYPE_CHECKING:
    from typing import Any


_ERRORS = "genie_rt.any_name"
"""Name of the handler of characters that the output's encoding lacks."""


class OutputLostError(OSError):
    """Standard output cannot be written, for another reason than that its reader left."""


def prepare() -> None:
    """Makes the standard streams of this process say what goes wrong with them; does nothing twice.

    In place of a closed stream something is put. Without it the next file that is opened gets the number of
    that stream, and what is printed goes into that file. Writing to a closed standard output fails as it
    should; nobody could read of a closed standard error.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 (for the process's life)
    if sys.stdout is None or sys.stdout is sys.__stdout__:  # not where a test or a notebook captures it
        given: Any = sys.stdout
        errors = getattr(given, "errors", "backslashreplace")
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(1, "w", closefd=False)),
            encoding=getattr(given, "encoding", "utf-8"),
            errors=_ERRORS if errors in ("strict", "surrogateescape") else errors,
            line_buffering=getattr(given, "line_buffering", False),
            write_through=getattr(given, "write_through", False),
        )


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode one character of a file's name, which may be any bytes: a byte as it is, a letter escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it could not decode
        return bytes([code - 0xDC00]), error.end
    return codecs.backslashreplace_errors(error)


codecs.register_error(_ERRORS, _encoded)


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLostError(error.errno, error.strerror) from error


def explain(error: OSError) -> str:
    """An error of the system in one line."""
    if isinstance(error, OutputLostError):
        return (
            f"standard output cannot be written: {error.strerror}; send it to another place or to /dev/null"
        )
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}the system refused: {error.strerror or error}"


def settle() -> None:
    """Writes out what was printed; what cannot be written any more is dropped without a word."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()


def discard_output() -> None:
    """Sends standard output nowhere, so that the interpreter's own flush at exit does not fail again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a captured one has no number
        return
