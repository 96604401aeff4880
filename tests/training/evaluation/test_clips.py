"""Clips: which places they come from, what their actions mean, and that a seed decides them."""

import re
from pathlib import Path

import numpy as np
import pytest

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.training.data import game as game_module
from genie_rt.training.data.game import RealGame
from genie_rt.training.data.levels import Copies, copies
from genie_rt.training.data.store import NO_ACTION
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.evaluation import clips as clips_module
from genie_rt.training.evaluation.clips import TrueClips, from_game, from_store

SIZE = (8, 8)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Frames that tell their episode (red) and their place in it (green); held-out episodes are odd."""
    path = tmp_path / "store"
    with ClipStoreWriter(path, source="numbers", height=8, width=8, action_names=("a", "b")) as writer:
        for episode, length in enumerate((50, 23, 50, 7, 50, 9, 50, 31)):
            frames = np.zeros((length, 8, 8, 3), np.uint8)
            frames[..., 0], frames[..., 1] = episode, np.arange(length)[:, None, None]
            actions = np.arange(length) % 2
            actions[0] = NO_ACTION
            writer.append(frames, actions, split="heldout" if episode % 2 else "train")
    return path


def places(clips: TrueClips) -> list[tuple[int, int]]:
    """Episode and start of each clip."""
    return [(int(clip[0, 0, 0, 0]), int(clip[0, 0, 0, 1])) for clip in clips.frames]


def test_clips_of_a_store_are_held_out_whole_and_share_no_frame(store: Path) -> None:
    clips = from_store(store, num_clips=6, length=8, size=SIZE, seed=0)
    assert clips.frames.shape == (6, 8, 8, 8, 3) and clips.actions.shape == (6, 8)
    green = clips.frames[:, :, 0, 0, 1].astype(int)
    assert (np.diff(green) == 1).all()
    assert (clips.frames[..., 0] == clips.frames[:, :1, :1, :1, 0]).all()
    seen = [(episode, start + offset) for episode, start in places(clips) for offset in range(8)]
    assert len(set(seen)) == 48
    assert {episode for episode, _ in places(clips)} == {1, 5, 7}  # 3 has 7 frames only
    np.testing.assert_array_equal(clips.actions[:, 0], NO_ACTION)
    np.testing.assert_array_equal(clips.actions[:, 1:], green[:, 1:] % 2)
    assert clips.origin["episodes"] == 3 and clips.origin["split"] == "heldout"


def test_every_episode_has_its_turn_before_any_has_a_second(store: Path) -> None:
    clips = from_store(store, num_clips=3, length=8, size=SIZE, seed=4)
    assert {episode for episode, _ in places(clips)} == {1, 5, 7}


def test_the_seed_decides_the_clips(store: Path) -> None:
    starts = [
        places(from_store(store, num_clips=4, length=8, size=SIZE, seed=seed)) for seed in (0, 0, 1, 2, 3)
    ]
    assert starts[0] == starts[1]
    assert len({tuple(some) for some in starts}) > 1


def test_without_a_number_all_clips_are_taken_up_to_two_hundred(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(from_store(store, num_clips=None, length=8, size=SIZE, seed=0).frames) == 6
    monkeypatch.setattr(clips_module, "DEFAULT_CLIPS", 4)
    clips = from_store(store, num_clips=None, length=8, size=SIZE, seed=0)
    assert len(clips.frames) == 4 and clips.origin["clips"] == 4


def test_too_few_clips_or_another_size_are_refused(store: Path) -> None:
    with pytest.raises(InputError, match=r"--clips: expected 1 to 6, the held-out clips of 8 .*; found 7"):
        from_store(store, num_clips=7, length=8, size=SIZE, seed=0)
    with pytest.raises(InputError, match=r"store: expected 99 training clips of 8 frames"):
        from_store(store, num_clips=99, length=8, size=SIZE, seed=0, split="train")
    with pytest.raises(InputError, match="no heldout clip of 40 frames"):
        from_store(store, num_clips=1, length=40, size=SIZE, seed=0)
    with pytest.raises(InputError, match="expected frames of 64x64, found 8x8"):
        from_store(store, num_clips=1, length=8, size=(64, 64), seed=0)


def test_actions_are_matched_by_name() -> None:
    actions = np.array([[NO_ACTION, 0, 1, 1]])
    clips = TrueClips(
        frames=np.zeros((1, 4, 8, 8, 3), np.uint8), actions=actions, action_names=("a", "b"), origin={}
    )
    assert clips.renamed(("b", "c", "a"), (0, 1, 2)).actions.tolist() == [[NO_ACTION, 2, 0, 0]]
    with pytest.raises(InputError, match=r"found actions that it lacks: b; .*genie-rt actions"):
        clips.renamed(("a", "c"), (0, 1))


def test_videos_have_no_actions_to_match() -> None:
    none = np.full((1, 4), NO_ACTION)
    clips = TrueClips(frames=np.zeros((1, 4, 8, 8, 3), np.uint8), actions=none, action_names=(), origin={})
    with pytest.raises(InputError, match=r"found no actions; .*genie-rt actions"):
        clips.renamed(("a", "c"), (0, 1))


def test_without_procgen_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UnsupportedError(f"the real game needs procgen; install it with: {install_hint('coinrun')}")

    monkeypatch.setattr(game_module, "import_procgen", refuse)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("coinrun"))):
        from_game(num_clips=1, length=4, visuals="plain", seed=0)


def test_clips_of_the_game_are_of_unseen_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    played: list[int] = []
    levels = RealGame.level_seeds.fget
    monkeypatch.setattr(
        RealGame, "level_seeds", property(lambda game: [played.append(x) or x for x in levels(game)])
    )
    few = Copies(by_picture=frozenset(range(10_000, 10_990)), by_layout=frozenset())
    monkeypatch.setattr(clips_module, "copies", lambda *_: few)
    clips = from_game(num_clips=2, length=4, visuals="plain", seed=3)
    assert clips.origin["levels"] <= 2 and clips.origin["heldout_levels"]["levels"] == 10
    assert len(set(played)) > 50  # most levels that it came through were passed over


def test_a_recording_from_before_the_split_by_look_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old"
    recordings = {"provenance": {"recordings": {"heldout": {"env": "coinrun"}}}}
    with ClipStoreWriter(
        path, source="coinrun", height=8, width=8, action_names=("a",), **recordings
    ) as writer:
        writer.append(np.zeros((9, 8, 8, 3), np.uint8), np.full(9, NO_ACTION), split="heldout")
        writer.append(np.zeros((9, 8, 8, 3), np.uint8), np.full(9, NO_ACTION), split="train")
    with pytest.raises(InputError, match="half of its held-out levels are copies"):
        from_store(path, num_clips=1, length=8, size=SIZE, seed=0)
    from_store(path, num_clips=1, length=8, size=SIZE, seed=0, split="train")


def test_clips_of_the_game_are_what_the_actions_lead_to() -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    clips, same = (from_game(num_clips=6, length=20, visuals="plain", seed=3) for _ in range(2))
    other = from_game(num_clips=6, length=20, visuals="plain", seed=4)
    np.testing.assert_array_equal(clips.frames, same.frames)
    np.testing.assert_array_equal(clips.actions, same.actions)
    assert (clips.frames != other.frames).any()
    assert clips.frames.shape == (6, 20, 64, 64, 3)
    np.testing.assert_array_equal(clips.actions[:, 0], NO_ACTION)
    assert clips.actions[:, 1:].min() >= 0 and clips.actions.max() < 6
    assert clips.origin["start_level"] == 10_000 and clips.origin["levels"] >= 4
    assert clips.origin["heldout_levels"] == copies("coinrun", "plain").as_provenance()
    change = np.abs(np.diff(clips.frames.astype(int), axis=1)).mean((2, 3, 4))
    assert change.max() < 60  # no clip jumps to another level
    assert (change > 1).mean() > 0.3
