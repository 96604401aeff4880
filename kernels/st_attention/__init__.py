"""`st_attention`: both attentions of an ST block, as a sequence of this package's operators and GEMMs."""

from torch import Tensor
from torch.nn.functional import linear

from genie_rt.errors import InputError
from genie_rt.kernels.norm_qkv import norm_qkv
from genie_rt.kernels.spatial_attention import spatial_attention
from genie_rt.kernels.st_attention.reference import AttentionWeights
from genie_rt.kernels.temporal_attention import temporal_attention

__all__ = ["AttentionWeights", "st_attention"]


def st_attention(
    x: Tensor,
    spatial: AttentionWeights,
    temporal: AttentionWeights,
    mlp_norm: Tensor,
    pages: Tensor,
    table: Tensor,
    layer: int,
    *,
    index: Tensor | None = None,
    kept: Tensor | None = None,
    delta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`x += delta; x += SA(norm x); x += TA(norm x)`, and the norm of that `x`, which the block's MLP reads.

    Three norms with their residual additions, two attentions, four GEMMs: nine launches on CUDA, all of them
    on the current stream; nothing synchronises. Temporary tensors are allocated.

    Args:
        x: `[B, T, Q, D]`, contiguous: the residual stream of the newest `T` frames, all positions of them
            (`Q = P`) or those of `index`. Changed in place.
        spatial, temporal: of the two attentions; they may differ in heads.
        mlp_norm: `[D]`.
        pages: `[num_pages, L, 2, P, H, Dh]`, keys and values of temporal attention. Written where `table`
            gives the query frames a page.
        table: `[B, W - 1 + T]` int32, the page of the frame of every age, as `temporal_attention` takes it.
        layer: which of the pages' `L`.
        index: `[B or 1, Q]` int32, positions; with `T = 1` and `kept` only.
        kept: `[B * T, 2, P, H, Dh]`, keys after their norm and values of spatial attention: receives those
            that are computed here and, with `index`, gives the others.
        delta: `[B, T, Q, D]`, what the block before has yet to add to `x`: the output of its MLP.

    Returns:
        `x` itself and the normed input of the MLP, `[B, T, Q, D]` each.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    batch, frames, positions, width = x.shape
    if not x.is_contiguous():
        raise InputError(
            f"x: expected a contiguous tensor, found strides {x.stride()}; it is changed in place"
        )
    if index is not None and frames != 1:
        raise InputError(f"x: expected one frame of each row together with index, found {frames}")
    rows = x.view(-1, width)
    y = norm_qkv(rows, None if delta is None else delta.view(-1, width), spatial.norm)
    qkv = linear(y, spatial.qkv).view(batch * frames, positions, 3, *spatial.heads)
    out = spatial_attention(qkv, spatial.q_norm, spatial.k_norm, index, kept)
    y = norm_qkv(rows, linear(out.view(len(rows), -1), spatial.out), temporal.norm)
    qkv = linear(y, temporal.qkv).view(batch, frames, positions, 3, *temporal.heads)
    out = temporal_attention(qkv, temporal.q_norm, temporal.k_norm, temporal.bias, pages, table, layer, index)
    y = norm_qkv(rows, linear(out.view(len(rows), -1), temporal.out), mlp_norm)
    return x, y.view(x.shape)
