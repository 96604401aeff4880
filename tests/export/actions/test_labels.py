"""Labelled transitions are held keys, as many of each."""

from pathlib import Path

import numpy as np

from genie_rt.export.actions.labels import HISTORY, _held_keys, _in_turn
from genie_rt.training.data.store import NO_ACTION, ClipStore
from genie_rt.training.data.writer import ClipStoreWriter


def test_a_key_counts_from_its_second_step_on(tmp_path: Path) -> None:
    actions = np.array([-1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    frames = np.zeros((len(actions), 4, 4, 3), np.uint8)
    with ClipStoreWriter(tmp_path / "s", source="x", height=4, width=4, action_names=("a", "b")) as writer:
        writer.append(frames, actions, split="train")
    clips = ClipStore.open(tmp_path / "s").clips(length=HISTORY, split="train")
    # the last frames of the clips are 7, 8, 9, 10, 11
    assert _held_keys(clips, np.arange(len(clips))).tolist() == [0, NO_ACTION, 1, 1, NO_ACTION]


def test_rare_keys_come_as_often_as_others() -> None:
    keys = np.array([0, 0, 0, 1, NO_ACTION, 0, 1, 2])
    assert keys[_in_turn(keys, 3)].tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert len(_in_turn(np.full(4, NO_ACTION), 3)) == 0
