"""How a computed tensor is compared with the one that it should be: by relative norm, from one table."""

import torch
from torch import Tensor

TOLERANCE = {
    torch.float64: 1e-12,  # 2**-53 a rounding, sums of up to 10**4 terms
    torch.float32: 1e-5,  # 2**-24 a rounding, sums of up to 10**4 terms of either sign
    torch.float16: 4e-3,  # 2**-11 a rounding, accumulated in fp32: operands and results round a few times
    torch.bfloat16: 3e-2,  # 2**-8 a rounding, as above
}
"""Largest `|actual - expected| / |expected|` over a whole tensor, by the dtype that it was computed in."""

ROW_FACTOR = 8
"""How much worse than the whole tensor its worst row may be: rows are few numbers and some are unlucky."""


def assert_close_norm(
    actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None, *, factor: float = 1
) -> None:
    """Asserts that two tensors agree in shape, are finite, and differ by little, as a whole and in each row.

    The whole tensor alone would let a kernel pass that forgets one row in a million; elements alone would
    need a tolerance for the smallest of them.

    Args:
        actual: floating point, any shape.
        expected: from a reference in at least fp32.
        dtype: which entry of `TOLERANCE`; that of `actual` where not given.
        factor: multiplies the tolerance; whoever gives it says why.
    """
    assert actual.shape == expected.shape, (
        f"expected shape {list(expected.shape)}, found {list(actual.shape)}"
    )
    for name, tensor in (("expected", expected), ("actual", actual)):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        assert bad == 0, f"{name}: {bad} of {tensor.numel()} numbers are NaN or Inf"
    tolerance = TOLERANCE[dtype or actual.dtype] * factor
    wanted = torch.atleast_1d(expected.double())
    error = torch.atleast_1d(actual.double()) - wanted
    norm = wanted.norm()
    assert error.norm() <= tolerance * norm, (
        f"relative error {float(error.norm() / norm):.3g}, at most {tolerance:.3g} is allowed"
    )
    rows = wanted.norm(dim=-1)
    scale = torch.maximum(
        rows, rows.square().mean().sqrt()
    )  # a row of nearly nothing counts as an average one
    excess = error.norm(dim=-1) - ROW_FACTOR * tolerance * scale
    worst = int(excess.argmax())
    assert excess.max() <= 0, (
        f"row {worst} is off by {float((error.norm(dim=-1) / scale).flatten()[worst]):.3g}, "
        f"at most {ROW_FACTOR * tolerance:.3g} is allowed"
    )
