"""Where the weights of a bundle lie in its file. Its header is read, rows only where they are quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from genie_rt.errors import BundleError
from genie_rt.runtime.untrusted_json import parse_json

_DTYPES = {"F32": (TensorProto.FLOAT, 4), "BF16": (TensorProto.BFLOAT16, 2)}  # as safetensors spells them
_MAX_HEADER_BYTES = 100_000_000  # what safetensors itself reads at most


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeight:
    """A weight in the file: ONNX dtype, shape, and which bytes hold it, counted from the file's start."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    length: int


class WeightFile:
    """The header of a safetensors file.

    Attributes:
        name: of the file, which graphs beside it refer to.
        stored: every weight by name.

    Raises:
        BundleError: the file has no such header, or other weights than the model's; says which.
    """

    def __init__(self, path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.name = path, path.name
        self.stored = _read_header(path)
        for name, shape in expected.items():
            found = self.stored[name].shape if name in self.stored else None
            if found != shape:
                raise BundleError(
                    f"{path}: {name}: expected shape {list(shape)}, found "
                    f"{'no such weight' if found is None else list(found)}; export again with this version"
                )

    def row_maxima(self, name: str) -> NDArray[np.float32]:
        """The largest magnitude in each row of a matrix, `[rows]`. Reads that weight."""
        weight = self.stored[name]
        code = np.float32 if weight.dtype == TensorProto.FLOAT else np.uint16
        stored = np.memmap(self.path, code, "r", weight.offset, weight.shape)
        if code is np.uint16:  # without their signs, the bits of bf16 sort as the numbers do
            bits = (stored & 0x7FFF).max(axis=1).astype(np.uint32) << 16
            return bits.view(np.float32)
        return np.maximum(stored.max(axis=1), -stored.min(axis=1)).astype(np.float32)


def _read_header(path: Path) -> dict[str, StoredWeight]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            header = dict(parse_json(file.read(size)))
        header.pop("__metadata__", None)
        return {name: _stored(entry, 8 + size) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: expected a safetensors file of fp32 or bf16, found {error!r}") from error


def _stored(entry: Mapping[str, Any], start: int) -> StoredWeight:
    dtype, item_bytes = _DTYPES[entry["dtype"]]
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if end - begin != item_bytes * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{end - begin} bytes for the shape {list(shape)}")
    return StoredWeight(dtype=dtype, shape=shape, offset=start + begin, length=end - begin)
