"""Rows of numbers in 8 bits with a scale each, and products of such rows as numbers again."""

import torch
from torch import Tensor

FP8_MAX = 448.0
"""The largest number of e4m3."""

INT8_MAX = 127.0
"""The largest number of int8; -128 is not used, so that a row and its negative look alike."""

SMALLEST_AMAX = 1e-30
"""Lower bound on a row's largest magnitude when it is quantised, so that rows of zeros have a scale."""


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """`round(x / scale)` with `scale = max |x| / 448` of each row, so that its largest number becomes 448.

    Args:
        x: `[..., D]`, any floating dtype; computed in at least fp32.

    Returns:
        `[..., D]` float8_e4m3fn, rounded to nearest even, and the scales, `[..., 1]` fp32: what
        `torch._scaled_mm` takes as a matrix with row-wise scales.
    """
    wide, scale = _scaled(x, FP8_MAX)
    return (wide / scale).to(torch.float8_e4m3fn), scale.float()


def quantise_rows_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """`round(x / scale)` with `scale = max |x| / 127` of each row.

    Integers cannot say NaN, so the scale does: that of a row with NaN or Inf is not finite, and nor is
    whatever is computed from the row.

    Args:
        x: as `quantise_rows` takes it.

    Returns:
        `[..., D]` int8 from -127 to 127, rounded to nearest even, and the scales, `[..., 1]` fp32.
    """
    wide, scale = _scaled(x, INT8_MAX)
    return (wide / scale).round().to(torch.int8), scale.float()


def dequantise_product(product: Tensor, row_scale: Tensor, column_scale: Tensor, out: Tensor) -> None:
    """`out = product * row_scale * column_scale`, in fp32 and rounded once: a product of int8 as numbers.

    Args:
        product: `[M, N]` int32.
        row_scale: `[M, 1]` fp32, of the rows of the product's first factor.
        column_scale: `[1, N]` fp32, of the columns of its second one.
        out: `[M, N]`, any floating dtype; written to.
    """
    out.copy_(product.float() * row_scale * column_scale)


def _scaled(x: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """The rows in at least fp32, and what to divide them by."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return wide, wide.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_AMAX) / largest
