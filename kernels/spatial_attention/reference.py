"""Attention among the positions of one frame, with QK-norm."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from genie_rt.errors import InputError
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
    return attend(rms_norm(q, q_weight), rms_norm(k, k_weight), v)


def spatial_attention_kept(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    index: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """`spatial_attention` of what a QKV projection gives, with keys and values that can be kept for later.

    Without `index` all positions of a frame are computed (`Q = P`), and `kept`, where there is one, receives
    their keys and values. With `index` only these are: they replace what is kept of them, and then attend to
    all `P` positions of `kept`. The positions that are not computed stay as they were last seen.

    Args:
        qkv: `[F, Q, 3, H, Dh]`, before QK-norm.
        q_weight, k_weight: `[Dh]`, weights of the two norms.
        index: `[F or 1, Q]` int32, the positions of the queries, distinct within a row. What lies outside
            `0 ... P-1` replaces nothing.
        kept: `[F, 2, P, H, Dh]`, keys after their norm, and values. Written in place.

    Returns:
        `[F, Q, H, Dh]`, contiguous, in the dtype of `qkv`.
    """
    q, k, v = qkv.unbind(2)
    k = rms_norm(k, k_weight)
    if index is None:
        if kept is not None:
            kept[:, 0], kept[:, 1] = k, v
    else:
        if kept is None:
            raise InputError("kept: expected keys and values to attend to, since index is given; found None")
        for frame, positions in enumerate(index.expand(len(qkv), -1)):
            inside = (positions >= 0) & (positions < kept.shape[2])
            at = positions[inside].long()
            kept[frame, 0, at], kept[frame, 1, at] = k[frame, inside], v[frame, inside]
        k, v = kept.unbind(1)
    return attend(rms_norm(q, q_weight), k, v).contiguous()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(Dh)) v` of `[B, Q, H, Dh]` and twice `[B, P, H, Dh]`, queries and keys normed."""
    dtype = v.dtype
    if q.device.type == "cpu":  # there, bf16 attention is less exact and slower than fp32's
        wide = torch.promote_types(dtype, torch.float32)
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
    with torch.autocast(q.device.type, enabled=False):
        out = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).to(dtype)
