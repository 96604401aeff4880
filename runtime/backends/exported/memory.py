"""Pages as graphs are bound to them: the memory itself, in the layout of the contract."""

from __future__ import annotations

import torch
from torch import Tensor

from genie_rt.runtime.config import TransformerConfig
from genie_rt.runtime.pages import Page, PagePool, Pages


class BoundPages(PagePool):
    """A `PagePool` whose pages graphs read from and write to, without a copy."""

    def __init__(
        self, config: TransformerConfig, num_positions: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(config, num_positions, dtype, device)
        layers, two, *rest = self.shape
        self._bound = (layers * two, *rest)
        self.blank = torch.zeros(self._bound, dtype=dtype, device=device)  # for ages that are not there yet

    def bound(self, page: Page) -> Tensor:
        """The page's memory as graphs take it, `[2 L, P, H, Dh]`."""
        return self.view(page).view(self._bound)

    def past(self, pages: Pages, prefix: str = "") -> dict[str, Tensor]:
        """The inputs that give a graph its past.

        Args:
            pages: newest first.
        """
        if self.window == 1:
            return {}
        bound = [self.bound(page) for page in pages]
        bound += [self.blank] * (self.window - 1 - len(pages))
        named = {f"{prefix}past_{age}": page for age, page in enumerate(bound, 1)}
        return {f"{prefix}num_past": self.counts[len(pages) : len(pages) + 1], **named}
