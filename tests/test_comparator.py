"""The comparator lets rounding pass and nothing else: a kernel that does nothing must not pass its tests."""

from collections.abc import Callable

import pytest
import torch
from comparator import TOLERANCE, assert_close_norm
from torch import Tensor

EXPECTED = torch.randn(200, 50, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def one_row_missing(x: Tensor) -> Tensor:
    x = x.clone()
    x[-1, -1] = 0
    return x


def one_element(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[3, 4, 5] = value
    return x


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "doubled": lambda x: 2 * x,
    "negated": lambda x: -x,
    "shuffled": lambda x: x.flatten()[torch.randperm(x.numel(), generator=torch.Generator().manual_seed(1))]
    .view_as(x),
    "shifted by a row": lambda x: x.roll(1, 1),
    "one row missing": one_row_missing,
    "NaN": lambda x: torch.full_like(x, torch.nan),
    "one NaN": lambda x: one_element(x, torch.nan),
    "one Inf": lambda x: one_element(x, torch.inf),
    "broadcast": lambda x: x[:1],
}  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_outputs_fail(dtype: torch.dtype, wrong: str) -> None:
    with pytest.raises(AssertionError):
        assert_close_norm(WRONG[wrong](EXPECTED).to(dtype), EXPECTED)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rounding_passes_and_ten_times_the_tolerance_does_not(dtype: torch.dtype) -> None:
    assert_close_norm(EXPECTED.to(dtype), EXPECTED)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close_norm(EXPECTED * (1 + 10 * TOLERANCE[dtype]), EXPECTED, dtype)


def test_nan_in_the_yardstick_fails() -> None:
    broken = torch.full_like(EXPECTED, torch.nan)
    with pytest.raises(AssertionError, match="expected: 160000 of 160000"):
        assert_close_norm(broken, broken)


def test_zeros_are_only_close_to_zeros() -> None:
    nothing = torch.zeros(3, 4)
    assert_close_norm(nothing, nothing)
    with pytest.raises(AssertionError):
        assert_close_norm(nothing + 1e-30, nothing)


def test_scalars_compare() -> None:
    assert_close_norm(torch.tensor(2.0), torch.tensor(2.0))
    with pytest.raises(AssertionError):
        assert_close_norm(torch.tensor(2.1), torch.tensor(2.0))
