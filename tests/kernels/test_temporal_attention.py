"""Temporal attention equals its formula; only ages decide what is seen."""

import math

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.temporal_attention.reference import (
    causal_ages,
    indexable,
    newest_attention,
    paged_temporal_attention,
    temporal_attention,
    to_page,
)

W = 4
FP8 = torch.float8_e4m3fn


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


# A frame alone.


@pytest.mark.parametrize("keys", [1, 4])
def test_a_single_frame_is_its_formula(keys: int) -> None:
    q, k, v, bias = arguments(1, keys, batch=3)
    ages = torch.tensor([[0, 1, 2, 3], [0, 1, -1, -1], [0, -1, 2, 3]])[:, :keys]
    assert_close_norm(
        newest_attention(q[:, 0], k, v, bias, ages), formula(q, k, v, bias, ages[:, None])[:, 0]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [4, 16, 40])
def test_unseen_keys_after_the_oldest_change_no_bit_of_a_frame(dtype: torch.dtype, window: int) -> None:
    q, k, v = (make_tensor(3, window + 7, 5, 2, 12, seed=i).to(dtype) for i in range(3))
    bias = make_tensor(2, window, seed=4).to(dtype)
    ages = torch.arange(window + 7)
    ages = torch.where(ages < window, ages, -1)[None]
    alone = newest_attention(q[:1, 0], k[:1, :window], v[:1, :window], bias, ages[:, :window])
    assert torch.equal(newest_attention(q[:, 0], k, v, bias, ages)[:1], alone)


@pytest.mark.parametrize("of_a_clip", [False, True])
def test_attention_in_bfloat16_rounds_once(of_a_clip: bool) -> None:
    q, k, v = (make_tensor(2, 6, 3, 2, 32, seed=i).bfloat16() for i in range(3))
    bias = make_tensor(2, 6, seed=4).bfloat16()
    ages = causal_ages(6, 6)
    wide = temporal_attention(*(x.double() for x in (q, k, v, bias)), ages)
    if of_a_clip:
        out = temporal_attention(q, k, v, bias, ages)
    else:
        wide, out = wide[:, 5], newest_attention(q[:, 5], k.flip(1), v.flip(1), bias, ages[:, 5].flip(1))
    assert ((out.double() - wide).abs() <= 2**-8 * wide.abs() + 1e-6).all()  # half a unit in the last place


# Through pages.


