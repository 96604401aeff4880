"""Attention among the positions of one frame, with QK-norm."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from genie_rt.kernels.norm_qkv.reference import rms_norm


def spatial_attention(q: Tensor, k: Tensor, v: Tensor, q_weight: Tensor, k_weight: Tensor) -> Tensor:
    """`softmax(norm(q) norm(k)^T / sqrt(Dh)) v` for every frame and head.

    Args:
        q: `[B, Q, H, Dh]`, the queries: all positions of the frame, or a subset of them.
        k, v: `[B, P, H, Dh]`, every position of the frame.
        q_weight, k_weight: `[Dh]`, weights of the two norms (QK-norm: Henry et al. 2020, arXiv 2010.04245).

    Returns:
        `[B, Q, H, Dh]`.
    """
    dtype = v.dtype
    q, k = rms_norm(q, q_weight), rms_norm(k, k_weight)
    if q.device.type == "cpu":  # there, bf16 attention is less exact and slower than fp32's
        wide = torch.promote_types(dtype, torch.float32)
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
    with torch.autocast(q.device.type, enabled=False):
        out = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).to(dtype)
