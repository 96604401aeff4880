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
TWO, THREE = {"a": 0, "b": 1}, {"a": 0, "b": 1, "c": 2}


def test_an_action_that_always_does_the_same_agrees_and_a_random_one_does_not() -> None:
    effects = measure_effects(Scroller(), CLIPS, THREE, Plan(passes=1), prompt_frames=2, batch=5)
    left, right, random = effects.actions
    assert (effects.num_starts, effects.num_steps) == (12, 8)
    assert (left.name, left.scene_x, left.scene_y) == ("a", -16.0, 0.0)
    assert (right.scene_x, random.scene_x) == (16.0, 0.0)
    assert left.x.mean == pytest.approx(-16) and right.x.mean == pytest.approx(16)
    for action in (left, right):
        assert (action.x.num_moved, action.x.num_agree, action.x.agree_share) == (12, 12, 1.0)
        assert action.x.agree_share_interval == (pytest.approx(0.757, abs=1e-3), 1.0)
        assert (action.y.mean, action.y.num_moved, action.y.agree_share) == (0.0, 0, None)
    assert (random.x.mean, random.x.num_moved, random.x.num_agree) == (pytest.approx(0), 12, 6)
    assert random.x.mean_interval[0] < -3 and random.x.mean_interval[1] > 3


def test_momentum_that_no_action_changes_is_no_effect() -> None:
    """Actions 2 and 2 again: the scene moves far, the same for both."""

    class Deaf(Scroller):
        def play(self, rows, actions, plan):
            return super().play(rows, np.full_like(actions, 2), plan)

    for action in measure_effects(Deaf(), CLIPS, TWO, Plan(passes=1), prompt_frames=2).actions:
        assert action.x.mean == 0.0 and action.x.num_moved == 0 and action.x.agree_share is None


def test_two_actions_are_told_apart_by_hand() -> None:
    left, right = measure_effects(Scroller(), CLIPS, TWO, Plan(passes=1), prompt_frames=2).actions
    assert (left.x.mean, left.x.mean_interval) == (-16.0, (-16.0, -16.0)) and right.x.mean == 16.0


def test_a_world_that_shows_one_colour_moves_nowhere() -> None:
    effects = measure_effects(Scroller(until=0), CLIPS, TWO, Plan(passes=1), prompt_frames=2)
    for action in effects.actions:
        assert action.x.num_moved == action.y.num_moved == 0 and action.x.mean == 0.0


def test_only_starts_that_moved_have_a_side() -> None:
    along = Along.of(np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 5.0]))
    assert MOVED == 2 and (along.num_moved, along.num_agree) == (3, 2)
    assert along.agree_share == pytest.approx(2 / 3) and along.mean == 0.0


def test_the_table_names_every_action() -> None:
    effects = measure_effects(Scroller(), CLIPS, THREE, Plan(passes=1), prompt_frames=1)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(effects_table(effects))
    text = capture.get()
    assert "-16.0 ±" in text and "100% of 12" in text and "50% of 12" in text and "- of 0" in text
    assert "+16.0, +0.0" in text and MAX_STARTS >= 50
