"""Branches start from one moment, follow their own scripts, and are drawn in the right sizes."""

import dataclasses

import numpy as np
import pytest
from makers import make_backend, make_config, make_world
from rich.console import Console

from genie_rt.errors import InputError
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.branches import Branch, play_branches
from genie_rt.training.evaluation.strip import draw_gif_frames, draw_row, draw_strip, print_steps

COINRUN = ("left", "right", "stay", "jump", "left+jump", "right+jump")


def make_game_world(names: tuple[str, ...] = COINRUN) -> World:
    config = make_config(grid=(4, 4), window=3)
    tokenizer = dataclasses.replace(config.tokenizer, height=64, width=64, patch=16, decoder_patch=16)
    dynamics = dataclasses.replace(config.dynamics, num_actions=len(names))
    config = dataclasses.replace(config, tokenizer=tokenizer, dynamics=dynamics)
    bundle = dataclasses.replace(make_world(config).bundle, action_names=names, default_action=names[0])
    return World(bundle, make_backend(config), "float64")


def play(*scripts: list[str], world: World | None = None, **changes: object) -> list[Branch]:
    arguments = {"level": 10_000, "visuals": "plain", "warm_up": ["right"] * 4, "prompt_frames": 3, "seed": 0}
    return play_branches(world or make_game_world(), scripts, **(arguments | changes))


def test_branches_share_their_start_and_then_part() -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    right, jump, again = play(["right"] * 5, ["jump"] * 5, ["right"] * 5)
    for branch in (right, jump):
        assert branch.real.shape == branch.model.shape == (6, 64, 64, 3)
        assert not branch.cut and branch.psnr_db.shape == (5,)
    np.testing.assert_array_equal(right.real[0], jump.real[0])
    np.testing.assert_array_equal(right.model[0], jump.model[0])
    assert (right.real[1:] != jump.real[1:]).any()
    np.testing.assert_array_equal(right.real, again.real)
    np.testing.assert_array_equal(right.model, again.model)


def test_a_world_of_latent_actions_is_refused() -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    with pytest.raises(
        InputError, match=r"expected actions that the game has .*found action 0\b.*genie-rt actions"
    ):
        play(["action 0"], world=make_game_world(("action 0", "right")))


def test_a_script_that_ends_the_level_is_cut_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    from genie_rt.training.evaluation.branches import RealGame

    steps = 0
    step, first = RealGame.step, RealGame.first

    def count(game: RealGame, actions: np.ndarray) -> None:
        nonlocal steps
        steps += 1
        step(game, actions)

    monkeypatch.setattr(RealGame, "step", count)
    monkeypatch.setattr(RealGame, "first", property(lambda game: first.fget(game) | (steps == 4 + 3)))
    (branch,) = play(["right"] * 5)
    assert branch.cut and branch.actions == ("right",) * 2
    assert len(branch.real) == len(branch.model) == 3
    steps = -3
    with pytest.raises(InputError, match="'right' ends level 10000 at once"):
        play(["right"] * 5, warm_up=["right"] * 9)
    steps = 4
    with pytest.raises(InputError, match="4 steps of warm-up end level 10000"):
        play(["right"])


def make_branch(steps: int, seed: int = 0, side: int = 16) -> Branch:
    random = np.random.default_rng(seed)
    real, model = random.integers(0, 256, (2, steps + 1, side, side, 3), dtype=np.uint8)
    return Branch(actions=("right",) * (steps - 1) + ("jump",), real=real, model=model, cut=False)


@pytest.mark.parametrize(("steps", "columns", "shown"), [(3, 12, 4), (20, 6, 6), (1, 2, 2)])
def test_a_strip_has_a_column_a_step_up_to_its_limit(steps: int, columns: int, shown: int) -> None:
    one = draw_strip([make_branch(steps, side=64)], columns, scale=2)
    wider = draw_strip([make_branch(steps, side=64)], columns, scale=3)
    two = draw_strip([make_branch(steps, side=64), make_branch(steps, 1, side=64)], columns, scale=2)
    assert one.dtype == np.uint8 and one.shape[1] > shown * 128
    assert one.shape[1] < (shown + 1) * (128 + 4) + 20  # the label takes less than a frame
    assert wider.shape[1] > shown * 192
    assert two.shape[1] == one.shape[1] and 1.9 < two.shape[0] / one.shape[0] <= 2


def test_a_strip_shows_first_and_last_frames_unchanged() -> None:
    branch = make_branch(20)
    strip = draw_strip([branch], 3, scale=1)
    for frame in (branch.real[0], branch.real[20], branch.model[0], branch.model[20]):
        windows = np.lib.stride_tricks.sliding_window_view(strip, (16, 16, 3))[:, :, 0]
        assert (windows[..., 0, 0, :] == frame[0, 0]).all(-1).any()
        candidates = np.argwhere((windows[..., 0, 0, :] == frame[0, 0]).all(-1))
        assert any((windows[y, x] == frame).all() for y, x in candidates)


def test_a_row_shows_every_frame_whole_above_its_label() -> None:
    frames = make_branch(2).real
    row = draw_row(frames, ["start", "step 1", "step 2"], scale=3)
    for column, frame in enumerate(frames):
        shown = row[: 3 * 16, column * (3 * 16 + 4) :][:, : 3 * 16]
        np.testing.assert_array_equal(shown[1::3, 1::3], frame)
    assert row.shape[0] > 3 * 16 and (row[3 * 16 :] > 200).any()


def test_a_gif_has_a_page_a_step_and_waits_for_the_longest_branch() -> None:
    short, long = make_branch(2), make_branch(5, 1)
    pages = draw_gif_frames([short, long], scale=4)
    assert len(pages) == 6
    assert len({page.shape for page in pages}) == 1
    assert pages[0].shape[1] == 2 * 64 + 4 and pages[0].shape[0] > 2 * 64
    top = slice(0, pages[0].shape[0] // 2)
    np.testing.assert_array_equal(pages[2][top], pages[5][top])
    assert (pages[2] != pages[5]).any()


def test_printed_steps_have_both_averages() -> None:
    branch = make_branch(3)
    console = Console(width=100, record=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        print_steps(console, [dataclasses.replace(branch, cut=True)])
    text = capture.get()
    assert "right*2 jump" in text and "mean of dB" in text and "pooled" in text
    assert "the game ended the level after 3 steps" in text
    assert f"{branch.psnr_db[1]:.2f}" in text
