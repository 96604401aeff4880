"""Quantised rows are rounded to the nearest number that there is, and products of them find back."""

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor

from genie_rt.kernels.quantise.reference import (
    FP8_MAX,
    INT8_MAX,
    dequantise_product,
    quantise_rows,
    quantise_rows_int8,
)

SIZES = torch.tensor([1e-6, 1e-3, 1.0, 1e3, 0.0])[:, None]


def test_quantised_rows_reach_the_largest_number_and_are_half_a_step_off_at_most() -> None:
    y = make_tensor(5, 64, dtype=torch.float32) * SIZES
    q, scale = quantise_rows(y)
    assert q.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32 and scale.shape == (5, 1)
    assert q[:4].float().abs().amax(-1).tolist() == [FP8_MAX] * 4
    error = (q.float() * scale - y).abs()
    step = torch.maximum(y.abs() / 8, scale * 2.0**-9)  # 3 bits after the leading one; below 2**-6 fewer
    assert (error <= step / 2 * (1 + 1e-5)).all()
    assert not q[4].float().any() and scale[4] > 0


def test_integers_reach_127_and_are_half_a_step_off_at_most() -> None:
    y = make_tensor(5, 64, dtype=torch.float32) * SIZES
    q, scale = quantise_rows_int8(y)
    assert q.dtype == torch.int8 and scale.dtype == torch.float32 and scale.shape == (5, 1)
    assert q[:4].int().abs().amax(-1).tolist() == [INT8_MAX] * 4
    assert ((q.float() * scale - y).abs() <= scale / 2 * (1 + 1e-5)).all()
    assert not q[4].any() and scale[4] > 0


def test_integers_round_to_even_and_are_symmetric() -> None:
    y = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]])  # the scale is 1
    q, scale = quantise_rows_int8(y)
    assert scale.item() == 1 and q.tolist() == [[127, 0, 2, 2, 0, -2, -2, 126]]
    assert torch.equal(quantise_rows_int8(-y)[0], -q)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_rows_are_quantised_as_the_numbers_that_they_are(dtype: torch.dtype) -> None:
    x = make_tensor(7, 33, dtype=dtype)
    for quantise in (quantise_rows, quantise_rows_int8):
        for found, expected in zip(quantise(x), quantise(x.float()), strict=True):
            assert torch.equal(found.float(), expected.float())


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_row_and_shows(fault: float) -> None:
    x = make_tensor(4, 16, dtype=torch.float32)
    x[2, 5] = fault
    q, scale = quantise_rows_int8(x)
    assert scale.isfinite().flatten().tolist() == [True, True, False, True]
    out = torch.empty(4, 4)
    dequantise_product(q.int()[:, :4], scale, torch.ones(1, 4), out)
    assert out.isfinite().all(-1).tolist() == [True, True, False, True]


def test_a_product_is_scaled_by_row_and_by_column() -> None:
    product = torch.tensor([[2, -3, 2**30], [0, 5, -7]], dtype=torch.int32)
    row, column = torch.tensor([[0.5], [4.0]]), torch.tensor([[1.0, 10.0, 2.0**-20]])
    out = torch.empty(2, 3)
    dequantise_product(product, row, column, out)
    assert out.tolist() == [[1.0, -15.0, 512.0], [0.0, 200.0, -28 * 2.0**-20]]


def test_products_in_8_bits_are_near_the_product() -> None:
    a, b = make_tensor(9, 512), make_tensor(11, 512, seed=1)
    (q_a, scale_a), (q_b, scale_b) = quantise_rows_int8(a), quantise_rows_int8(b)
    out = torch.empty(9, 11, dtype=torch.bfloat16)
    dequantise_product(q_a.int() @ q_b.int().T, scale_a, scale_b.T.contiguous(), out)
    assert_close_norm(out, a @ b.T)  # rows of 3 sigma in 127 steps: 0.7% each, beside bf16's own rounding
