"""The `cuda` back end under `genie-rt verify`: within its bounds, and beyond them where it is broken.

With the operators' references on a CPU; on a GPU `genie-rt verify demo --device cuda` does the same.
"""

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from genie_rt.bench.parity import verify
from genie_rt.bench.parity.verify import Parity, Variant, compare
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.inputs import Inputs, RowInputs
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.bundle import load_weights, open_bundle
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CPU = torch.device("cpu")
PLAN = Plan(passes=2)
DTYPES = ["float32", "float16", "bfloat16", "fp8", "int8"]


@cache
def yardstick() -> World:
    """`demo-logged`: it leans on the order of the past so much that fp8 shows a mistake in it."""
    return World.load("demo-logged", backend="reference", dtype="float64")


def make_world(dtype: str) -> World:
    bundle = open_bundle("demo-logged")
    with torch.device("meta"):
        model = WorldModel(bundle.config)
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return World(bundle, CudaBackend(model, Precision.of(dtype), CPU), dtype)


def judged(dtype: str, *, other_plans: bool = False) -> Parity:
    """`other_plans`: whether the bundle's other plans are played too, which takes long in float64."""
    variant = Variant(backend="cuda", dtype=dtype, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        if not other_plans:
            patch.setattr(verify, "OTHER_FRAMES", 0)
        return compare(yardstick(), make_world(dtype), variant, plan=PLAN, frames=4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_format_is_within_its_bound(dtype: str) -> None:
    found = judged(dtype, other_plans=dtype == "float32")
    assert found.failure is None
    assert found.tokens >= 4 * 2 * 256


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "float32"])
def test_every_number_format_is_within_its_bound_in_the_other_plans_too(dtype: str) -> None:
    assert judged(dtype, other_plans=True).failure is None


def wrong_age(table: Tensor) -> None:
    """The two newest frames of the past change places."""
    table[:, 1:3] = table[:, 1:3].flip(1)


def stale_page(table: Tensor) -> None:
    """The newest frame of the past is taken to be the one before it."""
    table[:, 1] = table[:, 2]


@pytest.mark.parametrize("mutation", [wrong_age, stale_page])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "fp8"])
def test_a_broken_past_is_beyond_it(
    dtype: str, mutation: Callable[[Tensor], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Inputs.send

    def broken(inputs: Inputs, rows: Sequence[RowInputs]) -> None:
        send(inputs, rows)
        mutation(inputs.later)

    monkeypatch.setattr(Inputs, "send", broken)
    assert judged(dtype).failure is not None
