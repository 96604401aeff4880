"""Reads `optimizer.pt`, a zip archive as `torch.save` writes it, once its sizes add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from genie_rt.errors import BundleError
from genie_rt.runtime.stored_archive import check_stored
from genie_rt.runtime.untrusted import brief

MAX_PICKLE_BYTES = 64 << 20
"""Largest size of the pickle entry, which holds names and settings of the optimisers."""


def read_optimizer(path: Path) -> dict[str, Any]:
    """Optimiser states by name, all tensors on the CPU. Only tensors, numbers and texts are made of it.

    Raises:
        BundleError: it is no such archive, compressed, declares more than it has, or does not read.
    """
    for name, size in check_stored(path, expected="optimiser states").items():
        if name.endswith(".pkl") and size > MAX_PICKLE_BYTES:
            raise BundleError(
                f"{path}: expected at most {MAX_PICKLE_BYTES} bytes of names and settings, found {size}"
            )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a broken file
        raise BundleError(f"{path}: expected optimiser states, found {brief(error)}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(state, dict) for name, state in found.items()
    ):
        raise BundleError(f"{path}: expected optimiser states by name, found {type(found).__name__}")
    return found
