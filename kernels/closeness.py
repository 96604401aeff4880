"""Tolerances of computed tensors against their references: relative norms, from one table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = {
    torch.float64: 1e-12,  # 2**-53 a rounding, sums of up to 10**4 terms
    torch.float32: 1e-5,  # 2**-24 a rounding, sums of up to 10**4 terms of either sign
    torch.float16: 4e-3,  # 2**-11 a rounding, accumulated in fp32: operands and results round a few times
    torch.bfloat16: 3e-2,  # 2**-8 a rounding, as above
}
"""Largest `|actual - expected| / |expected|` over a whole tensor, by the dtype that it was computed in."""

ROW_FACTOR = 8
"""Factor by which the worst row may be worse than the whole tensor: rows have few numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """Distance between two tensors.

    Attributes:
        whole: relative error of the whole tensor.
        worst_row: of its worst row (last axis), relative to that row or to an average one if that is larger.
        row: the index of that row, all other axes counted as one.
    """

    whole: float
    worst_row: float
    row: int

    def within(self, tolerance: float) -> bool:
        """False for NaN, which nothing is within."""
        return self.whole <= tolerance and self.worst_row <= ROW_FACTOR * tolerance


def closeness(actual: Tensor, expected: Tensor) -> Closeness:
    """Compare two tensors of one shape, both finite.

    The whole tensor alone would let a kernel pass that forgets one row in a million; elements alone would
    need a tolerance for the smallest of them.
    """
    if not actual.numel():
        return Closeness(whole=0.0, worst_row=0.0, row=0)
    wanted = torch.atleast_1d(expected.double())
    error = torch.atleast_1d(actual.double()) - wanted
    rows = wanted.norm(dim=-1)
    scale = torch.maximum(rows, rows.square().mean().sqrt())  # a row of next to nothing counts as average
    by_row = (error.norm(dim=-1) / scale).flatten().nan_to_num(0.0, posinf=torch.inf)  # 0 / 0: all zeros
    worst = int(by_row.argmax())
    norm = wanted.norm()
    whole = float(error.norm() / norm) if norm else float(error.norm())
    return Closeness(whole=whole, worst_row=float(by_row[worst]), row=worst)
