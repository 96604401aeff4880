"""How a computed tensor is compared with the one that it should be."""

import torch
from torch import Tensor

from genie_rt.kernels.closeness import ROW_FACTOR, TOLERANCE, closeness

__all__ = ["TOLERANCE", "assert_close_norm"]


def assert_close_norm(
    actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None, *, factor: float = 1
) -> None:
    """Asserts that two tensors agree in shape, are finite, and differ by little, as a whole and in each row.

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
    found = closeness(actual, expected)
    assert found.whole <= tolerance, f"relative error {found.whole:.3g}, at most {tolerance:.3g} is allowed"
    assert found.worst_row <= ROW_FACTOR * tolerance, (
        f"row {found.row} is off by {found.worst_row:.3g}, at most {ROW_FACTOR * tolerance:.3g} is allowed"
    )
