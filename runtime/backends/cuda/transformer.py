"""An ST transformer over pages, as a sequence of kernels and GEMMs.

Nine launches of a block for both attentions and three for its MLP. The residual additions are part of the
norms, so what a block's MLP adds comes in with the next block's first norm. With quantised weights each norm
gives what the next GEMM reads, and so does GELU.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from genie_rt.kernels.mlp import mlp_gelu, mlp_gelu_fp8, mlp_gelu_int8
from genie_rt.kernels.norm_qkv import norm_qkv, norm_qkv_fp8, norm_qkv_int8
from genie_rt.kernels.spatial_attention import spatial_attention
from genie_rt.kernels.temporal_attention import temporal_attention
from genie_rt.runtime.backends.cuda.linear import Linear
from genie_rt.runtime.backends.cuda.packed import PackedTransformer

OnLayer = Callable[[int, Tensor], None]


def evaluate(
    transformer: PackedTransformer,
    x: Tensor,
    pages: Tensor,
    table: Tensor,
    *,
    index: Tensor | None = None,
    kept: Tensor | None = None,
    on_layer: OnLayer | None = None,
) -> Tensor:
    """All blocks and the final norm.

    Launches on the current stream; allocates its temporary tensors; does not synchronise.

    Args:
        x: `[B, T, Q, D]`, contiguous, embedded inputs: all positions, or those of `index`. Overwritten.
        pages: `[num_pages, L, 2, P, H, Dh]`. Written where `table` gives a query frame a page.
        table: `[B, W - 1 + T]` int32, the page of the frame of every age; -1: none.
        index: `[B or 1, Q]` int32, positions; with `T = 1` and `kept` only.
        kept: `[L, B T, 2, P, H, Dh]`, keys after their norm and values of spatial attention: receives what is
            computed here and, with `index`, gives the rest.
        on_layer: called with the number of each layer and what temporal attention gave there, for looking for
            the layer that breaks.

    Returns:
        `[B, T, Q, D]`.
    """
    batch, frames, positions, width = x.shape
    rows = x.view(-1, width)
    delta = None
    for layer, block in enumerate(transformer.blocks):
        spatial, temporal = block.spatial, block.temporal
        qkv = _normed(spatial.qkv, rows, delta, spatial.norm)
        qkv = qkv.view(batch * frames, positions, 3, *spatial.heads)
        around = None if kept is None else kept[layer]
        out = spatial_attention(qkv, spatial.q_norm, spatial.k_norm, index, around)
        delta = spatial.out(out.view(len(rows), -1))

        qkv = _normed(temporal.qkv, rows, delta, temporal.norm)
        qkv = qkv.view(batch, frames, positions, 3, *temporal.heads)
        out = temporal_attention(
            qkv, temporal.q_norm, temporal.k_norm, temporal.bias, pages, table, layer, index
        )
        if on_layer is not None:
            on_layer(layer, out)
        delta = temporal.out(out.view(len(rows), -1))

        delta = _activated(block.down, _normed(block.up, rows, delta, block.mlp_norm))
    return norm_qkv(rows, delta, transformer.norm).view(x.shape)


def _normed(linear: Linear, rows: Tensor, delta: Tensor | None, weight: Tensor) -> Tensor:
    """`rows += delta`, and the projection of their norm."""
    if linear.kind == "fp8":
        return linear.apply_quantised(*norm_qkv_fp8(rows, delta, weight))
    if linear.kind == "int8":
        return linear.apply_quantised(*norm_qkv_int8(rows, delta, weight))
    return linear(norm_qkv(rows, delta, weight))


def _activated(linear: Linear, hidden: Tensor) -> Tensor:
    """The projection of GELU of what the first half of an MLP gave."""
    if linear.kind == "fp8":
        return linear.apply_quantised(*mlp_gelu_fp8(hidden))
    if linear.kind == "int8":
        return linear.apply_quantised(*mlp_gelu_int8(hidden))
    return linear(mlp_gelu(hidden))
