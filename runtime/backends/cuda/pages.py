"""Memory that lasts from frame to frame: pages in one piece, as kernels take them, and frames' tokens."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.temporal_attention.reference import indexable, to_page
from genie_rt.runtime.config import TransformerConfig
from genie_rt.runtime.pages import Page, PagePool
from genie_rt.runtime.units import scaled

captures = threading.RLock()
"""Held while a graph is captured: until then nobody may wait for a whole device, in any thread."""

GROWTH = 4
"""A pool that is full grows by a quarter, and by this many at least."""


class PageMemory(PagePool):
    """A `PagePool` in one tensor, so that kernels find a page by its index.

    It grows by moving to a larger tensor, for which both have to fit: whoever knows how many pages will be
    held says so at once. Then `memory` is another tensor, and graphs that hold the old one are no good.

    Attributes:
        memory: `[num_pages, *shape]`.
    """

    def __init__(
        self, config: TransformerConfig, num_positions: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(config, num_positions, dtype, device)
        self.memory = torch.empty(0, *self.shape, dtype=dtype, device=device)

    @property
    def num_pages(self) -> int:
        return len(self.memory)

    def view(self, page: Page) -> Tensor:
        return self.memory[page.index]

    def gather(self, index: Tensor) -> Tensor:
        """A copy of pages.

        Launches on the current stream; allocates; does not synchronise, and nor does `scatter`.

        Args:
            index: `[R]` int64, on the pool's device.

        Returns:
            `[R, *shape]` in the pool's dtype.
        """
        return indexable(self.memory).index_select(0, index).view(self.dtype)

    def scatter(self, index: Tensor, values: Tensor) -> None:
        """Writes pages, as the pool's dtype holds them: see `to_page`.

        Args:
            index: `[R]` int64, on the pool's device, no page twice.
            values: `[R, *shape]`, any floating dtype.
        """
        indexable(self.memory).index_copy_(0, index, indexable(to_page(values, self.dtype)))

    def take(self) -> Page:
        """A page that nobody holds, its contents of no interest.

        Raises:
            DeviceError: there is none, and no memory for more; everything is as it was.
        """
        return self._take()

    def _take(self) -> Page:
        with self._lock:
            if not self.free:
                self._grow(self.num_pages + max(self.num_pages // 4, GROWTH))
            return Page(self, self.free.pop())

    def reserve(self, num_pages: int) -> None:
        """Makes room for so many pages in all. Raises `DeviceError` where there is none."""
        with self._lock:
            if num_pages > self.num_pages:
                self._grow(num_pages)

    def _grow(self, num_pages: int) -> None:
        held = self.num_pages
        try:
            memory = torch.empty(num_pages, *self.shape, dtype=self.dtype, device=self.device)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"expected {scaled(num_pages * self.page_bytes, 'B')} of free memory for {num_pages} pages "
                f"(beside the {held} that there are, while they move), found less; hold fewer sessions, "
                "snapshots and futures, or take a narrower dtype"
            ) from error
        if held:
            memory[:held] = self.memory
            settle(self.device)
        self.memory = memory
        self.free.extend(reversed(range(held, num_pages)))


class FrameMemory:
    """The tokens of each frame that somebody holds, and how much changed there lately.

    Slot 0 is nobody's: rows that only fill up a batch write there.

    Attributes:
        tokens: `[num_slots, N]` int64. change: `[num_slots, P]` float32.
    """

    def __init__(self, num_tokens: int, num_positions: int, device: torch.device) -> None:
        self.tokens = torch.zeros(1, num_tokens, dtype=torch.int64, device=device)
        self.change = torch.zeros(1, num_positions, dtype=torch.float32, device=device)
        self.free: list[int] = []

    def reserve(self, num_slots: int) -> None:
        """Makes room for so many slots in all."""
        held = len(self.tokens)
        if num_slots > held:
            tokens, change = (
                torch.cat([kept, kept.new_zeros(num_slots - held, kept.shape[1])])
                for kept in (self.tokens, self.change)
            )
            settle(tokens.device)
            self.tokens, self.change = tokens, change
            self.free.extend(reversed(range(held, num_slots)))

    def take(self) -> Page:
        """A slot that nobody holds. The memory doubles where there is none."""
        if not self.free:
            self.reserve(2 * len(self.tokens))
        return Page(self, self.free.pop())  # type: ignore[arg-type]  # all that a page asks of it is `free`


def settle(device: torch.device) -> None:
    """Waits for all streams of a device: before memory is let go that any of them may still read."""
    if device.type == "cuda":
        with captures:
            torch.cuda.synchronize(device)
