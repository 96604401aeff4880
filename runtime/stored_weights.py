"""A safetensors file in private memory: read once, hashed as it is read, never mapped.

A file that is mapped is whatever somebody writes over it, and a process dies of one that gets shorter. The
format: github.com/huggingface/safetensors, "Format". Its library reads files by name alone, or copies every
tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import parse_json

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {"F32": 4, "BF16": 2}
"""Bytes of the dtypes that weights may have, as safetensors spells them."""

MAX_HEADER_BYTES = 4 * 2**20
"""A header takes some 100 bytes a tensor, and the largest preset has some 1,000 tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of the file: dtype (one of `ITEM_BYTES`), shape, and which bytes hold it, from the start."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredWeights:
    """A whole file of weights.

    Attributes:
        data: its bytes, `[size]` uint8, in memory of this process alone.
        tensors: by name, in the order of the header.
    """

    data: NDArray[np.uint8]
    tensors: Mapping[str, StoredTensor]

    def bytes_of(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes, a view."""
        stored = self.tensors[name]
        return self.data[stored.offset : stored.offset + stored.length]

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor on the CPU, contiguous, in the dtype that it is stored in; a view of `data`."""
        import torch

        stored = self.tensors[name]
        dtype = torch.float32 if stored.dtype == "F32" else torch.bfloat16
        count = math.prod(stored.shape)
        return torch.frombuffer(self.data, dtype=dtype, count=count, offset=stored.offset).view(stored.shape)


def read_stored(data: NDArray[np.uint8]) -> StoredWeights:
    """The tensors of a file that was read.

    Raises:
        ValueError: as `parse_header`.
    """
    return StoredWeights(data=data, tensors=parse_header(data[: 8 + MAX_HEADER_BYTES].data, len(data)))


def parse_header(head: memoryview | bytes, file_bytes: int) -> dict[str, StoredTensor]:
    """The tensors that the header of a safetensors file lists.

    Args:
        head: the file's first bytes, the whole header among them; 8 + `MAX_HEADER_BYTES` are enough.
        file_bytes: of the whole file.

    Raises:
        ValueError: it is no such header, names another dtype than those of `ITEM_BYTES`, or its tensors do
            not fill the rest of the file, each byte once.
    """
    size = int.from_bytes(head[:8], "little")
    if len(head) < 8 or size > min(MAX_HEADER_BYTES, file_bytes - 8) or len(head) < 8 + size:
        raise ValueError(f"a header of {size} bytes in a file of {file_bytes}")
    try:
        header: Any = parse_json(bytes(head[8 : 8 + size]))
    except ValueError as error:
        raise ValueError(f"a header that is no JSON: {brief(error)}") from error
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    header.pop("__metadata__", None)
    tensors = {name: _entry(name, entry, 8 + size) for name, entry in header.items()}
    place = 8 + size
    for name, stored in sorted(tensors.items(), key=lambda item: item[1].offset):
        if stored.offset != place:
            raise ValueError(f"{brief(name)} at byte {stored.offset}, and the one before it ends at {place}")
        place += stored.length
    if place != file_bytes:
        raise ValueError(f"tensors up to byte {place} in a file of {file_bytes}")
    return tensors


def _entry(name: str, entry: Any, start: int) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{brief(name)} without dtype, shape and data_offsets, and these alone")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{brief(name)}: expected dtype {' or '.join(ITEM_BYTES)}, found {brief(dtype)}")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(
            type(each) is int and 0 <= each < 1 << 48 for each in numbers
        ):
            raise ValueError(f"{brief(name)} of shape {brief(shape)} at {brief(place)}")
    if len(shape) > 8 or len(place) != 2 or place[1] - place[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{brief(name)}: {brief(place)} for the shape {brief(shape)} in {dtype}")
    return StoredTensor(dtype=dtype, shape=tuple(shape), offset=start + place[0], length=place[1] - place[0])
