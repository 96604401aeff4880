"""Tensors between guard bytes, which show what a kernel reads and writes beyond them."""

from collections.abc import Callable

import torch
from torch import Tensor

GUARD = 255
"""Of all bytes this makes NaN in every floating format, and -1 in int64."""


def guarded(x: Tensor, room: int = 512) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of `x` with `room` guard bytes on either side, and whether these are still as they were."""
    size = x.numel() * x.element_size()
    around = torch.full((size + 2 * room,), GUARD, dtype=torch.uint8, device=x.device)
    inside = around[room : room + size].view(x.dtype).view(x.shape)
    inside.copy_(x)
    before, after = around[:room], around[room + size :]
    return inside, lambda: bool((before == GUARD).all() and (after == GUARD).all())


def guards(
    *shape: int, dtype: torch.dtype, device: str, room: int = 512
) -> tuple[Tensor, Callable[[], bool]]:
    """A tensor to write to, as `guarded`; its own bytes are guard bytes as well."""
    size = torch.Size(shape).numel() * dtype.itemsize
    return guarded(torch.full((size,), GUARD, dtype=torch.uint8, device=device).view(dtype).view(shape), room)
