"""Linear maps and MLPs that are computed a frame at a time.

Products of matrices may be added in another order when they have more rows, and GELU takes another formula
for the numbers at the end of a tensor, so what comes of a frame depends on which frames are computed beside
it. At play frames must not know of each other, so each is computed by itself. In training, and for a clip
seen whole, that would cost time and give nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from genie_rt.kernels.mlp.reference import mlp


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
    return _each(lambda frame: frame @ weight.mT, x) if by_frame else x @ weight.mT


def feed_forward(x: Tensor, up: nn.Linear, down: nn.Linear, by_frame: bool) -> Tensor:
    """`mlp` of `[..., P, D]`; `by_frame` as of `project`."""
    if not by_frame:
        return mlp(x, up.weight, down.weight)
    return _each(lambda frame: mlp(frame, up.weight, down.weight), x)


def _each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function` of every frame `[P, D]` of `[..., P, D]`."""
    if x.shape[:-2].numel() == 1:  # without a copy
        return function(x.reshape(x.shape[-2:])).view(*x.shape[:-1], -1)
    return torch.stack([function(frame) for frame in x.flatten(0, -3)]).view(*x.shape[:-1], -1)
