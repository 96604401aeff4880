"""What is computed a frame at a time, so that no bit of a frame depends on the frames computed beside it.

Products of matrices may be added in another order when they have more rows, stand elsewhere in memory or fall
to another thread, and GELU takes another formula for the numbers at the end of a tensor. At play frames must
not know of each other, so each is computed by itself. In training, and for a clip seen whole, that would cost
time and give nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from genie_rt.kernels.mlp.reference import mlp

ALIGNMENT = 64
"""Bytes that torch aligns a tensor to, and that BLAS libraries ask for to add in the same order."""


def project(layer: nn.Linear, x: Tensor, by_frame: bool) -> Tensor:
    """A linear layer without a bias.

    Args:
        x: `[..., P, D]`, any number of frames.
        by_frame: whether every frame is a product of its own, the same to the bit whatever is beside it.

    Returns:
        `[..., P, F]`.
    """
    return product(x, layer.weight, True) if by_frame else layer(x)


def product(x: Tensor, weight: Tensor, by_frame: bool) -> Tensor:
    """`x weight^T` of `[..., P, D]` and `[F, D]`; `by_frame` as of `project`."""
    return _each(lambda frame: linear(frame, weight), x) if by_frame else x @ weight.mT


def feed_forward(x: Tensor, up: nn.Linear, down: nn.Linear, by_frame: bool) -> Tensor:
    """`mlp` of `[..., P, D]`; `by_frame` as of `project`."""
    if not by_frame:
        return mlp(x, up.weight, down.weight)
    return _each(lambda frame: mlp(frame, up.weight, down.weight), x)


def each_frame(function: Callable[..., Tensor], *x: Tensor) -> Tensor:
    """`function` of tensors `[F, ...]`, called with one frame at a time, `[1, ...]`, in memory of its own."""
    each = [function(*map(_own, frame)) for frame in zip(*(part.split(1) for part in x), strict=True)]
    return each[0] if len(each) == 1 else torch.cat(each)


def _each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`each_frame` of `[..., P, D]`."""
    return each_frame(function, x.flatten(0, -3)).view(*x.shape[:-1], -1)


def _own(x: Tensor) -> Tensor:
    """The same numbers, contiguous and aligned as of a new tensor: products may round by where they lie."""
    is_own = x.is_contiguous() and x.data_ptr() % ALIGNMENT == 0
    return x if is_own else x.clone(memory_format=torch.contiguous_format)
