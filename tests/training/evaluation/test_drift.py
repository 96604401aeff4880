"""Drift of worlds that last, and of one that turns grey."""

import dataclasses

import numpy as np
import pytest
from fake_worlds import Scroller
from rich.console import Console

from genie_rt.errors import InputError
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.drift import Drift, DriftSettings, drift_table, measure_drift

SETTINGS = DriftSettings(steps=48, sessions=3, prompt_frames=2, window=4, num_actions=3)
PLAN = Plan(passes=1)


def make_clips(num: int = 20, length: int = 18) -> TrueClips:
    """Real clips that scroll as the world's do."""
    world = Scroller()
    actions = np.random.default_rng(0).integers(0, 3, (num, length))
    rows = list(range(100, 100 + num))
    return TrueClips(
        frames=world.play(rows, actions, PLAN), actions=actions, action_names=("a", "b", "c"), origin={}
    )


def drift(until: int, **changes: int) -> tuple[Drift, np.ndarray]:
    return measure_drift(Scroller(until=until), make_clips(), PLAN, dataclasses.replace(SETTINGS, **changes))


def test_a_world_that_lasts_holds() -> None:
    figures, shown = drift(10**6)
    assert [step.t for step in figures.steps] == [32, 48]
    assert (figures.num_steps, figures.num_sessions, figures.num_frames) == (48, 3, 16)
    first, last = figures.steps
    assert first.distance_ratio == first.sharpness_ratio == first.spread_ratio == first.motion_ratio == 1.0
    assert first.holds and last.holds
    for step in figures.steps:
        assert step.sharpness == pytest.approx(1, abs=0.05) and step.spread == pytest.approx(74, abs=2)
        assert step.motion == pytest.approx(1, abs=0.1)
        assert step.sharpness_interval[0] <= step.sharpness <= step.sharpness_interval[1]
    assert last.distance_ratio == pytest.approx(last.clip_distance / first.clip_distance)
    assert figures.floor > 0 and figures.real_spread == pytest.approx(74, abs=2)
    assert shown.shape == (3, 32, 32, 3)


def test_a_world_that_turns_grey_is_found_out_from_then_on() -> None:
    figures, shown = drift(32)
    first, last = figures.steps
    lasting = drift(10**6)[0].steps[0]
    assert first == lasting  # up to there nothing was wrong
    assert not last.holds and last.distance_ratio > 2
    assert last.sharpness == last.spread == last.motion == last.sharpness_ratio == 0.0
    assert (shown[2] == 128).all() and shown[1].std() > 50


def test_a_world_that_was_grey_all_along_does_not_pass() -> None:
    figures, _ = drift(0)
    assert all(step.clip_distance > 4 * figures.floor for step in figures.steps)
    assert figures.steps[0].sharpness == 0.0 and not figures.steps[1].holds
    assert figures.steps[1].sharpness_ratio is None


def test_looks_take_in_the_last_frames_up_to_their_step() -> None:
    """A world that is grey in the second half of a look alone is half as sharp there."""
    figures, _ = drift(40)
    assert figures.steps[1].sharpness == pytest.approx(0.5 * figures.steps[0].sharpness, rel=0.05)


def test_short_drifts_have_one_look() -> None:
    figures, shown = drift(10**6, steps=9)
    assert [step.t for step in figures.steps] == [9] and figures.num_frames == 8
    assert len(shown) == 2
    assert dataclasses.replace(SETTINGS, steps=2000).looks == (32, 256, 1000, 2000)


def test_one_seed_gives_one_drift_and_progress_is_told() -> None:
    told: list[int] = []
    one = measure_drift(Scroller(), make_clips(), PLAN, SETTINGS, told.append)
    again, other = drift(10**6), drift(10**6, seed=1)
    assert one[0] == again[0] != other[0] and told == [1] * 48
    np.testing.assert_array_equal(one[1], again[1])


@pytest.mark.parametrize(
    ("changes", "num", "length", "message"),
    [
        ({"steps": 3}, 20, 18, "--drift-steps of at least 4"),
        ({"sessions": 0}, 20, 18, "--drift-sessions of at least 1"),
        ({}, 9, 18, "expected at least 10 real clips for 3 sessions, found 9"),
        ({}, 20, 5, "expected clips of 6 frames or more, found 5"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changes: dict[str, int], num: int, length: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SETTINGS, **changes).check(num, length)


def test_the_table_has_the_floor_and_the_verdict() -> None:
    figures, _ = drift(32)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(drift_table(figures))
    text = " ".join(capture.get().split())
    assert "Within 2x of t = 32" in text and "yes" in text and "no" in text
    assert f"{figures.floor:.1f}, the floor" in text or f"{figures.floor:.1f} ±" in text
