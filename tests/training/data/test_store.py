"""The clip store: what is written comes back, what is broken is refused, what was committed survives."""

import errno
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_rt.errors import BundleError, InputError, StateError
from genie_rt.training.data import writer as writer_module
from genie_rt.training.data.store import ClipStore, Episode, Frames, Split
from genie_rt.training.data.writer import ClipStoreWriter

HEIGHT, WIDTH = 6, 8
NAMES = ("left", "right", "stay")
LENGTHS: tuple[tuple[int, Split], ...] = ((20, "train"), (5, "train"), (9, "heldout"), (16, "train"))


def episode(length: int, seed: int) -> tuple[Frames, Any]:
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (length, HEIGHT, WIDTH, 3), dtype=np.uint8)
    actions = random.integers(0, len(NAMES), length)
    actions[0] = -1
    return frames, actions


def new_writer(path: Path, shard_frames: int = 24) -> ClipStoreWriter:
    return ClipStoreWriter(
        path,
        source="test",
        height=HEIGHT,
        width=WIDTH,
        action_names=NAMES,
        provenance={"seed": 3},
        shard_bytes=shard_frames * HEIGHT * WIDTH * 3,
    )


def fill(path: Path) -> ClipStore:
    with new_writer(path) as writer:
        for seed, (length, split) in enumerate(LENGTHS):
            writer.append(*episode(length, seed), split=split, extra={"level": 100 + seed})
            writer.append_side_file("log.u8", bytes([seed]))
    return ClipStore.open(path)


@pytest.fixture
def store(tmp_path: Path) -> ClipStore:
    return fill(tmp_path / "store")


def test_everything_written_comes_back(store: ClipStore) -> None:
    assert (store.height, store.width, store.source) == (HEIGHT, WIDTH, "test")
    assert store.action_names == NAMES
    assert store.provenance == {"seed": 3}
    assert store.num_frames == 50
    assert store.shards == (25, 25)
    assert [(e.length, e.split) for e in store.episodes] == list(LENGTHS)
    assert [e.extra["level"] for e in store.episodes] == [100, 101, 102, 103]
    assert store.read_side_file("log.u8") == bytes(range(4))
    for index, (length, _) in enumerate(LENGTHS):
        frames, actions = episode(length, index)
        np.testing.assert_array_equal(store.episode_frames(index), frames)
        np.testing.assert_array_equal(store.episode_actions(index), actions)


def test_a_pickled_store_opens_again_without_copying_frames(store: ClipStore) -> None:
    data = pickle.dumps(store.clips(length=4))
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data)[3].frames, store.clips(length=4)[3].frames)


@pytest.mark.parametrize("length", [1, 4, 5, 6, 20])
@pytest.mark.parametrize("stride", [1, 3])
def test_clips_are_all_windows_inside_one_episode(store: ClipStore, length: int, stride: int) -> None:
    expected = [
        (index, start)
        for index, (total, split) in enumerate(LENGTHS)
        if split == "train"
        for start in range(0, total - length + 1, stride)
    ]
    clips = store.clips(length=length, stride=stride)
    assert len(clips) == len(expected)
    for i, (index, start) in enumerate(expected):
        frames, actions = episode(LENGTHS[index][0], index)
        clip = clips[i]
        assert (clip.episode, clip.start) == (index, start)
        np.testing.assert_array_equal(clip.frames, frames[start : start + length])
        np.testing.assert_array_equal(clip.actions, actions[start : start + length])
        assert clip.actions.dtype == np.int64


