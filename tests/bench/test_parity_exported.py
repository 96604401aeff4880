"""The demo's graphs under `genie-rt verify`: within its bounds, and beyond them where a past is broken."""

from collections.abc import Callable
from functools import cache

import pytest
from torch import Tensor

from genie_rt.bench.parity import Parity, Variant, compare
from genie_rt.runtime.backends.choose import BACKENDS, EXPORTED
from genie_rt.runtime.backends.exported.memory import BoundPages
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.pages import Pages
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

PLAN = Plan(passes=2)
GRAPHS = open_bundle("demo").graphs
WAYS = [
    (backend, dtype)
    for backend in ("onnx", "openvino")
    for dtype in BACKENDS[backend]
    if GRAPHS is not None and (dtype == "bfloat16" or dtype in GRAPHS.precisions)
]


@cache
def yardstick() -> World:
    return World.load("demo", backend="reference", dtype="float64")


@cache
def candidate(backend: str, dtype: str) -> World:
    pytest.importorskip(EXPORTED[backend])
    return World.load("demo", backend=backend, dtype=dtype)


def judged(backend: str, dtype: str, frames: int = 4) -> Parity:
    variant = Variant(backend=backend, dtype=dtype, device="cpu")
    return compare(yardstick(), candidate(backend, dtype), variant, plan=PLAN, frames=frames)


def test_the_demo_comes_with_graphs() -> None:
    assert GRAPHS is not None and {"float32", "int8"} <= set(GRAPHS.precisions)
    assert set(GRAPHS.frame_plans) == set(open_bundle("demo").plans)


@pytest.mark.parametrize(("backend", "dtype"), WAYS)
def test_every_engine_and_number_format_is_within_its_bound(backend: str, dtype: str) -> None:
    parity = judged(backend, dtype)
    assert parity.failure is None
    assert parity.tokens >= 4 * 2 * 256 and parity.within == 1


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_float32_plays_as_the_yardstick_does(backend: str) -> None:
    parity = judged(backend, "float32", frames=8)
    assert parity.max_cdf_error < 1e-4
    assert parity.psnr_db is None or parity.psnr_db > 80  # None: the pictures are equal


def wrong_age(past: dict[str, Tensor]) -> None:
    """The two newest frames of the past change places."""
    past["past_1"], past["past_2"] = past["past_2"], past["past_1"]


def stale_page(past: dict[str, Tensor]) -> None:
    """The newest frame of the past is taken to be the one before it."""
    past["past_1"] = past["past_2"]


@pytest.mark.parametrize("mutation", [wrong_age, stale_page])
@pytest.mark.parametrize(("backend", "dtype"), WAYS)
def test_a_broken_past_is_beyond_it(
    backend: str, dtype: str, mutation: Callable[[dict[str, Tensor]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, past = candidate(backend, dtype), BoundPages.past

    def broken(pool: BoundPages, pages: Pages, prefix: str = "") -> dict[str, Tensor]:
        inputs = past(pool, pages, prefix)
        if pool is world.backend.dynamics_pages and len(pages) > 1:  # type: ignore[attr-defined]
            mutation(inputs)
        return inputs

    monkeypatch.setattr(BoundPages, "past", broken)
    assert judged(backend, dtype).failure is not None
