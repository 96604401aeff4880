"""A random order, drawn anew for every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie_rt.runtime.orders.base import StaticOrder, counting

if TYPE_CHECKING:
    from torch import Tensor


class Random(StaticOrder):
    """Drawn from the stream `STREAM_ORDER` of the session's random numbers."""

    name = "random"
    is_fixed = False

    def units(self, rows: int, columns: int, seeds: Tensor, frames: Tensor) -> Tensor:
        from genie_rt.kernels.philox.reference import STREAM_ORDER, uniforms_of_passes

        count = counting(rows * columns, seeds.device)
        u, _ = uniforms_of_passes(seeds, frames, count[:1], count, STREAM_ORDER)
        return u[:, 0].argsort(dim=-1, stable=True)
