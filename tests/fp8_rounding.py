"""Whether numbers were quantised to e4m3 as they should be."""

import torch
from comparator import assert_close_norm
from torch import Tensor

from genie_rt.kernels.quantise.reference import FP8_MAX, SMALLEST_AMAX

ROUNDING = 1e-5
"""What `y / scale` is off by before it is rounded, relatively: some fp32 operations."""


def assert_quantised(q: Tensor, scale: Tensor, y: Tensor) -> None:
    """Asserts that `scale` is `max |y| / 448` of each row, and `q` the nearest e4m3 number to `y / scale`.

    Triton's interpreter rounds to e4m3 in its own way, which is looser here: it may be one step off, for it
    cuts small numbers off, and it may give half of a power of 2, for it loses the carry when it rounds up to
    one. On a GPU every number has to be within half a step.

    Args:
        q: `[M, D]` float8_e4m3fn. scale: `[M, 1]` fp32.
        y: `[M, D]` fp64, from a reference that did not round.
    """
    assert q.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32
    assert q.shape == y.shape and scale.shape == (len(y), 1)
    assert_close_norm(scale, y.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_AMAX) / FP8_MAX)
    wanted = y / scale.double()
    found = q.double()  # NaN fails every comparison below
    error = (found - wanted).abs()
    magnitude = wanted.abs()
    lower = 2.0 ** magnitude.clamp_min(2.0**-20).log2().floor()  # the power of 2 below
    step = lower.clamp_min(2.0**-6) / 8  # below 2**-6 the steps stay as they are
    slack = ROUNDING * magnitude
    if q.device.type == "cuda":
        right = error <= step / 2 + slack
    else:
        rounds_up_to_power = magnitude >= 2 * lower * 15 / 16 - slack
        lost_carry = rounds_up_to_power & ((found - wanted.sign() * lower).abs() <= step)
        right = (error <= step + slack) | lost_carry
    wrong = int((~right).sum())
    assert wrong == 0, f"{wrong} of {y.numel()} numbers are not rounded as they should be"
