"""Location of a bundle's weights in its file. Only the header is read, and rows to be quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from genie_rt.errors import BundleError
from genie_rt.runtime.stored_weights import MAX_HEADER_BYTES, StoredTensor, StoredWeights, parse_header

_DTYPES = {"F32": TensorProto.FLOAT, "BF16": TensorProto.BFLOAT16}  # as safetensors spells them


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
        num_bytes: of the file.

    Raises:
        BundleError: the file has no such header, or other weights than the model's; says which.
    """

    def __init__(self, path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.name = path, path.name
        self._tensors, self.num_bytes = _read_header(path)
        self.stored = {
            name: StoredWeight(
                dtype=_DTYPES[tensor.dtype], shape=tensor.shape, offset=tensor.offset, length=tensor.length
            )
            for name, tensor in self._tensors.items()
        }
        for name, shape in expected.items():
            found = self.stored[name].shape if name in self.stored else None
            if found != shape:
                raise BundleError(
                    f"{path}: {name}: expected shape {list(shape)}, found "
                    f"{'no such weight' if found is None else list(found)}; export again with this version"
                )

    def unread(self) -> StoredWeights:
        """The file as those know it who play the bundle, without its bytes."""
        return StoredWeights(data=np.zeros(0, np.uint8), tensors=self._tensors)

    def row_maxima(self, name: str) -> NDArray[np.float32]:
        """The largest magnitude in each row of a matrix, `[rows]`. Reads that weight."""
        weight = self.stored[name]
        code = np.float32 if weight.dtype == TensorProto.FLOAT else np.uint16
        stored = np.memmap(self.path, code, "r", weight.offset, weight.shape)
        if code is np.uint16:  # without their signs, the bits of bf16 sort as the numbers do
            bits = (stored & 0x7FFF).max(axis=1).astype(np.uint32) << 16
            return bits.view(np.float32)
        return np.maximum(stored.max(axis=1), -stored.min(axis=1)).astype(np.float32)


def _read_header(path: Path) -> tuple[dict[str, StoredTensor], int]:
    """The tensors of the file, and its size."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return parse_header(file.read(8 + MAX_HEADER_BYTES), size), size
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: expected a safetensors file of fp32 or bf16, found {error}") from error
