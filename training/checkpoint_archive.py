"""Reads `optimizer.pt`, a zip archive as `torch.save` writes it, once its sizes add up.

torch stores its entries as they are, without compression. So all sizes that an archive declares together
cannot be more than the file has, and one where they are was made to inflate into what no memory holds.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from genie_rt.errors import BundleError
from genie_rt.runtime.files import open_regular
from genie_rt.runtime.untrusted import brief

MAX_ENTRIES = 1 << 20
MAX_PICKLE_BYTES = 64 << 20
"""Of the one entry that is no tensor's numbers: names and settings of the optimisers."""


def read_optimizer(path: Path) -> dict[str, Any]:
    """Optimiser states by name, all tensors on the CPU. Only tensors, numbers and texts are made of it.

    Raises:
        BundleError: it is no such archive, compressed, declares more than it has, or does not read.
    """
    _check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a broken file
        raise BundleError(f"{path}: expected optimiser states, found {brief(error)}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(state, dict) for name, state in found.items()
    ):
        raise BundleError(f"{path}: expected optimiser states by name, found {type(found).__name__}")
    return found


def _check_archive(path: Path) -> None:
    with open_regular(path, expected="optimiser states", error=BundleError) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{path}: expected a zip archive as torch writes it, found {brief(error)}"
            ) from error
    if len(entries) > MAX_ENTRIES:
        raise BundleError(f"{path}: expected at most {MAX_ENTRIES} entries, found {len(entries)}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleError(
                f"{path}: expected entries that are stored as they are, as torch does, found "
                f"{entry.filename[:80]!r}, whose {entry.compress_size} bytes become {entry.file_size}"
            )
        if entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE_BYTES:
            raise BundleError(
                f"{path}: expected at most {MAX_PICKLE_BYTES} bytes of names and settings, found "
                f"{entry.file_size}"
            )
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size:
        raise BundleError(f"{path}: expected entries of at most {size} bytes together, found {total}")
