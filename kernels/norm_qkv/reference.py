"""RMSNorm, the part of `norm_qkv` that comes before its GEMM (Zhang and Sennrich 2019, arXiv 1910.07467)."""

import torch
from torch import Tensor

from genie_rt.kernels.quantise.reference import quantise_rows, quantise_rows_int8

EPS = 1e-6


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last axis.

    Args:
        x: `[..., D]`, any floating dtype; accumulated in at least fp32.
        weight: `[D]`.

    Returns:
        `[..., D]` in the dtype of `x`.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return (wide * scale * weight).to(x.dtype)


def norm_qkv(x: Tensor, delta: Tensor | None, weight: Tensor) -> Tensor:
    """`x += delta`, then the norm of `x` as its dtype holds it.

    Args:
        x: `[M, D]`, the residual stream. Written to, where there is a delta.
        delta: `[M, D]`, what the last projection adds to it; None, nothing.
        weight: `[D]`.

    Returns:
        `[M, D]` in the dtype of `x`.
    """
    if delta is not None:
        x.add_(delta)
    return rms_norm(x, weight)


def norm_qkv_fp8(x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`norm_qkv`, quantised: what `quantise_rows` gives. The norm is not rounded in between."""
    return quantise_rows(_wide_norm(x, delta, weight))


def norm_qkv_int8(x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`norm_qkv`, quantised: what `quantise_rows_int8` gives. The norm is not rounded in between."""
    return quantise_rows_int8(_wide_norm(x, delta, weight))


def _wide_norm(x: Tensor, delta: Tensor | None, weight: Tensor) -> Tensor:
    """Compute `norm_qkv` in at least fp32."""
    if delta is not None:
        x.add_(delta)
    return rms_norm(x.to(torch.promote_types(x.dtype, torch.float32)), weight)
