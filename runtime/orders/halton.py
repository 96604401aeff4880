"""A low-discrepancy order, the same for all frames: any first part of it covers the picture evenly."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genie_rt.runtime.orders.base import StaticOrder

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Halton(StaticOrder):
    """The Halton sequence (Besnier et al. 2025, arXiv 2503.17076)."""

    name = "halton"
    is_fixed = True

    def units(self, rows: int, columns: int, seeds: Tensor, frames: Tensor) -> Tensor:
        return _on_device(rows, columns, seeds.device)


@cache
def _on_device(rows: int, columns: int, device: torch.device) -> Tensor:
    import torch

    return torch.from_numpy(halton_order(rows, columns))[None].to(device)


def halton_order(rows: int, columns: int) -> NDArray[np.int64]:
    """The cells of a grid in the order in which the Halton sequence of bases 2 and 3 first visits them.

    Any first part of it covers the grid evenly, so tokens that are decided together are far apart. Source:
    Besnier et al. 2025, "Halton scheduler for masked generative image transformer", arXiv 2503.17076.

    Returns:
        `[rows * columns]`, a permutation of the cells in raster order.
    """
    num_cells, num_points = rows * columns, 16
    while True:
        index = np.arange(1, num_points + 1)
        y, x = (radical_inverse(index, base) for base in (2, 3))
        cells = (y * rows).astype(np.int64) * columns + (x * columns).astype(np.int64)
        found, first = np.unique(cells, return_index=True)
        if len(found) == num_cells:
            return found[np.argsort(first)]
        num_points *= 2


def radical_inverse(index: NDArray[np.int64], base: int) -> NDArray[np.float64]:
    """The digits of whole numbers in `base`, mirrored at the point: `[M]` in [0, 1)."""
    value, scale, rest = np.zeros(len(index)), 1.0, index.copy()
    while rest.any():
        scale /= base
        value += scale * (rest % base)
        rest //= base
    return value
