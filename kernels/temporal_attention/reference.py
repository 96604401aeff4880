"""Attention of each position to itself in this and earlier frames, under a band of `W` ages."""

import torch
from torch import Tensor


def causal_ages(num_frames: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """Ages of a clip seen whole: `i - j` where frame `i` may see frame `j`, else -1.

    Returns:
        `[1, T, T]` int64.
    """
    frame = torch.arange(num_frames, device=device)
    age = frame[:, None] - frame[None, :]
    return torch.where((age >= 0) & (age < window), age, -1)[None]


def temporal_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ages: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(Dh) + bias[age]) v` over the frames whose age is visible.

    Time enters only through the age of a key, never its absolute frame, so keys and values stay valid for
    as long as the session lasts.

    Args:
        q: `[B, Tq, P, H, Dh]`, after QK-norm.
        k, v: `[B, Tk, P, H, Dh]`; `k` after QK-norm: this is what a page holds.
        bias: `[H, W]`, one learned score per head and age.
        ages: `[B or 1, Tq, Tk]` int64, in `0 ... W-1` where query frame may see key frame, else -1.
            Every query sees at least one key.

    Returns:
        `[B, Tq, P, H, Dh]` in the dtype of `q`; scores and softmax in at least fp32.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    score_bias = bias.to(wide)[:, ages.clamp(min=0)].masked_fill(ages < 0, -torch.inf)  # [H, B or 1, Tq, Tk]
    way = _one_by_one if q.shape[1] == 1 else _by_matrices  # one query each: matrices of one row are slower
    return way(q, k, v, score_bias)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, score_bias: Tensor) -> Tensor:
    """For a single query frame."""
    scores = (q * k).sum(-1, dtype=score_bias.dtype) * q.shape[-1] ** -0.5  # [B, Tk, P, H]
    scores = scores + score_bias[:, :, 0].permute(1, 2, 0)[:, :, None]
    return (scores.softmax(1).to(v.dtype)[..., None] * v).sum(1, keepdim=True)


def _by_matrices(q: Tensor, k: Tensor, v: Tensor, score_bias: Tensor) -> Tensor:
    """For any number of query frames."""
    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))  # [B, P, H, T, Dh]
    scores = (q @ k.transpose(-1, -2)).to(score_bias.dtype) * q.shape[-1] ** -0.5
    scores = scores + score_bias.transpose(0, 1)[:, None]
    return (scores.softmax(-1).to(v.dtype) @ v).permute(0, 3, 1, 2, 4)
