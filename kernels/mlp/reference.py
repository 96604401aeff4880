"""The feed-forward part of an ST block."""

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from genie_rt.kernels.quantise.reference import quantise_rows, quantise_rows_int8


def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """`gelu(x up^T) down^T` with the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Args:
        x: `[..., D]`.
        up: `[F, D]`. down: `[D, F]`.

    Returns:
        `[..., D]`.
    """
    return linear(gelu(linear(x, up), approximate="tanh"), down)


def mlp_gelu(h: Tensor) -> Tensor:
    """GELU of what `up` gave: `h / 2 (1 + tanh(sqrt(2 / pi) (h + 0.044715 h^3)))`, in at least fp32.

    Args:
        h: `[M, F]`.

    Returns:
        `[M, F]` in the dtype of `h`.
    """
    return _wide_gelu(h).to(h.dtype)


def mlp_gelu_fp8(h: Tensor) -> tuple[Tensor, Tensor]:
    """`mlp_gelu`, quantised: what `quantise_rows` gives. The activations are not rounded in between."""
    return quantise_rows(_wide_gelu(h))


def mlp_gelu_int8(h: Tensor) -> tuple[Tensor, Tensor]:
    """`mlp_gelu`, quantised: what `quantise_rows_int8` gives. The activations are not rounded in between."""
    return quantise_rows_int8(_wide_gelu(h))


def _wide_gelu(h: Tensor) -> Tensor:
    return gelu(h.to(torch.promote_types(h.dtype, torch.float32)), approximate="tanh")
