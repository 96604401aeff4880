"""Action consistency of worlds whose actions do what is known."""

import numpy as np
import pytest
from fake_worlds import Scroller
from rich.console import Console

from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.effects import MAX_STARTS, MOVED, Along, effects_table, measure_effects

CLIPS = TrueClips(
    frames=np.zeros((12, 3, 32, 32, 3), np.uint8),
    actions=np.zeros((12, 3), np.int64),
    action_names=("a", "b", "c"),
    origin={},
)


def test_an_action_that_always_does_the_same_agrees_and_a_random_one_does_not() -> None:
    effects = measure_effects(Scroller(), CLIPS, ("a", "b", "c"), Plan(passes=1), prompt_frames=2, batch=5)
    left, right, random = effects.actions
    assert (effects.num_starts, effects.num_steps) == (12, 8)
    assert (left.name, left.x.mean, left.x.mean_interval) == ("a", -16.0, (-16.0, -16.0))
    assert right.x.mean == 16.0
    for action in (left, right):
        assert (action.x.num_moved, action.x.num_agree, action.x.agree_share) == (12, 12, 1.0)
        assert action.x.agree_share_interval == (pytest.approx(0.757, abs=1e-3), 1.0)
        assert (action.y.mean, action.y.num_moved, action.y.agree_share) == (0.0, 0, None)
    assert (random.x.mean, random.x.num_moved, random.x.num_agree) == (0.0, 12, 6)
    assert random.x.mean_interval[0] < -5 and random.x.mean_interval[1] > 5


def test_a_world_that_shows_one_colour_moves_nowhere() -> None:
    effects = measure_effects(Scroller(until=0), CLIPS, ("a", "b"), Plan(passes=1), prompt_frames=2)
    for action in effects.actions:
        assert action.x.num_moved == action.y.num_moved == 0 and action.x.mean == 0.0


def test_only_starts_that_moved_have_a_side() -> None:
    along = Along.of(np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 5.0]))
    assert MOVED == 2 and (along.num_moved, along.num_agree) == (3, 2)
    assert along.agree_share == pytest.approx(2 / 3) and along.mean == 0.0


def test_the_table_names_every_action() -> None:
    effects = measure_effects(Scroller(), CLIPS, ("a", "b", "c"), Plan(passes=1), prompt_frames=1)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(effects_table(effects))
    text = capture.get()
    assert "-16.0 ±0.0" in text and "100% [76, 100] of 12" in text and "50% [25, 75] of 12" in text
    assert "- of 0" in text and MAX_STARTS >= 50
