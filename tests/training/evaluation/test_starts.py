"""Moments of the real game, and worlds beside it: the game itself, one deaf to keys, one that is frozen."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from fake_worlds import GameItself
from rich.console import Console
from rich.table import Table

from genie_rt.training.data.levels import copies
from genie_rt.training.data.store import NO_ACTION
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.metrics import MAX_DB
from genie_rt.training.evaluation.plays import Plays, measure_plays, plays_table
from genie_rt.training.evaluation.starts import GameStarts
from genie_rt.training.evaluation.true_branches import (
    branch_steps,
    measure_true_branches,
    true_branches_table,
)

NUM = 16
NAMES = ("left", "right", "stay", "jump", "left+jump", "right+jump")
ACTIONS = {name: index for index, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def starts() -> Iterator[GameStarts]:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    with contextlib.closing(GameStarts(NUM, prompt_frames=4, visuals="plain", seed=1)) as found:
        yield found


def printed(table: Table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_moments_are_of_unseen_levels_and_their_prompts_are_what_the_actions_led_to(
    starts: GameStarts,
) -> None:
    prompts = starts.prompts
    assert prompts.frames.shape == (NUM, 4, 64, 64, 3) and starts.action_names == NAMES
    assert (prompts.actions[:, 0] == NO_ACTION).all() and (prompts.actions[:, 1:] >= 0).all()
    assert prompts.origin["levels"] > NUM // 2
    assert prompts.origin["heldout_levels"] == copies("coinrun", "plain").as_provenance()
    change = np.abs(np.diff(prompts.frames.astype(int), axis=1)).mean((2, 3, 4))
    assert change.max() < 60  # no prompt jumps to another level
    with contextlib.closing(GameStarts(NUM, prompt_frames=4, visuals="plain", seed=1)) as again:
        np.testing.assert_array_equal(again.prompts.frames, prompts.frames)
        np.testing.assert_array_equal(again.prompts.actions, prompts.actions)


def test_branches_begin_at_their_moments_and_repeat_bit_for_bit(starts: GameStarts) -> None:
    right, left = (np.full((NUM, 6), NAMES.index(name)) for name in ("right", "left"))
    frames, alive = starts.branch(right)
    others, _ = starts.branch(left)
    again, _ = starts.branch(right)
    np.testing.assert_array_equal(frames[:, 0], starts.prompts.frames[:, -1])
    np.testing.assert_array_equal(frames, again)
    assert (frames[:, 0] == others[:, 0]).all() and (frames[:, 6] != others[:, 6]).any()
    assert alive[:, 0].all() and (np.diff(alive.astype(int), axis=1) <= 0).all()


def test_a_branch_is_over_where_its_level_is(starts: GameStarts, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.zeros(NUM, bool)
    first[3] = True
    monkeypatch.setattr(type(starts._game), "first", property(lambda game: first))
    _, alive = starts.branch(np.full((NUM, 3), 2))
    assert alive[3].tolist() == [True, False, False, False]
    assert np.delete(alive, 3, axis=0).all()


def indexed(names: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def test_the_game_itself_reaches_the_cap_on_every_branch(starts: GameStarts) -> None:
    figures = measure_true_branches(
        GameItself(starts), starts, starts.prompts, ACTIONS, None, window=2, batch=5
    )
    assert [step.t for step in figures.steps] == [1, 2, 4, 8]
    assert figures.scripts == (*(f"{name} held" for name in NAMES), "random", "random")
    for step in figures.steps:
        assert step.model.pooled_db == step.model.mean_db == MAX_DB
        assert step.copy.mean_db < 40 and step.copy.mean_db_interval is not None
        assert 0 < step.model.num_frames <= 8 * NUM
    assert figures.steps[0].model.num_frames > 7 * NUM and figures.skipped == ()


def test_a_world_that_stands_still_scores_as_copying_on_every_branch(starts: GameStarts) -> None:
    frozen = GameItself(starts, frozen=True)
    figures = measure_true_branches(frozen, starts, starts.prompts, ACTIONS, None, window=1)
    assert [step.t for step in figures.steps] == [1, 2, 4]
    assert all(step.model == step.copy for step in figures.steps)


def test_actions_are_taken_by_name_and_those_without_one_are_skipped(starts: GameStarts) -> None:
    """A world that orders them otherwise and has a code that nobody has named."""
    names = ("jump", "code 3", "stay", "right")

    class Renamed(GameItself):
        def play(self, rows, actions, plan):
            return super().play(rows, np.array([3, -1, 2, 1])[actions], plan)

    figures = measure_true_branches(Renamed(starts), starts, starts.prompts, indexed(names), None, window=1)
    assert figures.skipped == ("left", "left+jump", "right+jump")
    assert figures.scripts == ("right held", "stay held", "jump held", "random", "random")
    assert all(step.model.pooled_db == MAX_DB for step in figures.steps)
    assert "no name for left, left+jump, right+jump" in " ".join(
        printed(true_branches_table(figures)).split()
    )
    plays = measure_plays(Renamed(starts), starts, starts.prompts, indexed(names), None)
    assert [key.name for key in plays.keys] == ["right", "jump"] and plays.skipped == ("left",)
    assert all(key.agree_share == 1.0 for key in plays.keys)


def test_a_world_without_any_name_of_the_game_is_skipped(starts: GameStarts) -> None:
    actions, game = indexed(("action 0", "action 1")), GameItself(starts)
    assert measure_true_branches(game, starts, starts.prompts, actions, None, window=1) is None
    assert measure_plays(game, starts, starts.prompts, actions, None) is None


def play(starts: GameStarts, names: tuple[str, ...] = NAMES, **quality: bool) -> Plays:
    game = GameItself(starts, **quality)
    found = measure_plays(game, starts, starts.prompts, indexed(names), None, batch=7)
    assert found is not None
    return found


def test_the_game_itself_plays_as_the_game_does(starts: GameStarts) -> None:
    figures = play(starts)
    assert (figures.num_starts, figures.num_steps, figures.moved_pixels) == (NUM, 8, 2)
    left, right, jump = figures.keys
    for key in (left, right, jump):
        assert key.num_moved > 4 and key.num_agree == key.num_moved
        assert key.agree_share == 1.0 and key.agree_share_interval[0] > 0.5
        assert key.real_pixels == key.world_pixels
        assert key.num_without < key.num_moved  # there are moments in which the key decides
    assert right.real_pixels < -2 and right.real_pixels < left.real_pixels and jump.real_pixels > 0
    text = printed(plays_table(figures))
    assert "up or down" in text and "100%" in text


def test_swapped_keys_are_found_out(starts: GameStarts) -> None:
    swapped = tuple({"left": "right", "right": "left"}.get(name, name) for name in NAMES)
    left, right, jump = play(starts, swapped).keys
    assert left.agree_share < 0.8 and right.agree_share < 0.8 and jump.agree_share == 1.0


def test_a_world_that_ignores_keys_reaches_what_the_table_says_that_it_does(starts: GameStarts) -> None:
    for key in play(starts, ignores_keys=True).keys:
        assert key.num_agree == key.num_without and key.agree_share < 0.9


def test_a_world_that_stands_still_never_agrees(starts: GameStarts) -> None:
    for key in play(starts, frozen=True).keys:
        assert key.num_moved > 0 and key.num_agree == 0 and key.world_pixels == 0.0


def test_steps_of_branches_are_powers_of_two_up_to_four_windows() -> None:
    assert branch_steps(8) == (1, 2, 4, 8, 16, 32)
    assert branch_steps(6) == (1, 2, 4, 8, 16, 24)
    assert branch_steps(1) == (1, 2, 4)


def test_prompts_of_one_frame_have_no_actions(starts: GameStarts) -> None:
    with contextlib.closing(GameStarts(2, prompt_frames=1, visuals="full", seed=0)) as found:
        assert isinstance(found.prompts, TrueClips) and found.prompts.frames.shape[1] == 1
        assert (found.prompts.actions == NO_ACTION).all()
