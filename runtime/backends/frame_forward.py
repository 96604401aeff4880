"""Evaluates an ST transformer for one new frame, on the keys and values of the frames before it.

It is `STTransformer.forward`, one frame at a time: a test holds it to that. No frame is computed beside
another, because products of matrices round by how many rows they have; so nothing that happens in a batch
changes a bit of a frame. It also evaluates some positions only, which is the approximation behind
`Plan.reuse`: a position that is not computed keeps what spatial attention saw of it when it last was.

Axes: `Q` positions that are computed, of `P`; `Th` past frames, `W` window, `H` heads, `Dh` head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genie_rt.kernels.mlp.reference import mlp
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.spatial_attention.reference import attend
from genie_rt.kernels.temporal_attention.reference import newest_attention
from genie_rt.runtime.model.transformer import Attention, KeysValues, STBlock, STTransformer
from genie_rt.runtime.pages import PagePool, Pages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionContext:
    """What a new frame attends to besides itself.

    Attributes:
        keys_values: per layer, newest first, `[Th, P, H, Dh]` each.
        ages: `[1 + Th]` int64, of the frame itself and of these.
    """

    keys_values: list[KeysValues]
    ages: Tensor

    @classmethod
    def gather(cls, pool: PagePool, pages: Pages) -> AttentionContext:
        """What the frame after those of `pages`, newest first, attends to; a copy."""
        keys_values, ages = pool.history(pages)
        return cls(keys_values=keys_values, ages=ages)

    def at(self, index: Tensor) -> AttentionContext:
        """The same at the positions `[Q]` alone."""
        keys_values = [(k.index_select(1, index), v.index_select(1, index)) for k, v in self.keys_values]
        return AttentionContext(keys_values=keys_values, ages=self.ages)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameForward:
    """What an evaluation gives.

    Attributes:
        hidden: `[Q, D]` after the final norm.
        temporal: per layer the keys and values of temporal attention at these positions, `[Q, H, Dh]` each.
        spatial: per layer those of spatial attention at all positions, `[P, H, Dh]` each.
    """

    hidden: Tensor
    temporal: list[KeysValues]
    spatial: list[KeysValues]


def forward_frame(
    transformer: STTransformer,
    x: Tensor,
    context: AttentionContext,
    *,
    spatial: list[KeysValues] | None = None,
    index: Tensor | None = None,
) -> FrameForward:
    """Evaluates all blocks at `Q` positions of the new frame.

    Args:
        x: `[Q, D]`, embedded inputs.
        context: at these positions.
        spatial: keys and values of spatial attention at all positions from an earlier evaluation. With
            `index`; not changed.
        index: `[Q]` int64, which positions; None, all.
    """
    temporal, around = [], []
    for layer, block in enumerate(transformer.blocks):
        assert isinstance(block, STBlock)  # a ModuleList does not know
        q, k, v = _queries_keys_values(block.spatial, block.spatial_norm(x))
        if index is not None and spatial is not None:
            k, v = (old.index_copy(0, index, new) for old, new in zip(spatial[layer], (k, v), strict=True))
        x = x + block.spatial.merge(attend(q[None], k[None], v[None])[0])
        around.append((k, v))

        q, k, v = _queries_keys_values(block.temporal, block.temporal_norm(x))
        past_k, past_v = context.keys_values[layer]
        keys, values = torch.cat([k[None], past_k]), torch.cat([v[None], past_v])
        bias = block.temporal.age_bias
        x = x + block.temporal.merge(
            newest_attention(q[None], keys[None], values[None], bias, context.ages[None])[0]
        )
        temporal.append((k, v))

        x = x + mlp(block.mlp_norm(x), block.up.weight, block.down.weight)
    return FrameForward(hidden=transformer.norm(x), temporal=temporal, spatial=around)


def _queries_keys_values(attention: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`[Q, D]` to queries and keys after their norm, and values: `[Q, H, Dh]` each, contiguous."""
    q, k, v = attention.project(x)
    return rms_norm(q, attention.q_norm), rms_norm(k, attention.k_norm), v.contiguous()
