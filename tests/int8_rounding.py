"""Whether numbers were quantised to int8 as they should be."""

from comparator import assert_close_norm
from torch import Tensor, float32, int8

from genie_rt.kernels.quantise.reference import INT8_MAX, SMALLEST_AMAX

ROUNDING = 1e-5
"""What `y / scale` is off by before it is rounded, relatively: some fp32 operations."""


def assert_quantised_int8(q: Tensor, scale: Tensor, y: Tensor) -> None:
    """Asserts that `scale` is `max |y| / 127` of each row, and `q` the nearest integer to `y / scale`.

    Triton's interpreter rounds integers as a GPU does, so nothing is looser there.

    Args:
        q: `[M, D]` int8. scale: `[M, 1]` fp32.
        y: `[M, D]` fp64, from a reference that did not round.
    """
    assert q.dtype == int8 and scale.dtype == float32
    assert q.shape == y.shape and scale.shape == (len(y), 1)
    assert_close_norm(scale, y.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_AMAX) / INT8_MAX)
    wanted = y / scale.double()
    error = (q.double() - wanted).abs()
    right = (error <= 0.5 + ROUNDING * wanted.abs()) & (q.abs() <= INT8_MAX) & (q != -128)
    wrong = int((~right).sum())
    assert wrong == 0, f"{wrong} of {y.numel()} numbers are not rounded as they should be"
