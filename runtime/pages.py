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
MAX_KEPT_AGES = 1024


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
        self.free: list[int] = []
        self._chunks: list[Tensor] = []
        self._blank: Tensor | None = None
        self._kept_ages: dict[tuple[int, ...], Tensor] = {}
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

    def write(self, keys_values: list[KeysValues], row: int, frame: int = 0) -> Page:
        """A new page from one frame of what a transformer returned.

        Args:
            keys_values: per layer keys and values, `[B, T, P, H, Dh]` each.
            row, frame: which of the `B` and of the `T`.
        """
        page = self.take()
        memory = self.view(page)
        for layer, (keys, values) in enumerate(keys_values):
            memory[layer, 0] = keys[row, frame]
            memory[layer, 1] = values[row, frame]
        return page

    def load(self, keys_values: Tensor) -> Page:
        """A new page from a copy of another one's memory, `[L, 2, P, H, Dh]`."""
        page = self.take()
        self.view(page).copy_(keys_values)
        return page

    def take(self) -> Page:
        """A page that nobody holds, its contents of no interest."""
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

    def history(self, rows: list[Pages]) -> tuple[list[KeysValues] | None, Tensor]:
        """What a transformer needs to attend to the past from one new frame per row.

        Args:
            rows: `B` tuples of pages, newest first; their lengths may differ.

        Returns:
            Per layer keys and values of `Th` past frames, `[B, Th, P, H, Dh]` each (None where no row has a
            past), and the ages of all keys to the new frame, `[B, 1, Th + 1]` int64. Rows with a shorter
            past are filled up with keys of age -1, which nothing sees.
        """
        longest = max(len(pages) for pages in rows)
        ages = self._ages(tuple(len(pages) for pages in rows))
        if longest == 0:
            return None, ages
        views = [[self.view(page) for page in pages] for pages in rows]
        if any(len(pages) < longest for pages in rows):
            if self._blank is None:
                self._blank = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
            views = [pages + [self._blank] * (longest - len(pages)) for pages in views]
        return [(_stack(views, layer, 0), _stack(views, layer, 1)) for layer in range(self.shape[0])], ages

    def _ages(self, lengths: tuple[int, ...]) -> Tensor:
        """Ages of the keys of rows with so many pages, `[B, 1, Th + 1]`; kept, for the same come again."""
        if (ages := self._kept_ages.get(lengths)) is None:
            longest = max(lengths)
            seen = torch.arange(1, longest + 2) % (longest + 1)  # 1 ... Th, and 0 for the frame itself
            ages = torch.where(seen <= torch.tensor(lengths)[:, None], seen, -1)[:, None].to(self.device)
            if len(self._kept_ages) >= MAX_KEPT_AGES:
                self._kept_ages.clear()
            self._kept_ages[lengths] = ages
        return ages


def _stack(views: list[list[Tensor]], layer: int, part: int) -> Tensor:
    """Keys (`part` 0) or values (1) of one layer out of `B` rows of `Th` pages: `[B, Th, P, H, Dh]`."""
    flat = torch.stack([page[layer, part] for pages in views for page in pages])
    return flat.unflatten(0, (len(views), -1))
