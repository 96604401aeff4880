"""RMSNorm, the part of `norm_qkv` that comes before its GEMM (Zhang and Sennrich 2019, arXiv 1910.07467)."""

import torch
from torch import Tensor

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


FP8_MAX = 448.0
"""The largest number of e4m3."""

SMALLEST_AMAX = 1e-30
"""What a row's largest magnitude counts as at least when it is quantised: rows of zeros have a scale too."""


def quantise_rows(y: Tensor) -> tuple[Tensor, Tensor]:
    """`round(y / scale)` with `scale = max |y| / 448` of each row, so that its largest number becomes 448.

    Args:
        y: `[..., D]`, at least fp32.

    Returns:
        `[..., D]` float8_e4m3fn, rounded to nearest even, and the scales, `[..., 1]` fp32: what
        `torch._scaled_mm` takes as a matrix with row-wise scales.
    """
    scale = y.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_AMAX) / FP8_MAX
    return (y / scale).to(torch.float8_e4m3fn), scale.float()


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
    if delta is not None:
        x.add_(delta)
    return quantise_rows(rms_norm(x.to(torch.promote_types(x.dtype, torch.float32)), weight))
