"""Worlds, sessions and snapshots of the C library, each freed with its last holder."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_float, c_int32, c_size_t, c_void_p
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.runtime.backends.native import header
from genie_rt.runtime.backends.native.library import Library
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.plan import Plan

SNAPSHOTS = 2
"""For how many snapshots a session sets memory aside: of the row that a frame came from, and of its own."""

_serials = itertools.count()


class Handle:
    """An object of the library.

    Not freed in a fork of the process that made it: there the threads do not exist that freeing waits for.
    """

    __slots__ = ("__weakref__", "_free", "_pid", "library", "pointer", "serial")

    def __init__(self, library: Library, pointer: c_void_p, free: Callable[[c_void_p], None]) -> None:
        self.library, self.pointer, self._free = library, pointer, free
        self.serial = next(_serials)
        self._pid = os.getpid()

    def __del__(self, _getpid: Callable[[], int] = os.getpid) -> None:  # modules may be gone by then
        if getattr(self, "_pid", None) == _getpid():  # there is none where the library refused to make it
            self._free(self.pointer)


class NativeSnapshot(Handle):
    """A moment of a session: shares its pages. Never changes."""

    __slots__ = ()


class NativeWorld(Handle):
    """A world in the library.

    Args:
        files: of a bundle, by name.
        precision: one of `header.PRECISIONS`.
        num_threads: that compute.

    Raises:
        BundleError, UnsupportedError, DeviceError: as the library says.
    """

    __slots__ = ("info",)

    def __init__(
        self, library: Library, files: Mapping[str, NDArray[np.uint8]], precision: str, num_threads: int
    ) -> None:
        params = header.WorldParams(precision=header.PRECISIONS[precision], num_threads=num_threads)
        listed = (header.File * len(files))()
        for file, (name, data) in zip(listed, files.items(), strict=True):
            file.name, file.data, file.size = name.encode(), data.ctypes.data, data.nbytes
        pointer = c_void_p()
        library.call("world_load_memory", listed, len(files), byref(params), byref(pointer))
        super().__init__(library, pointer, library.world_free)
        self.info = header.WorldInfo()
        library.call("world_get_info", pointer, byref(self.info))

    @property
    def instructions(self) -> str:
        """What it computes with, one of `header.INSTRUCTIONS`."""
        return header.INSTRUCTIONS[self.info.instructions]

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.info.frame_height, self.info.frame_width, 3

    @property
    def most_saved_bytes(self) -> int:
        """The most bytes that `NativeSession.save` gives."""
        size = c_size_t()
        self.library.call("world_save_size", self.pointer, byref(size))
        return size.value


class NativeSession(Handle):
    """A session in the library, which goes from one row to another. One thread at a time.

    Attributes:
        at: serial number of the snapshot that it stands at; None where there is none.
    """

    __slots__ = ("_plan", "at", "world")

    def __init__(self, world: NativeWorld) -> None:
        params = header.SessionParams(num_snapshots=SNAPSHOTS, most_peeks=1)
        pointer = c_void_p()
        world.library.call("session_create", world.pointer, byref(params), byref(pointer))
        super().__init__(world.library, pointer, world.library.session_free)
        self.world = world
        self.at: int | None = None
        self._plan: Plan | None = None

    def call(self, name: str, *arguments: Any) -> None:
        """Calls `grt_session_<name>`."""
        self.library.call(f"session_{name}", self.pointer, *arguments)

    def set_plan(self, plan: Plan) -> None:
        if plan == self._plan:
            return
        own = header.Plan(
            order=header.ORDERS[plan.order],
            reuse=header.REUSES[plan.reuse],
            passes=plan.passes,
            temperature=plan.temperature,
            noise=plan.noise,
            threshold=plan.threshold,
            fresh=plan.fresh,
        )
        self.call("set_plan", byref(own))
        self._plan = plan

    def reset(self, frames: Tensor, actions: Sequence[int], seed: int) -> NDArray[np.uint8]:
        """Starts from pictures `[T, H, W, 3]` uint8 and the `T - 1` actions between them.

        Returns:
            The last one as the model sees it, `[Hout, Wout, 3]` uint8.
        """
        given = frames.contiguous().numpy()
        pictures = (header.Image * len(given))(*(_image(picture) for picture in given))
        led_by = (c_int32 * max(len(actions), 1))(*actions)
        shown, image = self._new_picture()
        self.at = None
        self.call("reset", pictures, len(given), led_by, seed, byref(image))
        return shown

    def restore(self, snapshot: NativeSnapshot) -> None:
        if self.at != snapshot.serial:
            self.at = None
            self.call("restore", snapshot.pointer)
            self.at = snapshot.serial

    def step(self, action: int) -> tuple[NDArray[np.uint8], FrameStats]:
        """The next frame, `[Hout, Wout, 3]`, and what it took."""
        picture, image = self._new_picture()
        stats = header.StepStats()
        self.call("step", action, byref(image), byref(stats))
        self.at = None
        return picture, FrameStats(passes=stats.passes, tokens=stats.tokens)

    def commit(self) -> None:
        self.call("commit")
        self.at = None

    def force(self, action: int, tokens: Tensor) -> NDArray[np.uint8]:
        """The picture of tokens `[N]` as the next frame, `[Hout, Wout, 3]`."""
        shown, image = self._new_picture()
        own = tokens.to(torch.int32).contiguous()
        self.call("force", action, _ints(own), len(own), byref(image))
        self.at = None
        return shown

    def probe(self, action: int, tokens: Tensor, pass_index: int) -> tuple[Tensor, Tensor]:
        """One pass over tokens `[N]`: logits `[N, V]` float32 and candidates `[N]` int64."""
        own = tokens.to(torch.int32).contiguous()
        logits = torch.empty(len(own), self.world.info.codebook_size)
        candidates = torch.empty_like(own)
        scores = ctypes.cast(logits.data_ptr(), ctypes.POINTER(c_float))
        self.call("probe", action, _ints(own), len(own), pass_index, scores, _ints(candidates))
        return logits, candidates.to(torch.int64)

    def tokens(self) -> Tensor:
        """Those of the last frame, `[N]` int64."""
        own = (c_int32 * self.world.info.num_tokens)()
        self.call("get_tokens", own, len(own))
        return torch.from_numpy(np.frombuffer(own, np.int32).astype(np.int64))

    def snapshot(self) -> NativeSnapshot:
        pointer = c_void_p()
        self.call("snapshot", byref(pointer))
        made = NativeSnapshot(self.library, pointer, self.library.snapshot_free)
        self.at = made.serial
        return made

    def save(self) -> bytes:
        """Where it stands, as bytes."""
        buffer = ctypes.create_string_buffer(self.world.most_saved_bytes)
        size = c_size_t()
        self.call("save", buffer, len(buffer), byref(size))
        return buffer.raw[: size.value]

    def load(self, data: bytes) -> None:
        """Goes to where `save` was called; checks every byte first."""
        self.at = None
        self.call("load", data, len(data))

    def _new_picture(self) -> tuple[NDArray[np.uint8], header.Image]:
        picture = np.empty(self.world.frame_shape, np.uint8)
        return picture, _image(picture)


def _image(picture: NDArray[np.uint8]) -> header.Image:
    """A picture `[H, W, 3]`, contiguous, where it lies."""
    return header.Image(pixels=picture.ctypes.data, size=picture.size, format=header.FORMAT_RGB8)


def _ints(tensor: Tensor) -> Any:
    return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(c_int32))
