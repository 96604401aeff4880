"""What a computation costs: nothing where it is the baseline, and the verdict where it is not."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from makers import make_config, make_model, make_world
from quality_rows import make_baselines, make_quality
from rich.console import Console

from genie_rt.bench.quality.computation import Computation
from genie_rt.bench.quality.format_cost import (
    Cost,
    PrecisionBody,
    PrecisionRow,
    precision_columns,
    precision_rows,
)
from genie_rt.bench.quality.format_table import print_precisions
from genie_rt.bench.quality.measure import Outcome, Protocol, Truth, measure_plan, prepare, true_figures
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clip_distance import FrameFeatures, Reference
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.rollout import ModelRollouts

CONFIG = make_config(grid=(4, 6), window=2)
PROTOCOL = Protocol(window=2, num_actions=3, prompt_frames=1)
PLAN = Plan(passes=2)
FIRST, OTHER, THIRD = (
    Computation(backend=backend, dtype=dtype, device="cpu", emulated=backend == "cuda")
    for backend, dtype in (("reference", "float32"), ("cuda", "int8"), ("cuda", "fp8"))
)


def make_clips(num: int = 6) -> TrueClips:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (num, PROTOCOL.clip_length, 8, 12, 3), dtype=np.uint8)
    actions = random.integers(0, 3, frames.shape[:2])
    return TrueClips(frames=frames, actions=actions, action_names=("a", "b", "c"), origin={})


def measured(seed: int) -> Outcome:
    """Outcome of a world with other weights for each seed; the tokens of real frames are those of seed 0."""
    rollouts = ModelRollouts(make_world(CONFIG, seed), make_model(CONFIG))
    batches = prepare(rollouts, make_clips(), PROTOCOL, batch=3)
    return measure_plan(rollouts, batches, PLAN, PROTOCOL, FrameFeatures(8, 12))


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return measured(0)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return true_figures(make_model(CONFIG), make_clips(), PROTOCOL, FrameFeatures(8, 12), batch=6)


@pytest.fixture(scope="module")
def reference(outcome: Outcome) -> Reference:
    random = np.random.default_rng(1)
    shape = (20, *outcome.descriptors.shape[1:])
    return Reference.fit(random.normal(size=shape).astype(np.float32))


def test_what_is_computed_alike_costs_exactly_nothing(
    outcome: Outcome, truth: Truth, reference: Reference
) -> None:
    again = measured(0)
    first, other = precision_rows(
        "default", {FIRST: outcome, OTHER: again}, truth, reference, PROTOCOL, {FIRST: {"p50_ms": 2.0}}
    )
    zeros = (0.0,) * len(PROTOCOL.steps)
    for row in (first, other):
        assert row.cost == Cost(
            psnr_db=zeros, psnr_noise_db=zeros, distance=0.0, distance_noise=0.0, nll=0.0, nll_error=0.0
        )
        assert row.passed and row.failure is None
    assert first.quality == other.quality
    assert (first.ms, other.ms) == (2.0, None)


def test_other_weights_are_seen_in_every_figure(outcome: Outcome, truth: Truth, reference: Reference) -> None:
    _, other = precision_rows("default", {FIRST: outcome, OTHER: measured(1)}, truth, reference, PROTOCOL, {})
    assert other.cost is not None
    assert all(other.cost.psnr_db) and all(noise > 0 for noise in other.cost.psnr_noise_db)
    assert other.cost.distance and other.cost.distance_noise > 0
    # random weights know nothing of another model's tokens: they can only find them less likely
    assert other.cost.nll > 3 * other.cost.nll_error > 0


def test_differences_are_those_of_the_figures(outcome: Outcome, truth: Truth, reference: Reference) -> None:
    worse = dataclasses.replace(outcome, squared=outcome.squared * 10**0.03, nll=outcome.nll + 0.25)
    first, other = precision_rows("p", {FIRST: outcome, OTHER: worse}, truth, reference, PROTOCOL, {})
    assert first.quality is not None and other.quality is not None and other.cost is not None
    assert other.cost.psnr_db == pytest.approx([-0.3] * len(PROTOCOL.steps))
    for before, after in zip(first.quality.psnr, other.quality.psnr, strict=True):
        assert after.pooled - before.pooled == pytest.approx(-0.3)
    # every clip loses alike, so drawing them anew changes nothing
    assert other.cost.psnr_noise_db == pytest.approx([0.0] * len(PROTOCOL.steps), abs=1e-9)
    assert other.cost.nll == pytest.approx(0.25) and other.cost.nll_error == pytest.approx(0, abs=1e-9)
    assert other.allowed_distance == reference.noise(outcome.descriptors) > 0


def test_reuse_has_no_likelihood_to_compare(outcome: Outcome, reference: Reference) -> None:
    unscored = dataclasses.replace(outcome, nll=outcome.nll * np.nan)
    cost = Cost.of(unscored, unscored, reference)
    assert cost.nll is None and cost.nll_error is None


def make_row(computation: Computation, **changes: Any) -> PrecisionRow:
    cost: dict[str, Any] = {
        "psnr_db": (0.0, -0.5, 0.5, 0.1, 0.0), "psnr_noise_db": (0.1,) * 5,
        "distance": 0.4, "distance_noise": 0.2, "nll": 0.01, "nll_error": 0.005,
    }  # fmt: skip
    return PrecisionRow(
        computation=computation,
        plan="default",
        quality=make_quality(),
        cost=Cost(**cost | changes),
        allowed_distance=0.4,
    )


@pytest.mark.parametrize(
    ("change", "psnr", "distance"),
    [
        ({}, True, True),
        ({"psnr_db": (0.0, -0.51, 0.0, 0.0, 0.0)}, False, True),
        ({"psnr_db": (0.0, 0.0, 0.0, 0.0, 0.51)}, False, True),  # blur has more
        ({"psnr_db": (0.0, 0.0, 0.0, 0.0, float("nan"))}, False, True),
        ({"distance": 0.41}, True, False),
        ({"distance": -3.0}, True, True),  # nearer to the real clips
        ({"distance": float("nan")}, True, False),
    ],
)
def test_the_verdict(change: dict[str, Any], psnr: bool, distance: bool) -> None:
    row = make_row(OTHER, **change)
    assert (row.psnr_within, row.distance_within, row.passed) == (psnr, distance, psnr and distance)


def make_body() -> PrecisionBody:
    stopped = PrecisionRow(
        computation=THIRD, plan="default", quality=None, cost=None, allowed_distance=0.4, failure="it melted"
    )
    return PrecisionBody(
        bundle="tiny", digest="0" * 64, clips={"clips": 6}, reference_clips=20,
        protocol=dataclasses.replace(PROTOCOL, window=8), plans={"default": PLAN},
        baselines=make_baselines(), rows=(make_row(FIRST), make_row(OTHER, distance=0.5), stopped),
    )  # fmt: skip


def test_what_was_stopped_has_not_passed_and_is_told() -> None:
    body = make_body()
    assert [row.passed for row in body.rows] == [True, False, False] and not body.passed
    console = Console(width=100, highlight=False, markup=False)
    with console.capture() as capture:
        print_precisions(console, body)
    printed = capture.get()
    assert "cuda fp8 (emulated): it melted" in printed and "has no speed" in printed
    assert "…" not in printed  # nothing is cut off at this width
    (line,) = [line for line in printed.splitlines() if line.startswith("cuda int8")]
    assert line.split()[-4:] == ["yes", "10.00", "no", "2.7500"]


def test_the_csv_has_the_differences_and_the_figures() -> None:
    first, other, stopped = precision_columns(make_body())
    assert first.keys() == other.keys() > stopped.keys()
    assert other["psnr_t4_difference_db"] == -0.5 and other["psnr_t4_pooled_db"] == 20.0
    assert other["clip_distance_difference"] == 0.5 and other["distance_within"] is False
    assert other["emulated"] is True and stopped["failure"] == "it melted"
