"""Temporal attention equals its formula; only ages decide what is seen."""

import math

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor

from genie_rt.kernels.temporal_attention.reference import causal_ages, temporal_attention

W = 4


def formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ages: Tensor) -> Tensor:
    """One query of one position and head at a time."""
    out = torch.empty(q.shape, dtype=torch.float64)
    batch, frames, positions, heads, width = q.shape
    for b in range(batch):
        seen = ages[b if ages.shape[0] > 1 else 0].tolist()
        for i in range(frames):
            for p in range(positions):
                for h in range(heads):
                    weights = {}
                    for j, age in enumerate(seen[i]):
                        if age >= 0:
                            score = float(q[b, i, p, h] @ k[b, j, p, h]) / math.sqrt(width)
                            weights[j] = math.exp(score + float(bias[h, age]))
                    total = sum(weights.values())
                    out[b, i, p, h] = sum(w / total * v[b, j, p, h] for j, w in weights.items())
    return out


def arguments(queries: int, keys: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        make_tensor(batch, queries, 3, 2, 6, seed=1),
        make_tensor(batch, keys, 3, 2, 6, seed=2),
        make_tensor(batch, keys, 3, 2, 6, seed=3),
        make_tensor(2, W, seed=4),
    )


@pytest.mark.parametrize("frames", [1, 3, 4, 9])
def test_a_whole_clip_is_its_formula(frames: int) -> None:
    q, k, v, bias = arguments(frames, frames)
    ages = causal_ages(frames, W)
    assert_close_norm(temporal_attention(q, k, v, bias, ages), formula(q, k, v, bias, ages))


def test_rows_of_different_history_are_their_formula() -> None:
    q, k, v, bias = arguments(1, 4, batch=3)
    ages = torch.tensor([[[1, 2, 3, 0]], [[1, -1, -1, 0]], [[-1, -1, -1, 0]]])
    assert_close_norm(temporal_attention(q, k, v, bias, ages), formula(q, k, v, bias, ages))


def test_the_place_of_a_key_does_not_matter_only_its_age() -> None:
    q, k, v, bias = arguments(1, 4)
    ages = torch.tensor([[[1, 2, 3, 0]]])
    order = torch.tensor([2, 3, 0, 1])
    shuffled = temporal_attention(q, k[:, order], v[:, order], bias, ages[..., order])
    assert_close_norm(shuffled, temporal_attention(q, k, v, bias, ages))


def test_unseen_keys_do_not_matter_at_all() -> None:
    q, k, v, bias = arguments(1, 4)
    ages = torch.tensor([[[1, -1, -1, 0]]])
    other_k, other_v = k.clone(), v.clone()
    other_k[:, 1:3], other_v[:, 1:3] = 1e6, -1e6
    assert torch.equal(
        temporal_attention(q, k, v, bias, ages), temporal_attention(q, other_k, other_v, bias, ages)
    )


def test_every_age_has_its_own_bias() -> None:
    q, k, v, bias = arguments(9, 9)
    ages = causal_ages(9, W)
    for age in range(W):
        other = bias.clone()
        other[:, age] += 1
        changed = temporal_attention(q, k, v, other, ages) != temporal_attention(q, k, v, bias, ages)
        has_company = torch.arange(9) >= max(age, 1)  # a frame on its own sees itself, whatever the bias
        assert torch.equal(changed.flatten(2).any(-1).all(0), has_company)


@pytest.mark.parametrize(("frames", "window"), [(1, 1), (5, 1), (5, 3), (3, 8)])
def test_ages_are_a_causal_band(frames: int, window: int) -> None:
    expected = [
        [i - j if 0 <= i - j < window else -1 for j in range(frames)] for i in range(frames)
    ]  # fmt: skip
    assert causal_ages(frames, window).tolist() == [expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes_are_close_and_stay(dtype: torch.dtype) -> None:
    given = [x.to(dtype) for x in arguments(9, 9)]
    out = temporal_attention(*given, causal_ages(9, W))
    assert out.dtype == dtype
    assert_close_norm(out, temporal_attention(*(x.double() for x in given), causal_ages(9, W)))
