"""Evaluates an ST transformer at some positions of a frame, the others' spatial keys and values being kept.

This is the approximation behind `Plan.reuse`: a position that is not computed keeps what spatial attention
saw of it when it last was. Computed at all positions it is `STTransformer.forward`, which a test holds it to.
"""

from torch import Tensor

from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.spatial_attention.reference import attend
from genie_rt.runtime.model.by_frame import each_frame, feed_forward
from genie_rt.runtime.model.transformer import KeysValues, OwnFrames, STBlock, STTransformer, frames_seen


def evaluate(
    transformer: STTransformer,
    x: Tensor,
    ages: Tensor,
    history: list[KeysValues] | None,
    own: OwnFrames | None = None,
    *,
    kept: list[KeysValues] | None = None,
    index: Tensor | None = None,
) -> tuple[Tensor, list[KeysValues], list[KeysValues]]:
    """All blocks at `Q` positions.

    Args:
        x: `[B, T, Q, D]`, embedded inputs of these positions.
        ages, history, own: as `STTransformer.forward` takes them; the history at these positions.
        kept: per layer keys (after their norm) and values of spatial attention at all positions,
            `[B, T, P, H, Dh]` each. Not changed.
        index: `[B or 1, Q]` int64, which positions; None, all of them, and then `kept` is not looked at.

    Returns:
        `[B, T, Q, D]` after the final norm; keys and values of temporal attention at these positions, per
        layer; and those of spatial attention at all positions, the new ones in place of the kept ones.
    """
    temporal, spatial, by_frame = [], [], own is not None
    seen = None if own is None else frames_seen(ages, own)
    for layer, block in enumerate(transformer.blocks):
        assert isinstance(block, STBlock)  # a ModuleList does not know
        attention = block.spatial
        q, k, v = attention.project(block.spatial_norm(x), by_frame)  # [B, T, Q, H, Dh]
        q, k = rms_norm(q, attention.q_norm), rms_norm(k, attention.k_norm)
        if index is not None:
            assert kept is not None
            k, v = (_replaced(old, new, index) for old, new in zip(kept[layer], (k, v), strict=True))
        frames = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        out = each_frame(attend, *frames) if by_frame else attend(*frames)
        x = x + attention.merge(out.unflatten(0, x.shape[:2]), by_frame)
        attended, keys_values = block.temporal(
            block.temporal_norm(x), ages, history[layer] if history is not None else None, seen
        )
        x = x + attended
        x = x + feed_forward(block.mlp_norm(x), block.up, block.down, by_frame)
        temporal.append(keys_values)
        spatial.append((k, v))
    return transformer.norm(x), temporal, spatial


def at_positions(x: Tensor, index: Tensor) -> Tensor:
    """`[B, T, P, ...]` at the positions `[B or 1, Q]`: `[B, T, Q, ...]`."""
    if len(index) == 1:
        return x.index_select(2, index[0])
    return x.take_along_dim(_spread(index, x), 2)


def _replaced(old: Tensor, new: Tensor, index: Tensor) -> Tensor:
    """`[B, T, P, H, Dh]` with `[B, T, Q, H, Dh]` in the places of `index`."""
    if len(index) == 1:
        return old.index_copy(2, index[0], new)
    return old.scatter(2, _spread(index, new).expand_as(new), new)


def _spread(index: Tensor, x: Tensor) -> Tensor:
    """`[B, Q]` as `[B, 1, Q, 1, ...]`, with as many axes as `x`."""
    return index.view(len(index), 1, -1, *(1 for _ in x.shape[3:]))
