"""Lower bound on each operator's run time, from its cost and a device's ceilings; needs no GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from genie_rt.kernels.catalogue import OPS, all_cases
from genie_rt.kernels.cost import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Lower bound on one case's run time on one device.

    Attributes:
        least_us: no implementation is faster there.
        bound_by: "flops" or "bytes".
    """

    op: str
    case: str
    cost: Cost
    least_us: float
    bound_by: str


def case_costs(ops: Sequence[str] = OPS, dtype: torch.dtype = torch.bfloat16) -> list[tuple[str, str, Cost]]:
    """List operator, case and cost of all cases, set up with tensors that take no memory."""
    with FakeTensorMode():
        return [(case.op, case.name, case.cost) for case in all_cases(ops, dtype, torch.device("cpu"))]


def bounds(
    costs: Sequence[tuple[str, str, Cost]], *, bytes_per_second: float, flops_per_second: float
) -> list[Bound]:
    """Compute the roofline bound of each case."""
    rates: Mapping[str, float] = {
        "bytes_per_second": bytes_per_second,
        "flops_per_second": flops_per_second,
    }
    return [
        Bound(
            op=op,
            case=case,
            cost=cost,
            least_us=1e6 * cost.seconds(**rates),
            bound_by=cost.bound_by(**rates),
        )
        for op, case, cost in costs
    ]
