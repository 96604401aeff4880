"""The demo's graphs under `genie-rt verify`: within its bounds, and beyond them where a past is broken."""

from collections.abc import Callable
from functools import cache, lru_cache

import pytest
from makers import need
from torch import Tensor

from genie_rt.bench.parity import verify
from genie_rt.bench.parity.verify import Parity, Variant, compare
from genie_rt.runtime.backends.exported.loaded_graphs import LoadedGraphs
from genie_rt.runtime.backends.exported.memory import BoundPages
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.pages import Pages
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

PLAN = Plan(passes=2)
GRAPHS = open_bundle("demo").graphs
WAYS = [
    (backend, dtype)
    for backend in ("onnx", "openvino")
    for dtype in BACKENDS[backend].dtypes
    if GRAPHS is not None and (dtype == "bfloat16" or dtype in GRAPHS.precisions)
]
NATIVE = [("native", dtype) for dtype in BACKENDS["native"].dtypes]
"""It runs none of them, and is held to the same bounds."""

EACH_WAY = pytest.mark.parametrize(("backend", "dtype"), WAYS, scope="module")
"""All tests of a way follow each other, for its compiled graphs take half a gigabyte and are kept for one."""


@cache
def yardstick() -> World:
    return World.load("demo", backend="reference", dtype="float64")


@lru_cache(maxsize=1)
def candidate(backend: str, dtype: str) -> World:
    need(backend)
    return World.load("demo", backend=backend, dtype=dtype)


def judged(backend: str, dtype: str, frames: int = 4, plan: Plan = PLAN, *, other_frames: int = 0) -> Parity:
    """`other_frames`: in how many the bundle's other plans are played too, which takes long in float64."""
    variant = Variant(backend=backend, dtype=dtype, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "OTHER_FRAMES", other_frames)
        return compare(yardstick(), candidate(backend, dtype), variant, frames=frames, plan=plan)


def test_the_demo_comes_with_graphs() -> None:
    assert GRAPHS is not None and {"float32", "int8"} <= set(GRAPHS.precisions)
    assert set(GRAPHS.frame_plans) == set(open_bundle("demo").plans)


@pytest.mark.parametrize(("backend", "dtype"), [*WAYS, *NATIVE], scope="module")
def test_every_engine_and_number_format_is_within_its_bound(backend: str, dtype: str) -> None:
    found = judged(backend, dtype)
    assert found.failure is None
    assert found.tokens >= 4 * 2 * 256 and found.within == 1


@pytest.mark.parametrize(
    ("backend", "dtype"), [(name, "float32") for name in ("onnx", "openvino", "native")], scope="module"
)
def test_float32_plays_as_the_yardstick_does(backend: str, dtype: str) -> None:
    found = judged(backend, dtype, frames=8)
    assert found.max_cdf_error < 1e-4
    assert found.psnr_db is None or found.psnr_db > 80  # None: the pictures are equal


def wrong_age(past: dict[str, Tensor]) -> None:
    """The two newest frames of the past change places."""
    past["past_1"], past["past_2"] = past["past_2"], past["past_1"]


def stale_page(past: dict[str, Tensor]) -> None:
    """The newest frame of the past is taken to be the one before it."""
    past["past_1"] = past["past_2"]


@pytest.mark.parametrize("mutation", [wrong_age, stale_page])
@EACH_WAY
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


# --- frame graphs ----------------------------------------------------------------------------------------


def default_plan() -> Plan:
    return open_bundle("demo").plans["default"]


@pytest.mark.parametrize(("backend", "dtype"), [*WAYS, *NATIVE], scope="module")
def test_frame_graphs_are_within_the_bound_of_every_number_format(backend: str, dtype: str) -> None:
    found = judged(backend, dtype, 2, default_plan(), other_frames=2)
    assert found.failure is None
    assert {played.name for played in found.played} >= set(open_bundle("demo").plans)
    if dtype == "float32":
        assert sum(played.judged for played in found.played if played.plan.reuse == "none") == 4 * 2 * 256


def black(outputs: dict[str, Tensor]) -> None:
    outputs["rgb"].zero_()


def shuffled(outputs: dict[str, Tensor]) -> None:
    outputs["tokens"].copy_(outputs["tokens"].roll(1))


def undecided(outputs: dict[str, Tensor]) -> None:
    outputs["tokens"].fill_(-1)


@pytest.mark.parametrize("mutation", [black, shuffled, undecided])
@pytest.mark.parametrize(("backend", "dtype"), [("onnx", "float32"), ("openvino", "int8")], scope="module")
def test_a_wrong_frame_graph_is_beyond_it(
    backend: str, dtype: str, mutation: Callable[[dict[str, Tensor]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LoadedGraphs.run

    def broken(
        graphs: LoadedGraphs, name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor]
    ) -> None:
        run(graphs, name, inputs, outputs)
        if name == "frame-default":
            mutation(outputs)

    monkeypatch.setattr(LoadedGraphs, "run", broken)
    found = judged(backend, dtype, 1, default_plan())
    assert found.failure is not None and "playing 'default'" in found.failure
