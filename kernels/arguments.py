"""Argument checks that launchers make before anything is launched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.errors import InputError, UnsupportedError

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
"""Number formats of activations that the kernels take."""

HEAD_WIDTHS = (32, 64, 128)
MAX_POSITIONS = 4096


def check_tensor(
    name: str,
    x: Tensor,
    shape: Sequence[int | None],
    dtypes: Sequence[torch.dtype],
    *,
    like: Tensor | None = None,
    contiguous: bool = True,
) -> Tensor:
    """`x`, if it is what a kernel can read.

    Args:
        shape: the size of every axis, None where any will do.
        like: a tensor on the device that `x` has to be on.

    Raises:
        InputError: its rank, a size, its device or its layout is another one.
        UnsupportedError: the kernels have no such dtype.
    """
    if x.dtype not in dtypes:
        raise UnsupportedError(
            f"{name}: expected {' or '.join(_short(dtype) for dtype in dtypes)}, found {_short(x.dtype)}"
        )
    if x.ndim != len(shape) or any(
        want is not None and size != want for size, want in zip(x.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"{name}: expected shape [{wanted}], found {list(x.shape)}")
    if like is not None and x.device != like.device:
        raise InputError(f"{name}: expected a tensor on {like.device}, found one on {x.device}")
    if contiguous and not x.is_contiguous():
        raise InputError(
            f"{name}: expected a contiguous tensor, found strides {x.stride()}; call contiguous()"
        )
    return x


def check_apart(**tensors: Tensor | None) -> None:
    """Raise `InputError` if an output shares memory with any other argument: `out` comes first.

    The bytes from a tensor's first to its last element count, so two interleaved views are refused as well.
    """
    (out, first), *others = tensors.items()
    if first is None or not first.nbytes:
        return
    start, end = first.data_ptr(), first.data_ptr() + _reach(first)
    for name, x in others:
        if x is not None and x.nbytes and start < x.data_ptr() + _reach(x) and x.data_ptr() < end:
            raise InputError(f"{out}: expected memory of its own, found it overlaps that of {name}")


def check_range(name: str, value: int, lowest: int, highest: int) -> int:
    """`value`, if it lies within the sizes that a kernel was made for. Raises `UnsupportedError`."""
    if not lowest <= value <= highest:
        raise UnsupportedError(f"{name}: expected {lowest} to {highest}, found {value}")
    return value


def check_head_width(head_width: int) -> int:
    """`Dh`, if the kernels were made for it. Raises `UnsupportedError`."""
    if head_width not in HEAD_WIDTHS:
        widths = ", ".join(map(str, HEAD_WIDTHS))
        raise UnsupportedError(f"head width: expected one of {widths}, found {head_width}")
    return head_width


def _reach(x: Tensor) -> int:
    """Bytes from the first of a tensor to its last; the sum over axes is slow, and most have no gaps."""
    if x.is_contiguous():
        return x.nbytes
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return (last + 1) * x.element_size()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
