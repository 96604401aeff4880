"""Spatial attention equals its formula, for all positions and for some of them."""

import math

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor

from genie_rt.kernels.norm_qkv.reference import EPS
from genie_rt.kernels.spatial_attention.reference import spatial_attention


def formula(q: Tensor, k: Tensor, v: Tensor, q_weight: Tensor, k_weight: Tensor) -> Tensor:
    """One query of one head at a time."""
    out = torch.empty(q.shape, dtype=torch.float64)
    for b in range(q.shape[0]):
        for i in range(q.shape[1]):
            for h in range(q.shape[2]):
                query = q[b, i, h] / (q[b, i, h].square().mean() + EPS).sqrt() * q_weight
                scores = []
                for j in range(k.shape[1]):
                    key = k[b, j, h] / (k[b, j, h].square().mean() + EPS).sqrt() * k_weight
                    scores.append(float(query @ key) / math.sqrt(q.shape[-1]))
                total = sum(math.exp(score) for score in scores)
                out[b, i, h] = sum(math.exp(score) / total * v[b, j, h] for j, score in enumerate(scores))
    return out


def arguments(positions: int, queries: int, heads: int = 2, width: int = 6) -> tuple[Tensor, ...]:
    return (
        make_tensor(3, queries, heads, width, seed=1),
        make_tensor(3, positions, heads, width, seed=2),
        make_tensor(3, positions, heads, width, seed=3),
        make_tensor(width, seed=4),
        make_tensor(width, seed=5),
    )


@pytest.mark.parametrize(("positions", "queries"), [(9, 9), (9, 4), (1, 1), (5, 1)])
def test_attention_is_its_formula(positions: int, queries: int) -> None:
    given = arguments(positions, queries)
    assert_close_norm(spatial_attention(*given), formula(*given))


def test_a_subset_of_queries_gives_the_rows_of_the_whole() -> None:
    q, k, v, *weights = arguments(9, 9)
    chosen = torch.tensor([7, 0, 3])
    some = spatial_attention(q[:, chosen], k, v, *weights)
    assert_close_norm(some, spatial_attention(q, k, v, *weights)[:, chosen])


def test_strided_inputs_are_read_right() -> None:
    q, k, v, *weights = arguments(9, 9)
    packed = torch.stack([q, k, v], 2).unbind(2)  # as one projection to q, k and v leaves them
    assert not packed[0].is_contiguous()
    assert_close_norm(spatial_attention(*packed, *weights), spatial_attention(q, k, v, *weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes_are_close_and_stay(dtype: torch.dtype) -> None:
    given = [x.to(dtype) for x in arguments(40, 40, 4, 32)]
    out = spatial_attention(*given)
    assert out.dtype == dtype
    assert_close_norm(out, spatial_attention(*(x.double() for x in given)))


def test_the_length_of_queries_and_keys_does_not_matter() -> None:
    q, k, v, *weights = arguments(9, 9)
    error = spatial_attention(1000 * q, 50 * k, v, *weights) - spatial_attention(q, k, v, *weights)
    assert error.abs().max() < 1e-4  # what EPS is to vectors of length 1
