"""Minimum work of an operator, whatever the implementation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The fewest operations and the fewest bytes that any implementation needs.

    Every input is read once and every output written once; what could stay on the chip counts nothing. So a
    share of the hardware's limit means something: nothing but a better algorithm beats 100%.

    Attributes:
        flops: of matrix products, a multiplication and an addition being two. What can only run on vector
            units (norms, softmax, sampling) counts nothing, for it hides behind the bytes.
        bytes: read from and written to device memory.
    """

    flops: int
    bytes: int

    def seconds(self, *, flops_per_second: float, bytes_per_second: float) -> float:
        """The roofline: whichever of the two takes longer (Williams et al. 2009)."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)

    def bound_by(self, *, flops_per_second: float, bytes_per_second: float) -> str:
        """ "flops" or "bytes", whichever decides `seconds`."""
        return "flops" if self.flops / flops_per_second > self.bytes / bytes_per_second else "bytes"
