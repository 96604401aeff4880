"""The ST transformer is its definition; a history of keys and values stands in for the frames it is of."""

import math

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor, make_transformer, randomise
from torch import Tensor

from genie_rt.kernels.norm_qkv.reference import EPS
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.model.transformer import STBlock, STTransformer, position_grid

B, T, P = 2, 9, 5


def make_stack(seed: int = 0, **changes: int) -> STTransformer:
    stack = STTransformer(make_transformer(**changes))
    randomise(stack, seed)
    return stack.double()


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def plain_attention(x: Tensor, part: torch.nn.Module, visible: Tensor, bias: Tensor) -> Tensor:
    """Attention over the second axis of `[M, S, D]`, head by head; `bias` is `[H, S, S]`."""
    heads, width = part.heads
    out = []
    for head in range(heads):
        q, k, v = (x @ part.qkv.weight.view(3, heads, width, -1)[which, head].T for which in range(3))
        scores = norm(q, part.q_norm) @ norm(k, part.k_norm).mT / math.sqrt(width) + bias[head]
        out.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v)
    return torch.cat(out, -1) @ part.out.weight.T


def plain_block(block: STBlock, x: Tensor, window: int) -> Tensor:
    batch, frames, positions, width = x.shape
    heads = block.spatial.heads[0]
    y = norm(x, block.spatial_norm.weight).reshape(batch * frames, positions, width)
    everywhere = torch.ones(positions, positions, dtype=torch.bool)
    y = plain_attention(y, block.spatial, everywhere, torch.zeros(heads, positions, positions))
    x = x + y.view(x.shape)

    y = norm(x, block.temporal_norm.weight).transpose(1, 2).reshape(batch * positions, frames, width)
    age = torch.arange(frames)[:, None] - torch.arange(frames)
    visible = (age >= 0) & (age < window)
    bias = block.temporal.age_bias[:, age.clamp(0, window - 1)]
    y = plain_attention(y, block.temporal, visible, bias)
    x = x + y.view(batch, positions, frames, width).transpose(1, 2)

    h = norm(x, block.mlp_norm.weight) @ block.up.weight.T
    h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return x + h @ block.down.weight.T


def test_blocks_are_their_definition() -> None:
    stack, x = make_stack(), make_tensor(B, T, P, 16)
    expected = x
    for block in stack.blocks:
        expected = plain_block(block, expected, 4)
    out, _ = stack(x, causal_ages(T, 4))
    assert_close_norm(out, norm(expected, stack.norm.weight))


@pytest.mark.parametrize("window", [1, 2, 4, 12])
def test_frames_one_by_one_with_history_equal_the_whole_clip(window: int) -> None:
    stack, x = make_stack(window=window), make_tensor(B, T, P, 16)
    whole, kept = stack(x, causal_ages(T, window))
    for t in range(T):
        first = max(0, t - window + 1)
        history = [(keys[:, first:t], values[:, first:t]) for keys, values in kept]
        ages = torch.arange(t - first, -1, -1)[None, None]
        one, own = stack(x[:, t : t + 1], ages, history)
        assert_close_norm(one, whole[:, t : t + 1])
        for found, expected in zip(own, kept, strict=True):
            for ours, theirs in zip(found, expected, strict=True):
                assert_close_norm(ours, theirs[:, t : t + 1])


def test_a_frame_reaches_the_band_after_it_and_nothing_else() -> None:
    stack, x = make_stack(num_layers=2, window=3), make_tensor(B, T, P, 16)
    other = x.clone()
    other[:, 2, 0] += 1
    ages = causal_ages(T, 3)
    changed = (stack(x, ages)[0] != stack(other, ages)[0]).flatten(2).any(-1).all(0)
    reach = 2 * (3 - 1)  # layers times how far one of them sees
    assert changed.tolist() == [2 <= t <= 2 + reach for t in range(T)]


def test_where_a_clip_stands_in_time_does_not_matter() -> None:
    stack, x = make_stack(num_layers=1), make_tensor(B, T, P, 16)
    late, _ = stack(x[:, 2:], causal_ages(T - 2, 4))
    whole, _ = stack(x, causal_ages(T, 4))
    assert_close_norm(late[:, 3:], whole[:, 5:])  # from there on the same four frames are seen


def test_every_parameter_matters() -> None:
    stack = make_stack()
    out, _ = stack(make_tensor(B, T, P, 16), causal_ages(T, 4))
    (out * make_tensor(*out.shape, seed=1)).sum().backward()
    assert [name for name, p in stack.named_parameters() if not (p.grad != 0).any(-1).all()] == []


def test_a_fresh_stack_keeps_the_size_of_what_goes_through_it() -> None:
    torch.manual_seed(0)
    stack = STTransformer(
        make_transformer(num_layers=12, width=64, num_heads=4, head_width=16, mlp_width=256)
    )
    with torch.no_grad():
        x = torch.randn(1, 2, 9, 64)
        ages = causal_ages(2, 4)
        for block in stack.blocks:
            x, _ = block(x, ages, None)
    assert 0.5 < float(x.std()) < 2


@pytest.mark.parametrize("width", [16, 7, 3, 1])
def test_positions_start_out_distinct(width: int) -> None:
    table = position_grid(3, 5, width)
    assert table.shape == (15, width) and torch.isfinite(table).all()
    if width >= 7:
        assert len(table.unique(dim=0)) == 15
