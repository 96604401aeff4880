"""What an order is: which of a frame's tokens are decided first.

Axes: `R` rows, `N` tokens, `P` positions, `S` tokens of a position (`merge^2`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from genie_rt.runtime.config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Order(ABC):
    """One entry of `ORDERS`.

    Attributes:
        name: as `Plan.order` and bundles spell it.
        reuses: values of `Plan.reuse` that it goes with, besides "none".
        adapts: whether a frame takes fewer passes than the plan allows where its first pass is sure of most
            tokens; see `Plan.passes_for`.
    """

    name: ClassVar[str]
    reuses: ClassVar[tuple[str, ...]] = ()
    adapts: ClassVar[bool] = False


class RankedOrder(Order):
    """Decides in every pass the tokens that its samples are the most confident of.

    Attributes:
        ranking: what confidence is, one of `RANKINGS` in kernels/maskgit_sample/reference.py.
    """

    ranking: ClassVar[str] = "likely"


class StaticOrder(Order):
    """Known before the frame is, so a pass needs scores of no more tokens than it decides.

    Attributes:
        is_fixed: whether all frames of all sessions have the same order.
    """

    reuses = ("passes",)
    is_fixed: ClassVar[bool]

    @abstractmethod
    def units(self, rows: int, columns: int, seeds: Tensor, frames: Tensor) -> Tensor:
        """The cells of a grid, the first to be decided first.

        Args:
            rows, columns: of the grid: tokens, or positions where whole ones are decided.
            seeds, frames: `[R]` int64, the bits of each session's seed and the index of its new frame.

        Returns:
            `[R, rows * columns]` int64 in raster order, `[1, ...]` where it `is_fixed`; on the seeds' device.
        """

    def tokens(self, config: ModelConfig, seeds: Tensor, frames: Tensor, *, by_position: bool) -> Tensor:
        """The tokens of a frame: entry `i` is decided before entry `i + 1`.

        Args:
            seeds, frames: as `units` takes them.
            by_position: whether whole positions are decided, as under `reuse="passes"`: the tokens of one
                then stand together.

        Returns:
            `[R, N]` int64, `[1, N]` where it `is_fixed`.
        """
        merge = config.dynamics.merge if by_position else 1
        rows, columns = (side // merge for side in config.tokenizer.grid)
        units = self.units(rows, columns, seeds, frames)
        return position_tokens(config, seeds.device)[units].flatten(1) if by_position else units


@cache
def counting(count: int, device: torch.device) -> Tensor:
    """`[count]` int64, the numbers from 0 on. Not to be written to."""
    import torch  # plans are read without it

    return torch.arange(count, device=device)


@cache
def position_tokens(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Which tokens share a position: `[P, S]` int64, indices in raster order. Not to be written to."""
    import torch  # plans are read without it

    rows, columns = config.tokenizer.grid
    m = config.dynamics.merge
    token = torch.arange(rows * columns).view(rows // m, m, columns // m, m)
    return token.transpose(1, 2).reshape(-1, m * m).to(device or "cpu")