def test_a_batch_is_its_clips_stacked(store: ClipStore) -> None:
    clips = store.clips(length=4)
    frames, actions = clips.batch([5, 0, len(clips) - 1])
    assert frames.shape == (3, 4, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8 and frames.flags.c_contiguous
    for row, i in enumerate([5, 0, -1]):
        np.testing.assert_array_equal(frames[row], clips[i].frames)
        np.testing.assert_array_equal(actions[row], clips[i].actions)


def test_indices_outside_are_refused(store: ClipStore) -> None:
    clips = store.clips(length=4)
    with pytest.raises(IndexError):
        clips[len(clips)]
    for bad in ([len(clips)], [-1], [[0]]):
        with pytest.raises(InputError, match="expected a list of clips"):
            clips.batch(bad)


def test_too_long_clips_are_refused_with_the_longest_episode(store: ClipStore) -> None:
    with pytest.raises(InputError, match="the longest has 9 frames"):
        store.clips(length=10, split="heldout")
    with pytest.raises(InputError, match="split must be one of"):
        store.clips(split="test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        store.clips(length=0)


def test_a_sample_depends_on_its_arguments_only(store: ClipStore) -> None:
    clips = store.clips(length=4)
    first, actions = clips.sample(8, seed=1, step=7)
    np.random.default_rng().random(5)
    clips.sample(8, seed=1, step=8)
    again, actions_again = ClipStore.open(store.path).clips(length=4).sample(8, seed=1, step=7)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(actions, actions_again)
    others = [dict(seed=2, step=7), dict(seed=1, step=8), dict(seed=1, step=7, rank=1)]
    for other in others:
        assert not np.array_equal(first, clips.sample(8, **other)[0])


def test_a_second_store_is_not_written_over_the_first(store: ClipStore) -> None:
    with pytest.raises(InputError, match="holds a clip store already"):
        new_writer(store.path)
    assert ClipStore.open(store.path).num_frames == 50


@pytest.mark.parametrize(
    ("frames", "actions", "expected"),
    [
        (np.zeros((3, HEIGHT, WIDTH, 3), np.float32), [-1, 0, 0], "uint8"),
        (np.zeros((3, WIDTH, HEIGHT, 3), np.uint8), [-1, 0, 0], "expected frames"),
        (np.zeros((0, HEIGHT, WIDTH, 3), np.uint8), [], "expected frames"),
        (np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), [-1, 0], "3 integer actions"),
        (np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), [0, 0, 0], "begin with -1"),
        (np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), [-1, 0, 3], "from -1 to 2"),
    ],
)
def test_an_episode_of_the_wrong_kind_is_refused(
    tmp_path: Path, frames: Frames, actions: list[int], expected: str
) -> None:
    with new_writer(tmp_path) as writer, pytest.raises(InputError, match=expected):
        writer.append(frames, np.array(actions, dtype=np.int64), split="train")


def test_frames_that_are_not_contiguous_are_stored_right(tmp_path: Path) -> None:
    frames, _ = episode(10, 0)
    with new_writer(tmp_path) as writer:
        writer.append(frames[::-2, :, ::-1], split="train")
    np.testing.assert_array_equal(ClipStore.open(tmp_path).episode_frames(0), frames[::-2, :, ::-1])


def test_extra_keys_must_not_change(tmp_path: Path) -> None:
    with new_writer(tmp_path) as writer:
        writer.append(*episode(5, 0), split="train", extra={"level": 1})
        with pytest.raises(InputError, match="extra keys"):
            writer.append(*episode(5, 0), split="train")


@pytest.mark.parametrize(
    "name", ["../log.u8", "/log.u8", "a/b.u8", "store.json", "frames-00000.u8", "log", ".u8"]
)
def test_side_files_cannot_leave_the_folder_or_hit_a_shard(tmp_path: Path, name: str) -> None:
    with new_writer(tmp_path) as writer, pytest.raises(InputError, match="plain lower-case file name"):
        writer.append_side_file(name, b"1")


