"""The real game and its recordings: exact replay, exact branches, disjoint levels."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.training.data import game as game_module
from genie_rt.training.data.store import ClipStore

pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')

from genie_rt.training.data.coinrun import Policy, check_heldout_is_unseen, record, replay
from genie_rt.training.data.game import RealGame
from genie_rt.training.data.levels import LEVELS, copies

COINRUN_NAMES = ("left", "right", "stay", "jump", "left+jump", "right+jump")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    return record(tmp_path_factory.mktemp("coinrun") / "store", frames=6000, seed=5, num_envs=8)


def test_a_recording_follows_the_store_s_conventions(recorded: ClipStore) -> None:
    assert recorded.action_names == COINRUN_NAMES
    assert (recorded.height, recorded.width, recorded.source) == (64, 64, "coinrun")
    assert 0.95 * 6000 <= recorded.num_frames <= 1.02 * 6000
    for split in ("train", "heldout"):
        frames, actions = recorded.clips(length=16, split=split).sample(4, seed=0, step=0)
        assert frames.std() > 1
        assert actions.max() < 6
    heldout = sum(entry.length for entry in recorded.episodes if entry.split == "heldout")
    assert 0.03 < heldout / recorded.num_frames < 0.07
    assert all(4 <= entry.length <= 512 for entry in recorded.episodes)


def test_heldout_levels_are_never_trained_on(recorded: ClipStore) -> None:
    for entry in recorded.episodes:
        start, count = LEVELS[entry.split]
        assert start <= entry.extra["level"] < start + count
    assert LEVELS["heldout"][0] >= sum(LEVELS["train"])


def test_heldout_levels_look_like_no_training_level(recorded: ClipStore) -> None:
    left_out = copies("coinrun", "plain")
    levels = {entry.extra["level"] for entry in recorded.episodes if entry.split == "heldout"}
    assert levels and not levels & left_out.levels
    assert recorded.provenance["heldout_levels"] == left_out.as_provenance()
    check_heldout_is_unseen(recorded)
    older = dataclasses.replace(
        recorded, provenance={key: recorded.provenance[key] for key in ("procgen", "recordings")}
    )
    with pytest.raises(
        InputError, match=r"expected held-out levels that look like no training level.*Record it again"
    ):
        check_heldout_is_unseen(older)


def test_the_log_alone_makes_every_frame_again(recorded: ClipStore) -> None:
    assert replay(recorded, num_threads=0) == recorded.num_frames


def test_a_recording_is_a_function_of_its_arguments(recorded: ClipStore, tmp_path: Path) -> None:
    again = record(tmp_path / "again", frames=6000, seed=5, num_envs=8, num_threads=0)
    assert again.episodes == recorded.episodes
    for name in [*recorded.side_files, "frames-00000.u8", "actions-00000.i16"]:
        assert (again.path / name).read_bytes() == (recorded.path / name).read_bytes()
    other = record(tmp_path / "other", frames=6000, seed=6, num_envs=8)
    assert other.episodes != recorded.episodes


@pytest.mark.parametrize("name", ["frames-00000.u8", "actions-00000.i16", "log-train.u8"])
def test_replay_notices_one_changed_byte(recorded: ClipStore, tmp_path: Path, name: str) -> None:
    for file in recorded.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / name).read_bytes())
    at = 100 if name.startswith("actions") else 200
    data[at] = data[at] + 1 if data[at] < 5 else 0
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BundleError, match="differs"):
        replay(ClipStore.open(tmp_path))


def test_replay_refuses_what_is_no_recording(tmp_path: Path) -> None:
    from genie_rt.training.data.writer import ClipStoreWriter

    with ClipStoreWriter(tmp_path, source="video", height=8, width=8) as writer:
        writer.append(np.zeros((5, 8, 8, 3), np.uint8), split="train", extra={"step": 0, "env": 0})
    with pytest.raises(BundleError, match="expected a recording"):
        replay(ClipStore.open(tmp_path))


def test_a_branch_equals_what_would_have_happened() -> None:
    game = RealGame(start_level=10_000, num_levels=1_000, num_envs=3, seed=1)
    random = np.random.default_rng(0)
    actions = random.integers(0, 6, (60, 3))
    for row in actions[:20]:
        game.step(row)
    states, here = game.state(), game.observe()
    truth = []
    for row in actions[20:]:
        game.step(row)
        truth.append((game.observe(), game.first))
    for row in actions[20:30]:
        game.step((row + 1) % 6)
    detour = game.observe()
    game.restore(states)
    np.testing.assert_array_equal(game.observe(), here)
    for row, (frames, first) in zip(actions[20:], truth, strict=True):
        game.step(row)
        np.testing.assert_array_equal(game.observe(), frames)
        np.testing.assert_array_equal(game.first, first)
    assert not np.array_equal(detour, truth[9][0])
    fresh = RealGame(start_level=10_000, num_levels=1_000, num_envs=3, seed=99)
    fresh.restore(states)
    fresh.step(actions[20])
    np.testing.assert_array_equal(fresh.observe(), truth[0][0])


def test_observations_are_copies() -> None:
    game = RealGame(num_envs=2)
    before = game.observe()
    kept = before.copy()
    for _ in range(8):
        game.step(np.array([1, 5]))
    np.testing.assert_array_equal(before, kept)
    assert game.observe().shape == (2, 64, 64, 3)
    assert game.first.dtype == np.bool_


def test_left_and_right_move_apart_and_jump_goes_up() -> None:
    frames = []
    for action in ("left", "right", "stay", "jump"):
        game = RealGame(num_envs=4, seed=3)
        for _ in range(20):
            game.step(np.full(4, COINRUN_NAMES.index("stay")))
        for _ in range(4):
            game.step(np.full(4, game.action_names.index(action)))
        frames.append(game.observe())
    for i in range(4):
        for j in range(i):
            assert not np.array_equal(frames[i], frames[j])


def test_other_games_have_all_fifteen_actions() -> None:
    names = RealGame("maze", num_envs=1).action_names
    assert names[:5] == ("left+down", "left", "left+up", "down", "stay")
    assert len(set(names)) == 15 and names[-1] == "e"


def test_full_visuals_are_another_game_to_see() -> None:
    plain, full = (RealGame(visuals=visuals, seed=2).observe() for visuals in ("plain", "full"))
    assert not np.array_equal(plain, full)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "doom"}, "procgen has no game 'doom'"),
        ({"visuals": "nice"}, "visuals must be one of plain, full"),
        ({"num_levels": 0}, "num_levels >= 1"),
        ({"num_envs": 0}, "num_envs >= 1"),
        ({"seed": 2**31}, "seed"),
    ],
)
def test_arguments_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RealGame(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("actions", [[0], [0, 6], [-1, 0], [0.0, 1.0], [[0, 0]]])
def test_actions_of_the_wrong_kind_are_refused(actions: list[object]) -> None:
    game = RealGame(num_envs=2)
    with pytest.raises(InputError):
        game.step(np.array(actions))
    with pytest.raises(InputError, match="expected 2 states"):
        game.restore(game.state()[:1])


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frames >= 512"):
        record(tmp_path / "s", frames=10)
    assert not (tmp_path / "s").exists()


def test_the_policy_likes_right_and_uses_everything() -> None:
    policy = Policy(COINRUN_NAMES, 256, np.random.default_rng(0))
    first = np.ones(256, dtype=np.bool_)
    played = np.stack([policy.act(first if step == 0 else ~first) for step in range(200)])
    share = np.bincount(played.ravel(), minlength=6) / played.size
    assert share.min() > 0.03
    assert share[COINRUN_NAMES.index("right+jump")] == share.max() > 0.3
    assert 0.6 < (played[1:] == played[:-1]).mean() < 0.95


def test_without_procgen_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("coinrun"))):
        game_module.RealGame()
