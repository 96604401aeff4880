"""Save states of the library as tensors, and back: `runtime/native/src/api/save.hpp` has the layout.

The library checks what it loads; this checks the tensors that the bytes are made of.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.runtime.backends.native.handles import NativeSnapshot
from genie_rt.runtime.backends.native.row import HeldCarried, HeldPage, NativeRow
from genie_rt.runtime.backends.row_io import check_tensors
from genie_rt.runtime.config import ModelConfig, TransformerConfig

_HEADER = struct.Struct("<8sII32sQqiiIIIIIIIIIIQ")
_MAGIC, _VERSION = b"GRTSAVE\0", 1

PAGES = ("dynamics", "decoder", "spatial")
"""Tensors of pages, in the order in which they are saved."""


class Header(NamedTuple):
    """The first 120 bytes."""

    magic: bytes
    version: int
    precision: int
    weights: bytes
    seed: int
    frame_index: int
    action: int
    shown_action: int
    pending: int
    has_change: int
    num_tokens: int
    num_positions: int
    num_dynamics: int
    num_decoder: int
    num_spatial: int
    height: int
    width: int
    zero: int
    total_bytes: int


class SavedForm:
    """The layout of one world's states.

    Args:
        precision: one of `header.PRECISIONS` by value.
        weights: sha256 of the weights.
    """

    def __init__(self, config: ModelConfig, precision: int, weights: bytes) -> None:
        self.config, self._precision, self._weights = config, precision, weights
        dynamics = _page_shape(config.dynamics.transformer, config.num_positions)
        decoder = _page_shape(config.tokenizer.decoder, config.tokenizer.num_tokens)
        self._shapes = {"dynamics": dynamics, "decoder": decoder, "spatial": dynamics}
        self._windows = {
            "dynamics": config.dynamics.transformer.window - 1,
            "decoder": config.tokenizer.decoder.window - 1,
            "spatial": 1,
        }

    def checked(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a row as the library takes them: see `row_io.check_tensors`."""
        return check_tensors(tensors, self.config, self._shapes, self._windows, torch.float32)

    def tensors(self, data: bytes) -> dict[str, Tensor]:
        """A state's tensors: those of `row_io.save`, and the "picture". Copies."""
        header = Header(*_HEADER.unpack_from(data))
        reader = _Reader(data, _HEADER.size)
        tokens = reader.take(np.int32, header.num_tokens).to(torch.int64)
        change = reader.take(np.float32, header.num_positions)
        found = {"tokens": tokens, "change": change if header.num_spatial else torch.zeros_like(change)}
        for name in PAGES:
            count = getattr(header, f"num_{name}")
            found[name] = reader.take(np.float32, count, *self._shapes[name])
        found["picture"] = reader.take(np.uint8, header.height, header.width, 3)
        return found

    def data(
        self, tensors: Mapping[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> bytes:
        """A state of these tensors. Without a "picture" that is black: who loads it has the real one."""
        height, width = self.config.tokenizer.output_size
        picture = tensors.get("picture", torch.zeros(height, width, 3, dtype=torch.uint8))
        parts = [
            tensors["tokens"].to(torch.int32),
            tensors["change"],
            *(tensors[name] for name in PAGES),
            picture,
        ]
        blobs = [part.contiguous().numpy().tobytes() for part in parts]
        header = Header(
            magic=_MAGIC,
            version=_VERSION,
            precision=self._precision,
            weights=self._weights,
            seed=seed,
            frame_index=frame_index,
            action=action,
            shown_action=action,  # its place among the names: see `backend.manifest_for`
            pending=int(pending),
            has_change=int(len(tensors["spatial"]) > 0),
            num_tokens=len(tensors["tokens"]),
            num_positions=len(tensors["change"]),
            num_dynamics=len(tensors["dynamics"]),
            num_decoder=len(tensors["decoder"]),
            num_spatial=len(tensors["spatial"]),
            height=height,
            width=width,
            zero=0,
            total_bytes=_HEADER.size + sum(map(len, blobs)) + 8,
        )
        data = b"".join([_HEADER.pack(*header), *blobs])
        return data + struct.pack("<Q", checksum(data))


def gather(row: NativeRow, saved: Callable[[NativeSnapshot], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a row whose parts come from several snapshots.

    Args:
        saved: the tensors of a snapshot.
    """
    known: dict[int, dict[str, Tensor]] = {}

    def of(snapshot: NativeSnapshot) -> dict[str, Tensor]:
        if snapshot.serial not in known:
            known[snapshot.serial] = saved(snapshot)
        return known[snapshot.serial]

    own = of(row.snapshot)
    found = {"tokens": row.tokens, "change": torch.zeros_like(own["change"]), "picture": own["picture"]}
    held: dict[str, Any] = {"dynamics": row.dynamics, "decoder": row.decoder, "spatial": ()}
    if isinstance(row.carried, HeldCarried):
        held["spatial"] = (row.carried.spatial,)
        found["change"] = of(row.carried.snapshot)["change"]
    for name, pages in held.items():
        tensors = [of(page.snapshot)[page.kind][page.index] for page in pages if isinstance(page, HeldPage)]
        found[name] = torch.stack(tensors) if tensors else own[name][:0]
    return found


def checksum(data: bytes) -> int:
    """The library's checksum of bytes: `runtime/native/src/support/digest.hpp`."""
    lanes = np.arange(256, dtype=np.uint64)
    words = np.frombuffer(data + bytes(-len(data) % 8), np.uint64)
    whole = len(words) // 256 * 256
    for row in words[:whole].reshape(-1, 256):
        lanes = _mixed(lanes, row)
    rest = words[whole:]
    lanes[: len(rest)] = _mixed(lanes[: len(rest)], rest)
    total = np.array([0xCBF29CE484222325], np.uint64)
    for word in (*lanes, np.uint64(len(data))):
        total = _mixed(total, word)
    return int(total[0])


def _mixed(hashes: NDArray[np.uint64], words: Any) -> NDArray[np.uint64]:
    hashes = (hashes ^ words) * np.uint64(0x00000100000001B3)
    return hashes ^ (hashes >> np.uint64(32))


class _Reader:
    """Takes arrays from bytes, one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    def take(self, dtype: type[np.generic], *shape: int) -> Tensor:
        count = int(np.prod(shape))
        array = np.frombuffer(self._data, dtype, count, self._place).reshape(shape).copy()
        self._place += array.nbytes
        return torch.from_numpy(array)


def _page_shape(config: TransformerConfig, num_positions: int) -> tuple[int, ...]:
    return (config.num_layers, 2, num_positions, config.num_heads, config.head_width)
