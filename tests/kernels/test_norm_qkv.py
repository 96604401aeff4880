"""RMSNorm equals its formula, and is accumulated in fp32."""

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor

from genie_rt.kernels.norm_qkv.reference import EPS, norm_qkv, norm_qkv_fp8, norm_qkv_int8, rms_norm
from genie_rt.kernels.quantise.reference import quantise_rows, quantise_rows_int8


@pytest.mark.parametrize("shape", [(2, 3, 16), (5, 7), (1, 1), (4, 33)])
def test_rms_norm_is_its_formula(shape: tuple[int, ...]) -> None:
    x, weight = make_tensor(*shape), make_tensor(shape[-1], seed=1)
    expected = x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight
    assert_close_norm(rms_norm(x, weight), expected)


def test_rows_of_nothing_give_nothing() -> None:
    assert torch.equal(rms_norm(torch.zeros(2, 8), torch.ones(8)), torch.zeros(2, 8))


def test_epsilon_counts_where_a_row_is_small() -> None:
    x = torch.full((1, 4), 1e-3, dtype=torch.float64)  # mean square equals EPS
    assert_close_norm(rms_norm(x, torch.ones(4)), torch.full((1, 4), 0.5**0.5, dtype=torch.float64))


def test_strided_rows_are_read_right() -> None:
    x, weight = make_tensor(8, 6, 2), make_tensor(8, seed=1)
    turned = x.permute(2, 1, 0)
    assert not turned.is_contiguous()
    assert_close_norm(rms_norm(turned, weight), rms_norm(turned.contiguous(), weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_inputs_keep_their_dtype_and_round_once(dtype: torch.dtype) -> None:
    x, weight = make_tensor(64, 512, dtype=dtype), make_tensor(512, seed=1, dtype=dtype)
    out = rms_norm(x, weight)
    assert out.dtype == dtype
    assert_close_norm(out, rms_norm(x.double(), weight.double()))
    if dtype != torch.float32:  # one rounding to nearest, which a sum in 8 or 11 bits would miss by far
        assert_close_norm(out.float(), rms_norm(x.float(), weight.float()).to(dtype).float(), torch.float32)


def test_squares_beyond_fp16_do_not_overflow() -> None:
    x = torch.full((1, 16), 6e4, dtype=torch.float16)
    assert_close_norm(rms_norm(x, torch.ones(16, dtype=torch.float16)), torch.ones(1, 16))


def test_the_residual_is_added_before_the_norm_and_kept() -> None:
    x, delta, weight = make_tensor(3, 8), make_tensor(3, 8, seed=1), make_tensor(8, seed=2)
    total = x + delta
    y = norm_qkv(x, delta, weight)
    assert torch.equal(x, total)
    assert torch.equal(y, rms_norm(total, weight))
    assert torch.equal(norm_qkv(x, None, weight), y) and torch.equal(x, total)


def test_the_quantised_norm_is_not_rounded_in_between() -> None:
    x, weight = make_tensor(4, 32, dtype=torch.bfloat16), make_tensor(32, seed=1, dtype=torch.bfloat16)
    norm = rms_norm((2 * x).float(), weight)
    for quantised, quantise in ((norm_qkv_fp8, quantise_rows), (norm_qkv_int8, quantise_rows_int8)):
        total = x.clone()
        found, expected = quantised(total, x, weight), quantise(norm)
        assert torch.equal(total, 2 * x)
        assert torch.equal(found[0].float(), expected[0].float()) and torch.equal(found[1], expected[1])
