"""Pages: the keys and values of one frame, kept for the frames that follow.

A page is written once and then only read. Who holds a `Page` keeps it alive; when the last holder lets go,
its memory returns to the pool. So a snapshot shares pages with the session it was taken of, and copies none.
"""

import threading

import torch
from torch import Tensor

from genie_rt.runtime.config import TransformerConfig
from genie_rt.runtime.model.transformer import KeysValues

CHUNK_PAGES = 16


class Page:
    """One frame's keys and values in a pool. Held, shared, never copied."""

    __slots__ = ("index", "pool")

    def __init__(self, pool: "PagePool", index: int) -> None:
        self.pool = pool
        self.index = index

    def __del__(self) -> None:
        self.pool.free.append(self.index)


Pages = tuple[Page, ...]
"""The pages of the last frames, newest first: entry `i` has age `i + 1` for the next frame."""


class PagePool:
    """Memory for the pages of one transformer. A page is `[L, 2, P, H, Dh]`, contiguous.

    Grows by chunks and never moves a page that is in use. Sessions in several threads may share it.
    """

    def __init__(
        self, config: TransformerConfig, num_positions: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape = (config.num_layers, 2, num_positions, config.num_heads, config.head_width)
        self.window = config.window
        self.dtype = dtype
        self.device = device
        self.counts = torch.arange(self.window, device=device)  # [W]: ages, and numbers of past frames
        self.free: list[int] = []
        self._chunks: list[Tensor] = []
        self._lock = threading.Lock()  # of who takes a page; giving one back is a single append

    @property
    def num_pages(self) -> int:
        """Pages that memory is held for."""
        return len(self._chunks) * CHUNK_PAGES

    @property
    def num_used(self) -> int:
        """Pages that somebody holds."""
        return self.num_pages - len(self.free)

    @property
    def page_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def write(self, keys_values: list[KeysValues]) -> Page:
        """A new page from what a transformer gave for one frame: per layer `[P, H, Dh]` each."""
        page = self.take()
        memory = self.view(page)
        for layer, (keys, values) in enumerate(keys_values):
            memory[layer, 0] = keys
            memory[layer, 1] = values
        return page

    def load(self, keys_values: Tensor) -> Page:
        """A new page from a copy of another one's memory, `[L, 2, P, H, Dh]`."""
        page = self.take()
        self.view(page).copy_(keys_values)
        return page

    def take(self) -> Page:
        """Allocates an uninitialised page."""
        with self._lock:
            if not self.free:
                first = self.num_pages
                chunk = torch.empty((CHUNK_PAGES, *self.shape), dtype=self.dtype, device=self.device)
                self._chunks.append(chunk)
                self.free.extend(reversed(range(first, first + CHUNK_PAGES)))
            return Page(self, self.free.pop())

    def view(self, page: Page) -> Tensor:
        """The page's memory, `[L, 2, P, H, Dh]`; not a copy."""
        return self._chunks[page.index // CHUNK_PAGES][page.index % CHUNK_PAGES]

    def push(self, pages: Pages, page: Page) -> Pages:
        """The pages that the frame after `page`'s will attend to: at most `W - 1`."""
        return (page, *pages)[: self.window - 1]

    def history(self, pages: Pages) -> tuple[list[KeysValues], Tensor]:
        """What a new frame attends to besides itself, copied from pages.

        Args:
            pages: of `Th` frames, newest first.

        Returns:
            Per layer keys and values, `[Th, P, H, Dh]` each, and the ages `[1 + Th]` int64 of the new frame
            itself and of these.
        """
        ages = self.counts[: 1 + len(pages)]
        if not pages:
            none = torch.empty(0, *self.shape[2:], dtype=self.dtype, device=self.device)
            return [(none, none)] * self.shape[0], ages
        views = [self.view(page) for page in pages]
        keys_values = [
            (torch.stack([view[layer, 0] for view in views]), torch.stack([view[layer, 1] for view in views]))
            for layer in range(self.shape[0])
        ]
        return keys_values, ages
