"""Shifts that are known: cut from one picture, and the true way of CoinRun's player."""

import contextlib
import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.training.data.game import VISUALS, RealGame, Visuals, import_procgen
from genie_rt.training.evaluation.displacement import MAX_SHIFT, displacement, displacements, shift

TILE = 64 / 13  # pixels; the camera shows 13 blocks


def large_pictures(visuals: Visuals) -> NDArray[np.uint8]:
    """What the camera shows at twice the size, in 8 held-out levels: `[8, 128, 128, 3]`."""
    env = import_procgen().ProcgenGym3Env(
        num=8, env_name="coinrun", start_level=10_000, num_levels=1000, rand_seed=0, num_threads=0,
        render_mode="rgb_array", **VISUALS[visuals],
    )  # fmt: skip
    right_and_up = [tuple(keys) for keys in env.get_combos()].index(("RIGHT", "UP"))
    for _ in range(12):
        env.act(np.full(8, right_and_up))
    pictures = np.stack([info["rgb"] for info in env.get_info()])
    env.close()
    return pictures.reshape(8, 128, 4, 128, 4, 3).mean((2, 4)).astype(np.uint8)


@pytest.mark.parametrize("visuals", ["plain", "full"])
def test_crops_of_a_real_scene_are_as_far_apart_as_they_were_cut(visuals: Visuals) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    random = np.random.default_rng(0)
    exact = 0
    for picture in large_pictures(visuals):
        for _ in range(12):
            x, y = random.integers(MAX_SHIFT, 128 - 64 - MAX_SHIFT, 2)
            dx, dy = random.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2)
            before = picture[y : y + 64, x : x + 64]
            after = picture[y - dy : y - dy + 64, x - dx : x - dx + 64]
            *way, confidence = shift(before, after)
            assert confidence == pytest.approx(1.0, abs=1e-9)
            # equal blocks in a row may agree a block nearer too: then nobody can tell
            assert way == [dx, dy] or np.abs(way).sum() < abs(dx) + abs(dy)
            assert shift(after, before)[:2] == (-way[0], -way[1])
            exact += way == [dx, dy]
    assert exact >= 0.97 * 8 * 12


def player(game: RealGame) -> NDArray[np.float64]:
    """Where each copy's player is, `[B, 2]` blocks, read from the saved state of procgen 0.10.7."""
    grid = struct.pack("<iii", 64, 64, 64**2)
    return np.array([struct.unpack_from("<ff", state, state.find(grid) - 6758) for state in game.state()])


@pytest.mark.parametrize("visuals", ["plain", "full"])
def test_the_real_game_s_scene_moves_against_its_player(visuals: Visuals) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    game = RealGame(visuals=visuals, start_level=10_000, num_levels=1000, num_envs=12, seed=3)
    random = np.random.default_rng(0)
    right, errors, rightward = game.action_names.index("right"), [], []
    with contextlib.closing(game):
        action = random.integers(0, 6, 12)
        for step in range(30):
            held = step % 15 >= 7
            action = np.where(random.random(12) < 1 / 8, random.integers(0, 6, 12), action)
            before, was = game.observe(), player(game)
            game.step(np.full(12, right) if held else action)
            after, moved = game.observe(), (player(game) - was) * [-TILE, TILE]
            for copy in np.flatnonzero(~game.first):
                dx, dy, confidence = shift(before[copy], after[copy])
                assert confidence > 0.5
                errors.append(np.abs([dx, dy] - moved[copy]).max())
                if held and abs(moved[copy, 0]) > 1:
                    rightward.append(dx)
    assert np.mean(np.array(errors) <= 1) > 0.95
    assert len(rightward) > 30 and np.mean(np.array(rightward) < 0) > 0.9


def noise(seed: int, side: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_every_shift_in_range_is_found_exactly() -> None:
    picture = noise(0)
    before = picture[8:72, 8:72]
    for dx, dy in [(0, 0), (8, 0), (0, 8), (-8, 8), (8, -8), (1, -2), (-3, 0)]:
        after = picture[8 - dy : 72 - dy, 8 - dx : 72 - dx]
        assert shift(before, after, 8) == (dx, dy, pytest.approx(1.0))


def test_a_still_figure_in_the_middle_does_not_hide_that_the_scene_moves() -> None:
    picture = noise(1)
    before, after = picture[8:72, 8:72].copy(), picture[8:72, 11:75].copy()
    before[26:38, 26:38] = after[26:38, 26:38] = noise(2)[:12, :12]
    assert shift(before, after)[:2] == (-3, 0)


def test_what_shows_nothing_has_not_moved() -> None:
    grey = np.full((64, 64, 3), 90, np.uint8)
    assert shift(grey, grey) == (0, 0, 0.0)
    assert shift(grey, noise(3)[:64, :64]) == (0, 0, 0.0)
    assert shift(noise(3), noise(4))[2] < 0.1
    clips = np.stack([np.stack([noise(seed)[:64, :64] for seed in range(4)]), np.stack([grey] * 4)])
    assert displacements(clips).tolist() == [[0, 0], [0, 0]]


def test_displacement_adds_up_along_a_clip() -> None:
    picture = noise(5, 120)
    clip = np.stack(
        [picture[20 - y : 84 - y, 40 - x : 104 - x] for x, y in [(0, 0), (5, 2), (12, 1), (20, 9)]]
    )
    assert displacement(clip) == (20, 9)
    assert displacement(clip[::-1]) == (-20, -9)
    assert displacements(np.stack([clip, clip[[0, 0, 0, 1]]])).tolist() == [[20, 9], [5, 2]]


def test_small_frames_and_odd_sides() -> None:
    picture = noise(6)
    assert shift(picture[4:13, 4:17], picture[4:13, 2:15], 4)[:2] == (2, 0)
    clip = np.stack([picture[4:13, 4:17], picture[4:13, 2:15]])[None]
    assert displacements(clip).tolist() == [[2, 0]]


def test_frames_of_two_sizes_and_frames_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="two frames"):
        shift(noise(0), noise(0)[:64])
    with pytest.raises(InputError, match="sides of at least 24"):
        shift(noise(0)[:20, :20], noise(0)[:20, :20])
