"""What back ends have in common that keep pages: starting a session, taking rows apart, counting memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.runtime.backends import row_io
from genie_rt.runtime.backends.protocol import Backend, MemoryUse
from genie_rt.runtime.backends.row import Row, blank_row
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.pages import Page, PagePool, Pages


class PagedBackend(Backend, ABC):
    """A back end with a pool of pages for each transformer.

    Attributes:
        config: of the model.
        weight_bytes: of the weights, as they are kept.
    """

    config: ModelConfig
    dynamics_pages: PagePool
    encoder_pages: PagePool
    decoder_pages: PagePool
    weight_bytes: int

    @property
    def memory_use(self) -> MemoryUse:
        """See `Backend.memory_use`."""
        pools = self.dynamics_pages, self.encoder_pages, self.decoder_pages
        return MemoryUse(
            weight_bytes=self.weight_bytes,
            page_bytes=sum(pool.num_used * pool.page_bytes for pool in pools),
            pool_bytes=sum(pool.num_pages * pool.page_bytes for pool in pools),
        )

    @torch.inference_mode()
    def prefill(self, seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        row = blank_row(self.config, seed, self.device)
        picture = frames[0]
        pages: Pages = ()
        for frame, action in zip(frames.to(self.device), actions, strict=True):
            if row.pending:
                (row,) = self.commit([row])
            tokens, page = self._encode(frame, pages)
            pages = self.encoder_pages.push(pages, page)
            (row,), pictures = self.show([row], [action], tokens[None])
            picture = pictures[0]
        return row, picture

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """See `Backend.save_row`."""
        return row_io.save(row, self.config, self.dynamics_pages, self.decoder_pages)

    @torch.inference_mode()
    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """See `Backend.load_row`."""
        return row_io.load(
            tensors, self.config, self.dynamics_pages, self.decoder_pages,
            seed=seed, frame_index=frame_index, action=action, pending=pending,
        )  # fmt: skip

    @abstractmethod
    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Page]:
        """Encodes one picture `[H, W, 3]` uint8 after those of `pages`: its tokens `[N]`, and its page."""
