"""Operator at one shape, set up in the same way for its test and its benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genie_rt.kernels.cost import Cost

Outputs = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A call of an operator on seeded random inputs.

    Attributes:
        op: such as "temporal_attention". name: what sets the case apart, such as "genie-10b T=2".
        dtype: of the activations.
        run: launches the kernels into outputs that exist already, and returns these.
        reference: the outputs from the same inputs as `kernels/<op>/reference.py` gives them, computed in at
            least fp32; on the inputs' device.
        baselines: by name the strongest library calls for the same job.
        cost: the least work that it takes.
        exact: for each output whether it has to equal the reference bit for bit (tokens, pixels).
    """

    op: str
    name: str
    dtype: torch.dtype
    run: Callable[[], Outputs]
    reference: Callable[[], Outputs]
    baselines: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    cost: Cost
    exact: tuple[bool, ...] = ()
