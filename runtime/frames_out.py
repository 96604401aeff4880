"""Pictures to outside: left on the device for other libraries, and brought to the host at once or later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.images import Picture
from genie_rt.runtime.turn import Home, Uncopied


class HeldFrame:
    """A frame as a session holds it, `[Hout, Wout, 3]` uint8: on the device that made it, or on the host.

    It goes to the host when it is first asked for there, and stays there. Nobody writes to it; callers get
    copies. Sessions in several threads may share it.

    Args:
        frame: a picture, which becomes read-only; or a tensor that the current stream of its device has been
            told to make, and that nobody else writes to.
    """

    __slots__ = ("_made", "_picture", "_tensor")

    def __init__(self, frame: Picture | Tensor) -> None:
        self._picture: Picture | None = None
        self._tensor: Tensor | None = None
        self._made: torch.cuda.Event | None = None
        if isinstance(frame, Tensor):
            self._tensor, self._made = frame, _reached(frame.device)
        else:
            self._picture = _frozen(frame)

    def picture(self) -> Picture:
        """On the host, read-only. The first call may wait for the device."""
        if (tensor := self._tensor) is not None:
            if self._made is not None:
                self._made.synchronize()
            self._picture = _frozen(tensor.cpu().numpy())
            self._tensor = None  # last: another thread that no longer sees it finds the picture
        assert self._picture is not None
        return self._picture

    def copy_to(self, device: torch.device) -> Tensor:
        """A contiguous copy on `device`, enqueued on its current stream; waits for nothing."""
        if (tensor := self._on_current_stream()) is not None:
            return tensor.clone(memory_format=torch.contiguous_format)
        on_cuda = device.type == "cuda"
        copy = torch.empty(self.picture().shape, dtype=torch.uint8, pin_memory=on_cuda)
        copy.numpy()[...] = self.picture()
        return copy.to(device, non_blocking=True) if on_cuda else copy

    def copy_to_host(self) -> tuple[Picture, torch.cuda.Event | None]:
        """A copy on the host, and the event after which it is there, None where it is already.

        From a CUDA device it is enqueued on the current stream, to pinned memory; waits for nothing.
        """
        tensor = self._on_current_stream()
        if tensor is None or not tensor.is_cuda:
            return self.picture().copy(), None
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        return pinned.numpy(), _reached(tensor.device)

    def _on_current_stream(self) -> Tensor | None:
        """The tensor, if it is on the device, for work on the current stream: that waits until it is made."""
        tensor = self._tensor
        if tensor is not None and self._made is not None:
            stream = torch.cuda.current_stream(tensor.device)
            stream.wait_event(self._made)
            tensor.record_stream(stream)  # or its memory might be given away before this stream has read it
        return tensor


class PendingFrame(Uncopied):
    """A frame that is being computed and copied to the host, from `Session.step_async`."""

    instead = "wait() gives its picture, which can be"

    def __init__(self, frame: HeldFrame, device: torch.device, backend: Backend, home: Home) -> None:
        self._home = home
        self._frame = frame
        self._device = device
        self._backend: Backend | None = backend  # until it was asked whether the frame is sound
        self._error: DeviceError | None = None
        self._tensor: Tensor | None = None
        self._picture, self._copied = frame.copy_to_host()

    @property
    def tensor(self) -> Tensor:
        """The frame on the device, `[Hout, Wout, 3]` uint8, the caller's; see `Session.step_tensor`.

        The first access enqueues a copy of it on the current stream; later ones give the same tensor.
        """
        self._home.check()
        if self._tensor is None:
            self._tensor = self._frame.copy_to(self._device)
        return self._tensor

    def ready(self) -> bool:
        """Whether the picture is on the host, so that `wait` has no copy to wait for. Never blocks."""
        self._home.check()
        return self._copied is None or self._copied.query()

    def wait(self) -> Picture:
        """The picture, once it is on the host. Blocks until then.

        Returns:
            `[Hout, Wout, 3]` uint8, the caller's, the same array at every call. From a CUDA device it lies in
            pinned memory, of which there is little: copy what you keep for long.

        Raises:
            DeviceError: the model gave NaN or Inf, at every call. Of several frames of one world that nobody
                has waited for it is not said which. The session has gone on: restore a moment from before.
        """
        self._home.check()
        if self._copied is not None:
            self._copied.synchronize()
        if self._backend is not None:
            backend, self._backend = self._backend, None
            try:
                with torch.inference_mode():  # it may evaluate the frame again, to name the layer
                    backend.check()
            except DeviceError as error:
                self._error = error
        if self._error is not None:
            raise self._error
        return self._picture


def held(pictures: Tensor, *, fetch: bool) -> Sequence[HeldFrame]:
    """The frames of a batch `[B, Hout, Wout, 3]` uint8 that the current stream was told to make.

    Args:
        fetch: waits for them, and brings all to the host in one copy, where each has memory of its own.
            Otherwise they stay where they are, and each keeps the memory of all.
    """
    if fetch:
        return [HeldFrame(np.array(picture)) for picture in pictures.cpu().numpy()]
    return [HeldFrame(picture) for picture in pictures]


def _reached(device: torch.device) -> torch.cuda.Event | None:
    """An event at the end of what the current stream has been told so far; None on a CPU."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def _frozen(picture: Picture) -> Picture:
    picture.setflags(write=False)
    return picture
