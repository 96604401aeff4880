"""Orders of a frame's tokens that are known before the frame is: "random" and "halton"."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.kernels.philox.reference import STREAM_ORDER, uniforms_of_passes
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan

HOST = torch.device("cpu")


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


@cache
def position_tokens(config: ModelConfig, device: torch.device = HOST) -> Tensor:
    """Which tokens share a position: `[P, merge^2]` int64, indices in raster order. Not to be written to."""
    rows, columns = config.tokenizer.grid
    m = config.dynamics.merge
    token = torch.arange(rows * columns).view(rows // m, m, columns // m, m)
    return token.transpose(1, 2).reshape(-1, m * m).to(device)


def decision_order(plan: Plan, config: ModelConfig, seeds: Tensor, frames: Tensor) -> Tensor:
    """The order of a static plan: place `i` of the result is decided before place `i + 1`.

    Under `reuse="passes"` whole positions are decided, so the tokens of one stand together. Random orders
    are drawn from the stream `STREAM_ORDER` of the session's random numbers, one for every frame.

    Args:
        plan: one whose `is_static`.
        seeds, frames: `[B]` int64, the bits of each session's seed and the index of its new frame.

    Returns:
        `[B, N]` int64 tokens for "random", `[1, N]` for "halton".
    """
    whole = plan.reuse == "passes"
    if plan.order == "halton":
        return _halton_tokens(config, whole, seeds.device)
    members = position_tokens(config, seeds.device)  # [P, S]
    units = _counting(len(members) if whole else members.numel(), seeds.device)
    u, _ = uniforms_of_passes(seeds, frames, units[:1], units, STREAM_ORDER)
    order = u[:, 0].argsort(dim=-1, stable=True)
    return members[order].flatten(1) if whole else order


@cache
def _halton_tokens(config: ModelConfig, whole: bool, device: torch.device) -> Tensor:
    """All tokens in Halton order, or all positions with their tokens: `[1, N]`."""
    rows, columns = config.tokenizer.grid
    if not whole:
        return torch.from_numpy(halton_order(rows, columns))[None].to(device)
    merge = config.dynamics.merge
    positions = torch.from_numpy(halton_order(rows // merge, columns // merge))
    return position_tokens(config)[positions].view(1, -1).to(device)


@cache
def _counting(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)
