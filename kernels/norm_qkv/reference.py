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