class FullDisk:
    """Stands in for the writer's raw writes: after `room` bytes it writes short, then raises ENOSPC."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, file: Any, data: memoryview) -> None:
        self.room -= file.write(data[: max(0, self.room)])
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")


FRAME_BYTES = HEIGHT * WIDTH * 3


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (0, 0),
        (1, 0),
        (400, 0),
        (24 * FRAME_BYTES, 0),  # full between the frames and their actions
        (24 * FRAME_BYTES + 50, 0),  # full in the index
        (30 * FRAME_BYTES, 24),
        (60 * FRAME_BYTES, 48),
    ],
)
def test_a_full_disk_keeps_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: int
) -> None:
    with new_writer(tmp_path / "s") as writer:
        monkeypatch.setattr(writer_module, "_write_all", FullDisk(room))
        with pytest.raises(
            BundleError, match=r"No space left on device; \d+ frames in \d shards? can still"
        ) as info:
            for seed in range(8):
                writer.append(*episode(8, seed), split="train")
        with pytest.raises(StateError):
            writer.append(*episode(8, 0), split="train")
    store = ClipStore.open(tmp_path / "s")
    assert store.num_frames == kept
    assert f"; {kept} frames in " in str(info.value)
    for index in range(len(store.episodes)):
        np.testing.assert_array_equal(store.episode_frames(index), episode(8, index)[0])


def test_a_full_disk_before_the_first_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_write_all", FullDisk(10))
    with pytest.raises(BundleError, match="0 frames in 0 shards can still be read"):
        new_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_keeps_what_was_committed(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    for seed in range(4):
        writer.append(*episode(8, seed), split="train")
    writer.append_side_file("log.u8", b"abc")
    # No close: this is what a kill leaves behind, one committed shard and one without an index entry.
    assert (tmp_path / "frames-00001.u8").exists()
    store = ClipStore.open(tmp_path)
    assert store.num_frames == 24 and store.side_files == {}


def test_an_interrupt_keeps_the_episodes_that_were_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: Any, data: memoryview) -> None:
        file.write(data[:100])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_writer(tmp_path) as writer:
        writer.append(*episode(8, 0), split="train")
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "_write_all", interrupted)
            writer.append(*episode(8, 1), split="train")
    store = ClipStore.open(tmp_path)
    assert store.num_frames == 8
    np.testing.assert_array_equal(store.episode_frames(0), episode(8, 0)[0])


def halves(episodes: Sequence[Episode]) -> list[Episode]:
    """Every episode cut in the middle; of the last one the end is held out."""
    parts = []
    for number, each in enumerate(episodes):
        half = each.length // 2
        split: Split = "heldout" if number + 1 == len(episodes) else "train"
        parts.append(replace(each, length=half, split="train"))
        parts.append(replace(each, start=each.start + half, length=each.length - half, split=split))
    return parts


def test_splits_may_be_decided_at_every_commit(tmp_path: Path) -> None:
    with ClipStoreWriter(
        tmp_path, source="test", height=HEIGHT, width=WIDTH, arrange=halves, shard_bytes=16 * FRAME_BYTES
    ) as writer:
        for seed in range(3):
            writer.append(episode(8, seed)[0], split="train")
        store = ClipStore.open(tmp_path)  # two of them are committed
        assert [(e.shard, e.start, e.length, e.split) for e in store.episodes] == [
            (0, 0, 4, "train"),
            (0, 4, 4, "train"),
            (0, 8, 4, "train"),
            (0, 12, 4, "heldout"),
        ]
    store = ClipStore.open(tmp_path)
    assert [e.split for e in store.episodes] == [*["train"] * 5, "heldout"]
    assert store.episodes[5].shard == 1
    np.testing.assert_array_equal(store.episode_frames(5), episode(8, 2)[0][4:])


def edit(store: ClipStore, **changes: Any) -> None:
    """Rewrite `store.json`; a dotted key such as `episodes.start` is written with two underscores."""
    path = store.path / "store.json"
    data = json.loads(path.read_text())
    for key, value in changes.items():
        target = data
        *parents, last = key.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"schema_version": "1"},
        {"schema_version": True},
        {"height": 0},
        {"height": 10**9},
        {"width": 8.0},
        {"width": None},
        {"height": HEIGHT + 1},
        {"source": 3},
        {"action_names": ["left", "left"]},
        {"action_names": ["left", 1, "stay"]},
        {"action_names": ["a" * 65]},
        {"action_names": ["left"]},
        {"provenance": []},
        {"shards": [25]},
        {"shards": [25, 26]},
        {"shards": [25, 25, 1]},
        {"shards": [25, 0]},
        {"shards": [25, 10**30]},
        {"shards": [25, -25]},
        {"shards": "25"},
        {"side_files": {"log.u8": 5}},
        {"side_files": {"log.u8": -1}},
        {"side_files": {"../store/log.u8": 1}},
        {"side_files": {"/etc/passwd": 1}},
        {"side_files": {"none.u8": 0}},
        {"episodes": []},
        {"episodes__start": [0, 20, 0, -1]},
        {"episodes__start": [0, 20, 0, 10]},
        {"episodes__start": [0, 20, 0, 8]},
        {"episodes__start": [0, 19, 0, 9]},
        {"episodes__start": [0, 20, 0]},
        {"episodes__start": [0, 20, 0, 9.0]},
        {"episodes__start": [0, 20, 0, None]},
        {"episodes__length": [20, 5, 9, 17]},
        {"episodes__length": [20, 5, 9, 0]},
        {"episodes__length": [20, 5, 9, 10**30]},
        {"episodes__shard": [0, 0, 1, 2]},
        {"episodes__shard": [0, 0, 1, -1]},
        {"episodes__split": [0, 0, 1, 2]},
        {"episodes__split": [0, 0, 1, "train"]},
        {"episodes__extra": {"level": [1, 2]}},
        {"episodes__extra": {"level": [1, 2, 3, "x"]}},
    ],
    ids=lambda changes: "-".join(f"{k}={v}"[:60] for k, v in changes.items()),
)
def test_a_changed_index_is_refused(store: ClipStore, changes: dict[str, Any]) -> None:
    edit(store, **changes)
    with pytest.raises(BundleError, match=r"(?s)store.*expected.*found"):
        ClipStore.open(store.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", "[" * 100_000, '{"schema_version": 1}'])
def test_an_index_that_is_no_index_is_refused(store: ClipStore, text: str) -> None:
    (store.path / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"(?s)store\.json.*expected.*found"):
        ClipStore.open(store.path)


def test_a_missing_key_is_refused_by_name(store: ClipStore) -> None:
    complete = json.loads((store.path / "store.json").read_text())
    for key in complete:
        partial = {name: value for name, value in complete.items() if name != key}
        (store.path / "store.json").write_text(json.dumps(partial))
        with pytest.raises(BundleError, match=key):
            ClipStore.open(store.path)


@pytest.mark.parametrize("name", ["frames-00001.u8", "actions-00000.i16", "log.u8"])
@pytest.mark.parametrize("how", ["shorter", "longer", "missing", "folder", "link"])
def test_a_changed_file_is_refused(store: ClipStore, tmp_path: Path, name: str, how: str) -> None:
    path = store.path / name
    data = path.read_bytes()
    if how == "shorter":
        path.write_bytes(data[:-1])
    elif how == "longer":
        path.write_bytes(data + b"x")
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link":
            (tmp_path / "outside").write_bytes(data)
            path.symlink_to(tmp_path / "outside")
    if (name, how) == ("log.u8", "longer"):
        # A kill may leave a log that is ahead of the index; the rest is not read.
        assert ClipStore.open(store.path).read_side_file(name) == data
        return
    with pytest.raises(BundleError, match=rf"{name}.*expected.*found"):
        ClipStore.open(store.path)


def test_actions_out_of_range_are_refused(store: ClipStore) -> None:
    path = store.path / "actions-00000.i16"
    for position, value in [(3, 3), (3, -2), (0, 1), (20, 0)]:
        actions = np.fromfile(path, "<i2")
        actions[position] = value
        original = path.read_bytes()
        path.write_bytes(actions.tobytes())
        with pytest.raises(BundleError, match=r"actions-00000\.i16.*expected.*found"):
            ClipStore.open(store.path)
        path.write_bytes(original)


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match="nothing of that name"):
            ClipStore.open(path)


def test_an_empty_store_opens_and_says_that_it_has_no_clips(tmp_path: Path) -> None:
    new_writer(tmp_path).close()
    store = ClipStore.open(tmp_path)
    assert store.num_frames == 0
    with pytest.raises(InputError, match="0 train episodes"):
        store.clips()