def paged_arguments(batch: int, frames: int, page_dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A clip's projections, weights, and pages that nothing was written to."""
    positions, layers = 3, 2
    return {
        "qkv": make_tensor(batch, frames, positions, 3, 2, 6, seed=1),
        "q_weight": 1 + 0.3 * make_tensor(6, seed=2),
        "k_weight": 1 + 0.3 * make_tensor(6, seed=3),
        "bias": make_tensor(2, W, seed=4),
        "pages": torch.full((batch * frames, layers, 2, positions, 2, 6), torch.nan, dtype=page_dtype),
    }


def whole_clip(given: dict[str, Tensor]) -> Tensor:
    q, k, v = given["qkv"].unbind(3)
    q, k = rms_norm(q, given["q_weight"]), rms_norm(k, given["k_weight"])
    k, v = (to_page(x, given["pages"].dtype).to(q.dtype) for x in (k, v))
    return temporal_attention(q, k, v, given["bias"], causal_ages(q.shape[1], W))


def pages_of(num_frames: int, frames: int, batch: int = 2) -> Tensor:
    """Table of the rows' newest `frames` of `num_frames`: row `b` keeps frame `t` in page `batch * t + b`."""
    frame = num_frames - 1 - torch.arange(W - 1 + frames)
    row = torch.arange(batch)[:, None]
    return torch.where(frame >= 0, batch * frame + row, -1).to(torch.int32)


@pytest.mark.parametrize("page_dtype", [torch.float64, FP8])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_rollout_through_pages_equals_the_whole_clip(frames: int, page_dtype: torch.dtype) -> None:
    given = paged_arguments(2, 9, page_dtype)
    expected, qkv = whole_clip(given), given.pop("qkv")
    for t in range(0, 9, frames):
        part = qkv[:, t : t + frames]
        table = pages_of(min(t + frames, 9), part.shape[1])
        out = paged_temporal_attention(part, **given, table=table, layer=1)
        assert_close_norm(out, expected[:, t : t + frames])
    assert torch.isnan(given["pages"][:, 0]).all()  # the other layer


@pytest.mark.parametrize("page_dtype", [torch.float64, FP8])
def test_pages_are_written_only_where_the_table_says(page_dtype: torch.dtype) -> None:
    given = paged_arguments(2, 2, page_dtype)
    table = pages_of(2, 2)
    table[0, 0], table[1, 1] = -1, 4  # 4 is one too many
    paged_temporal_attention(**given, table=table, layer=0)
    _, k, v = given["qkv"].unbind(3)
    expected = to_page(torch.stack([rms_norm(k, given["k_weight"]), v], 2), page_dtype)  # [B, T, 2, P, H, Dh]
    written = given["pages"][:, 0]
    for page, there in ((written[0], expected[0, 0]), (written[3], expected[1, 1])):
        assert torch.equal(indexable(page), indexable(there))
    assert torch.isnan(written[1:3]).all() and torch.isnan(given["pages"][:, 1]).all()


def test_numbers_that_are_no_page_are_frames_that_do_not_exist() -> None:
    given = paged_arguments(1, 1)
    given["pages"] = make_tensor(5, 2, 2, 3, 2, 6, seed=5)
    given["pages"][0] = torch.nan
    table = torch.tensor([[-1, 3, -1, 4]], dtype=torch.int32)
    expected = paged_temporal_attention(**given, table=table, layer=0)
    assert torch.isfinite(expected).all()
    for nothing in (-2, 5, 2**31 - 1, -(2**31)):
        other = torch.where(table == -1, nothing, table)
        assert torch.equal(paged_temporal_attention(**given, table=other, layer=0), expected)


@pytest.mark.parametrize("index", [[[2, 0]], [[2, 0], [1, 2]]])
def test_some_positions_see_their_own_past(index: list[list[int]]) -> None:
    given = paged_arguments(2, 1)
    given["pages"] = make_tensor(8, 2, 2, 3, 2, 6, seed=5)
    table = torch.tensor([[-1, 1, 2, 3], [6, 4, 5, -1]], dtype=torch.int32)
    before = given["pages"].clone()
    expected = paged_temporal_attention(**given, table=table, layer=1)
    whole, given["pages"] = given["pages"], before
    places = torch.tensor(index).expand(2, -1)
    row = torch.arange(2)[:, None]
    given["qkv"] = given["qkv"][row, 0, places][:, None]
    out = paged_temporal_attention(**given, table=table, layer=1, index=torch.tensor(index).int())
    assert_close_norm(out, expected[row, 0, places][:, None])
    written = torch.zeros(3, dtype=torch.bool)
    written[places[1]] = True
    assert torch.equal(before[6, 1][:, written], whole[6, 1][:, written])
    assert not torch.equal(before[6, 1][:, ~written], whole[6, 1][:, ~written])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_what_is_beyond_fp8_becomes_its_largest_number(dtype: torch.dtype) -> None:
    x = torch.tensor([448.0, 464, 465, 2e4, torch.inf, -500, -torch.inf, 432, 2.0**-10, -0.0], dtype=dtype)
    page = to_page(x, FP8)
    assert page.dtype == FP8
    assert page.double().tolist() == [448, 448, 448, 448, 448, -448, -448, 448, 0, 0]  # ties to even
    assert to_page(torch.tensor([torch.nan], dtype=dtype), FP8).double().isnan().all()
    assert to_page(x, dtype) is x


def test_keys_are_rounded_to_fp8_only_once() -> None:
    """Not to the dtype of the rest before, which is another number now and then."""
    given = paged_arguments(4, 1, FP8)
    given |= {name: given[name].bfloat16() for name in ("qkv", "q_weight", "k_weight", "bias")}
    table = torch.full((4, W), -1, dtype=torch.int32)
    table[:, 0] = torch.arange(4)
    paged_temporal_attention(**given, table=table, layer=0)
    k = rms_norm(given["qkv"][:, 0, :, 1].float(), given["k_weight"])
    written = indexable(given["pages"][:, 0, 0])
    assert torch.equal(written, indexable(to_page(k, FP8)))
    assert not torch.equal(written, indexable(to_page(k.bfloat16(), FP8)))


def test_pages_of_another_dtype_are_refused_untouched() -> None:
    for dtype in (torch.float32, torch.float8_e5m2):
        given = paged_arguments(1, 1, dtype)
        with pytest.raises(UnsupportedError, match="pages: expected float64 or float8_e4m3fn"):
            paged_temporal_attention(**given, table=pages_of(1, 1, 1), layer=0)
        assert given["pages"].double().isnan().all()
