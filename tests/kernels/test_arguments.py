"""What launchers refuse before anything is launched."""

import pytest
import torch

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.kernels.arguments import check_apart, check_head_width, check_range, check_tensor

FLOAT = (torch.float32,)


def test_a_tensor_that_fits_passes_through() -> None:
    x = torch.zeros(2, 3)
    assert check_tensor("x", x, (2, None), FLOAT) is x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.float16), UnsupportedError, "x: expected float32, found float16"),
        (torch.zeros(2, 4), InputError, r"x: expected shape \[2, 3\], found \[2, 4\]"),
        (torch.zeros(2, 3, 1), InputError, r"expected shape \[2, 3\], found \[2, 3, 1\]"),
        (torch.zeros(3, 2).T, InputError, r"contiguous.*strides \(1, 2\)"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(x: torch.Tensor, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        check_tensor("x", x, (2, 3), FLOAT)


def test_a_tensor_on_another_device_is_refused() -> None:
    with pytest.raises(InputError, match="expected a tensor on meta, found one on cpu"):
        check_tensor("x", torch.zeros(2), (2,), FLOAT, like=torch.zeros(1, device="meta"))


def test_an_output_may_not_share_memory_with_an_input() -> None:
    store = torch.zeros(10)
    check_apart(out=store[:5], x=store[5:], nothing=None, empty=store[:0])
    for x in (store[4:], store, store[::9]):
        with pytest.raises(InputError, match="out: expected memory of its own, found it overlaps that of x"):
            check_apart(out=store[:5], x=x)


def test_inputs_may_share_memory_with_each_other() -> None:
    store = torch.zeros(4)
    check_apart(out=torch.zeros(4), x=store, y=store)
    check_apart(out=store[:0], x=store, y=store)
    check_apart(out=None, x=store, y=store)


def test_sizes_are_bounded() -> None:
    assert check_range("P", 4096, 1, 4096) == 4096
    with pytest.raises(UnsupportedError, match="P: expected 1 to 4096, found 0"):
        check_range("P", 0, 1, 4096)
    assert check_head_width(64) == 64
    with pytest.raises(UnsupportedError, match="head width: expected one of 32, 64, 128, found 48"):
        check_head_width(48)
