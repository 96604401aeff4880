"""Attention of each position to itself in this and earlier frames, under a band of `W` ages."""

import torch
from torch import Tensor

from genie_rt.kernels.arguments import check_tensor
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.quantise.reference import FP8_MAX


def causal_ages(num_frames: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """Ages of a clip seen whole: `i - j` where frame `i` may see frame `j`, else -1.

    Returns:
        `[1, T, T]` int64.
    """
    frame = torch.arange(num_frames, device=device)
    age = frame[:, None] - frame[None, :]
    return torch.where((age >= 0) & (age < window), age, -1)[None]


def temporal_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ages: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(Dh) + bias[age]) v` over the frames whose age is visible, of a whole clip.

    Time enters only through the age of a key, never its absolute frame, so keys and values stay valid for
    as long as the session lasts.

    Args:
        q: `[B, Tq, P, H, Dh]`, after QK-norm.
        k, v: `[B, Tk, P, H, Dh]`; `k` after QK-norm: this is what a page holds.
        bias: `[H, W]`, one learned score per head and age.
        ages: `[B or 1, Tq, Tk]` int64, in `0 ... W-1` where query frame may see key frame, else -1.
            Every query sees at least one key.

    Returns:
        `[B, Tq, P, H, Dh]` in the dtype of `q`; computed in at least fp32 and rounded once.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    dtype = q.dtype
    q, k, v = (x.to(wide).permute(0, 2, 3, 1, 4) for x in (q, k, v))  # [B, P, H, T, Dh]
    with torch.autocast(q.device.type, enabled=False):
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        scores = scores + _bias_of(ages, bias, wide).transpose(0, 1)[:, None]
        out = scores.softmax(-1) @ v
    return out.permute(0, 3, 1, 2, 4).to(dtype)


def newest_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ages: Tensor) -> Tensor:
    """`temporal_attention` of a single frame, the same to the bit however many frames it is computed with.

    How torch adds depends on the shape of the whole tensor and on the number of threads. So each frame is
    computed by itself, over `W` keys, whatever was given: with the keys in the order of their age, its result
    depends neither on what is computed beside it nor on keys after the oldest that it sees.

    Args:
        q: `[B, P, H, Dh]`, after QK-norm.
        k, v: `[B, Tk, P, H, Dh]`, newest first. No frame sees a key after the first `W`.
        bias: `[H, W]`, one learned score per head and age.
        ages: `[B or 1, Tk]` int64, in `0 ... W-1` where the frame may see key frame, else -1.

    Returns:
        `[B, P, H, Dh]` in the dtype of `q`; computed in at least fp32 and rounded once.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    k, v = (_resized(x, bias.shape[1], 0) for x in (k, v))
    scored = _bias_of(_resized(ages, bias.shape[1], -1), bias, wide).permute(1, 2, 0)[:, :, None]
    each = []
    for frame in range(len(q)):
        scores = (q[frame].to(wide) * k[frame].to(wide)).sum(-1) * q.shape[-1] ** -0.5  # [W, P, H]
        weights = (scores + scored[min(frame, len(scored) - 1)]).softmax(0)
        each.append((weights[..., None] * v[frame].to(wide)).sum(0).to(q.dtype))
    return torch.stack(each)


def _resized(x: Tensor, count: int, value: int) -> Tensor:
    """`[B, Tk, ...]` cut, or filled with a value, to `[B, count, ...]`."""
    missing = count - x.shape[1]
    if missing <= 0:
        return x[:, :count]
    return torch.cat([x, x.new_full((x.shape[0], missing, *x.shape[2:]), value)], 1)


def _bias_of(ages: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute the bias on scores of keys of these ages: `[H, *ages.shape]`, -Inf where unseen."""
    return bias.to(dtype)[:, ages.clamp(min=0)].masked_fill(ages < 0, -torch.inf)


def to_page(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Keys or values as a page of a dtype holds them, rounded to nearest even.

    In e4m3 there is no scale: a key is at most `sqrt(Dh)` times its norm's weight, a value is of order 1, and
    the format goes from 2**-9 to 448. What is beyond, Inf too, becomes 448; NaN stays.

    Args:
        x: any shape, any floating dtype.
        dtype: of the page.

    Returns:
        In that dtype; `x` itself where it has it already.
    """
    return (x.clamp(-FP8_MAX, FP8_MAX) if dtype == torch.float8_e4m3fn else x).to(dtype)


def indexable(pages: Tensor) -> Tensor:
    """A view of pages that torch can index, gather and scatter everywhere: of e4m3 that of the bytes."""
    return pages.view(torch.uint8) if pages.dtype == torch.float8_e4m3fn else pages


def paged_temporal_attention(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    pages: Tensor,
    table: Tensor,
    layer: int,
    index: Tensor | None = None,
) -> Tensor:
    """`temporal_attention` of the newest `T` frames to themselves and to pages, with QK-norm and page write.

    Query frame `t` has age `T-1-t`, counted from the newest one. It sees the frame of age `a` if
    `0 <= a - (T-1-t) < W` and that frame exists: query frames do, past ones where the table has a page. It
    sees query frames, itself too, as a page holds them: rounded.

    Args:
        qkv: `[B, T, Q, 3, H, Dh]`, q, k and v before QK-norm; frame `T-1` is the newest.
        q_weight, k_weight: `[Dh]`, weights of the two norms (QK-norm: Henry et al. 2020, arXiv 2010.04245).
        bias: `[H, W]`, one learned score per head and age.
        pages: `[num_pages, L, 2, P, H, Dh]`: keys after QK-norm, and values, in the dtype of `qkv` or, by
            `to_page`, in float8_e4m3fn. Written to.
        table: `[B, W - 1 + T]` int32, the page of the frame of every age. Ages below `T` are query frames:
            their keys and values come from `qkv` and are written to that page. A number that is no page means
            that there is no such frame, or nothing to write. A page that is written is named only once.
        layer: which of the `L`.
        index: `[B or 1, Q]` int32 in `0 ... P-1`, the positions of a page that the queries are at; None, all.

    Returns:
        `[B, T, Q, H, Dh]`, contiguous, in the dtype of `qkv`.

    Raises:
        UnsupportedError: pages are of another dtype.
    """
    check_tensor("pages", pages, (None,) * 6, (qkv.dtype, torch.float8_e4m3fn), contiguous=False)
    batch, frames, positions = qkv.shape[:3]
    q, k, v = qkv.unbind(3)
    q, k = rms_norm(q, q_weight), rms_norm(k.to(torch.promote_types(k.dtype, torch.float32)), k_weight)
    k, v = to_page(k, pages.dtype), to_page(v, pages.dtype)
    if index is None:
        index = torch.arange(positions, device=qkv.device)[None]
    index = index.long().expand(batch, -1)
    by_position = indexable(pages[:, layer]).transpose(1, 2)  # [num_pages, P, 2, H, Dh]
    exists = (table >= 0) & (table < len(pages))  # [B, W-1+T]
    past = exists[:, frames:, None]
    seen = by_position[torch.where(past, table[:, frames:, None], 0).long(), index[:, None]]
    seen = seen.view(pages.dtype).to(qkv.dtype)
    seen = seen.masked_fill(~past[..., None, None, None], 0)  # [B, W-1, Q, 2, H, Dh]; junk may be NaN
    all_k = torch.cat([k.to(qkv.dtype).flip(1), seen[..., 0, :, :]], 1)  # by age
    all_v = torch.cat([v.to(qkv.dtype).flip(1), seen[..., 1, :, :]], 1)

    age = torch.arange(table.shape[1], device=qkv.device)
    ages = age - age[:frames].flip(0)[:, None]  # [T, W-1+T]: of every frame to every query frame
    visible = (ages >= 0) & (ages < bias.shape[1]) & (exists | (age < frames))[:, None]
    ages = torch.where(visible, ages, -1)
    each = []
    for t in range(frames):
        newer = frames - 1 - t  # which it does not see
        seen_k, seen_v, seen_ages = all_k[:, newer:], all_v[:, newer:], ages[:, t, newer:]
        each.append(newest_attention(q[:, t], seen_k, seen_v, bias, seen_ages))
    out = torch.stack(each, 1)

    row, own = exists[:, :frames].nonzero(as_tuple=True)
    new = indexable(torch.stack([k, v], 3))[row, frames - 1 - own]  # [.., Q, 2, H, Dh]
    by_position[table[row, own].long()[:, None], index[row]] = new
    return out.contiguous()
