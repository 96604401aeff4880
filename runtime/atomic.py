"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.interrupt import Cleanup


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    The folder is made if it is missing; after an error or Ctrl-C nothing of the new file is left.

    Raises:
        InputError: it is no name of a file, or the folder or the file cannot be written.
    """
    if not path.name or "\0" in str(path):
        raise InputError(f"expected the name of a file to write, found {str(path)!r}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with Cleanup(lambda: temporary.unlink(missing_ok=True)):
                yield temporary
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: expected a place that can be written, found: {error.strerror or error}"
        ) from error
