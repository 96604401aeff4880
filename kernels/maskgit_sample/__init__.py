"""`genie_rt::maskgit_sample`: one decision of a pass, in place. See `reference.decide` for its arguments."""

from typing import Any

from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import LIKELY, decide
from genie_rt.kernels.registration import register


def _decide(*arguments: Any) -> None:
    decide(*(arguments[:11] + arguments[12:]))  # it has no use for scratch


@register(reference=_decide, launcher="maskgit_sample.kernel", mutates=("tokens", "passes", "scratch"))
def maskgit_sample(
    logits: Tensor,
    tokens: Tensor,
    seeds: Tensor,
    frames: Tensor,
    pass_index: int,
    temperature: float,
    places: Tensor | None = None,
    targets: Tensor | None = None,
    noise: Tensor | None = None,
    passes: Tensor | None = None,
    threshold: float | None = None,
    scratch: Tensor | None = None,
    ranking: str = LIKELY,
) -> None:
    """`decide`; with `scratch`, int32 of `4 B n` elements, nothing is allocated on a CUDA device."""
