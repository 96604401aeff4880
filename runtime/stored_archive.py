"""Zip archives whose entries are stored without compression, as `torch.save` and `np.savez` write them.

All sizes that such an archive declares together cannot be more than the file has. One where they are was made
to inflate into what no memory holds.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from genie_rt.errors import BundleError, GenieError
from genie_rt.runtime.files import open_regular
from genie_rt.runtime.untrusted import brief

MAX_ENTRIES = 1 << 20


def check_stored(path: Path, *, expected: str, error: type[GenieError] = BundleError) -> dict[str, int]:
    """Checks an archive before anything of it is read.

    Args:
        expected: what the file should be, for messages.
        error: what to raise.

    Returns:
        Bytes of its entries, by name.

    Raises:
        GenieError: of the kind that `error` says: it is no such archive, an entry is compressed, or the
            entries together are larger than the file.
    """
    with open_regular(path, expected=expected, error=error) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as failure:
            raise error(f"{path}: expected {expected}, a zip archive, found {brief(failure)}") from failure
    if len(entries) > MAX_ENTRIES:
        raise error(f"{path}: expected at most {MAX_ENTRIES} entries, found {len(entries)}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise error(
                f"{path}: expected entries that are stored as they are, found {entry.filename[:80]!r}, whose "
                f"{entry.compress_size} bytes become {entry.file_size}"
            )
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size:
        raise error(f"{path}: expected entries of at most {size} bytes together, found {total}")
    return {entry.filename: entry.file_size for entry in entries}
