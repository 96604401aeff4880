"""One call after the other on the device too, and what the host learns of each without waiting for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.runtime.backends.cuda.frame import Frame
from genie_rt.runtime.units import scaled


class StreamOrder:
    """Orders calls that work on the same memory, whichever threads and streams they come from."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lock = threading.RLock()
        self._done = torch.cuda.Event() if device.type == "cuda" else None

    @contextmanager
    def take(self) -> Iterator[None]:
        """Within its block, the device is the current one, and its stream works after all earlier blocks.

        The host waits for other threads' blocks, and for nothing on the device.

        Raises:
            DeviceError: the block ran out of memory.
        """
        with self._lock:
            if self._done is None:
                yield
                return
            with torch.cuda.device(self.device):
                stream = torch.cuda.current_stream()
                stream.wait_event(self._done)  # waits for nothing where it was never recorded
                try:
                    yield
                except torch.OutOfMemoryError as error:
                    raise out_of_memory(self.device) from error
                finally:
                    self._done.record(stream)


def out_of_memory(device: torch.device) -> DeviceError:
    """What is said where a frame cannot be computed for want of memory."""
    free, total = torch.cuda.mem_get_info(device)
    return DeviceError(
        f"expected memory for one more frame's tensors, found {scaled(free, 'B')} free of "
        f"{scaled(total, 'B')}; take a smaller batch, fewer sessions, or a narrower dtype"
    )


class Verdicts:
    """Which frames gave NaN or Inf, known once they have been computed."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Frame, Tensor, torch.cuda.Event | None]] = deque()

    def note(self, frame: Frame) -> None:
        """Sends to the host whether a frame that the current stream was told to compute is finite."""
        is_cuda = frame.broken.is_cuda
        broken = torch.empty(frame.broken.shape, dtype=torch.bool, pin_memory=is_cuda)
        broken.copy_(frame.broken, non_blocking=True)
        arrived = torch.cuda.current_stream(frame.broken.device).record_event() if is_cuda else None
        self._waiting.append((frame, broken, arrived))

    def broken(self) -> tuple[Frame, bool] | None:
        """A computed frame that was not finite, and whether the dynamics gave it; None where there is none.

        Waits for none. Frames noted after the one it tells of are forgotten: pages that are not finite stay
        so, and the next frame tells of them again.
        """
        while self._waiting:
            frame, broken, arrived = self._waiting[0]
            if arrived is not None and not arrived.query():
                return None
            self._waiting.popleft()
            dynamics, decoder = broken.any(1).tolist()
            if dynamics or decoder:
                self._waiting.clear()
                return frame, dynamics
        return None
