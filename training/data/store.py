"""The clip store: a folder of raw frames and actions that every source writes and every training reads.

    store.json          schema, picture size, action names, provenance, shards, episodes (column by column)
    frames-00000.u8     uint8 [n, H, W, 3], the frames of shard 0, read through a memory map
    actions-00000.i16   little-endian int16 [n], the action that led to each of those frames
    log-train.u8, ...   side files of the source, here the action log of a recording

`actions[t]` is the action that LED TO frame t, an index into `action_names`; it is -1 at the first frame of
an episode and everywhere in videos. An episode lies in one shard, shards are numbered without gaps and their
names follow from the number, so no name in `store.json` can point outside the folder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genie_rt.errors import BundleError, InputError
from genie_rt.runtime.untrusted_json import read_json

SCHEMA_VERSION = 1
INDEX_NAME = "store.json"
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)
NO_ACTION = -1

MAX_INDEX_BYTES = 256 << 20
MAX_SIDE_BYTES = 4 << 30
MAX_SIDE_PIXELS = 4096
MAX_ACTIONS = 1024
MAX_COUNT = 1 << 40
SIDE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.[a-z0-9]{1,8}")

Frames = NDArray[np.uint8]
Actions = NDArray[np.int64]


def frames_name(shard: int) -> str:
    return f"frames-{shard:05d}.u8"


def actions_name(shard: int) -> str:
    return f"actions-{shard:05d}.i16"


def is_side_name(name: object) -> bool:
    """Whether a side file may bear this name: one plain component that is not the index or a shard."""
    plain = isinstance(name, str) and SIDE_NAME.fullmatch(name) is not None
    return plain and name != INDEX_NAME and not str(name).startswith(("frames-", "actions-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A run of frames without a cut: frames `[start, start + length)` of one shard.

    `extra` holds integers that the source adds, such as the level's seed.
    """

    shard: int
    start: int
    length: int
    split: Split
    extra: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """A window of one episode.

    Attributes:
        frames: [T, H, W, 3] uint8, a copy.
        actions: [T] int64; `actions[t]` led to frame t, also at t = 0; -1 where there was none.
        episode: index into `store.episodes`.
        start: position of the first frame in its episode.
    """

    frames: Frames
    actions: Actions
    episode: int
    start: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipStore:
    """A store opened for reading. Make one with `ClipStore.open`; it pickles as its path."""

    path: Path
    source: str
    height: int
    width: int
    action_names: tuple[str, ...]
    provenance: dict[str, Any]
    shards: tuple[int, ...]
    episodes: tuple[Episode, ...]
    side_files: dict[str, int]

    @classmethod
    def open(cls, path: Path | str) -> "ClipStore":
        """Open a store and check all of it but the pixels.

        Raises:
            BundleError: if a file is missing or is not what `store.json` says; it names the file, what was
                expected and what was found.
        """
        store = _parse(Path(path))
        for shard, actions in enumerate(store.shard_actions):
            _check_actions(store, shard, actions)
        _ = store.shard_frames
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipStore.open, (self.path,)

    @property
    def num_frames(self) -> int:
        return sum(self.shards)

    @cached_property
    def shard_frames(self) -> tuple[Frames, ...]:
        """The memory map of each shard, [n, H, W, 3] uint8, read-only."""
        return tuple(
            np.memmap(
                self.path / frames_name(shard), np.uint8, "r", shape=(count, self.height, self.width, 3)
            )
            for shard, count in enumerate(self.shards)
        )

    @cached_property
    def shard_actions(self) -> tuple[NDArray[np.int16], ...]:
        """The actions of each shard, [n] int16."""
        return tuple(
            np.fromfile(self.path / actions_name(shard), "<i2", count)
            for shard, count in enumerate(self.shards)
        )

    def episode_frames(self, episode: int) -> Frames:
        """All frames of one episode, [length, H, W, 3] uint8, a read-only view of the memory map."""
        entry = self.episodes[episode]
        return self.shard_frames[entry.shard][entry.start : entry.start + entry.length]

    def episode_actions(self, episode: int) -> Actions:
        """All actions of one episode, [length] int64."""
        entry = self.episodes[episode]
        return self.shard_actions[entry.shard][entry.start : entry.start + entry.length].astype(np.int64)

    def read_side_file(self, name: str) -> bytes:
        """The committed bytes of a side file.

        Raises:
            BundleError: if the store has no such file.
        """
        if name not in self.side_files:
            raise BundleError(f"{self.path}: expected a side file {name!r}, found {sorted(self.side_files)}")
        with (self.path / name).open("rb") as file:
            return file.read(self.side_files[name])

    def clips(self, length: int = 16, split: Split = "train", stride: int = 1) -> "Clips":
        """All windows of `length` frames that lie inside one episode, `stride` frames between their starts.

        Raises:
            InputError: if there is none; it says how long the longest episode is.
        """
        if split not in SPLITS:
            raise InputError(f"split must be one of {SPLITS}, got {split!r}")
        if length < 1 or stride < 1:
            raise InputError(f"length and stride must be at least 1, got {length} and {stride}")
        ids = np.array([i for i, entry in enumerate(self.episodes) if entry.split == split], dtype=np.int64)
        lengths = np.array([self.episodes[i].length for i in ids], dtype=np.int64)
        counts = np.maximum((lengths - length) // stride + 1, 0)
        if not counts.any():
            raise InputError(
                f"{self.path}: no {split} clip of {length} frames: {len(ids)} {split} episodes, the longest "
                f"has {int(lengths.max(initial=0))} frames; ask for shorter clips or record more"
            )
        return Clips(store=self, length=length, stride=stride, ids=ids, ends=np.cumsum(counts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """A sequence of windows. The index is one cumulative sum over episodes, never a list of all windows."""

    store: ClipStore
    length: int
    stride: int
    ids: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        frames, actions = self.batch([index])
        episodes, starts = self.locate([index])
        return Clip(frames=frames[0], actions=actions[0], episode=int(episodes[0]), start=int(starts[0]))

    def locate(self, indices: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The episode of each clip and its start in that episode, two [B] int64."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or ((wanted < 0) | (wanted >= len(self))).any():
            raise InputError(f"expected a list of clips from 0 to {len(self) - 1}, got {_short(indices)}")
        row = np.searchsorted(self.ends, wanted, side="right")
        before = np.where(row > 0, self.ends[row - 1], 0)
        return self.ids[row], (wanted - before) * self.stride

    def batch(self, indices: ArrayLike) -> tuple[Frames, Actions]:
        """Copy the clips with these indices.

        Returns:
            frames [B, T, H, W, 3] uint8 and actions [B, T] int64, both contiguous and freshly allocated.
        """
        episodes, starts = self.locate(indices)
        store, length = self.store, self.length
        frames = np.empty((len(starts), length, store.height, store.width, 3), dtype=np.uint8)
        actions = np.empty((len(starts), length), dtype=np.int64)
        for row, (episode, start) in enumerate(zip(episodes.tolist(), starts.tolist(), strict=True)):
            entry = store.episodes[episode]
            first = entry.start + start
            frames[row] = store.shard_frames[entry.shard][first : first + length]
            actions[row] = store.shard_actions[entry.shard][first : first + length]
        return frames, actions

    def sample(self, batch: int, *, seed: int, step: int, rank: int = 0) -> tuple[Frames, Actions]:
        """A random batch, drawn with replacement: a pure function of the arguments and the store.

        A training that resumes at `step` therefore sees what it would have seen, without saved state.
        Returns what `batch` returns.
        """
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, rank])))
        return self.batch(random.integers(0, len(self), size=batch))


def _parse(path: Path) -> ClipStore:
    """Read and check `store.json` and the sizes of the files that it names."""
    index = path / INDEX_NAME
    found = read_json(
        index, max_bytes=MAX_INDEX_BYTES, expected="the index of a clip store", error=BundleError
    )
    fields = _Fields(index, found.value)
    fields.integer("schema_version", SCHEMA_VERSION, SCHEMA_VERSION)
    columns = _Fields(index, fields.get("episodes", dict), "episodes.")
    shards = fields.integers("shards", 1, MAX_COUNT)
    store = ClipStore(
        path=path,
        source=cast(str, fields.get("source", str)),
        height=fields.integer("height", 1, MAX_SIDE_PIXELS),
        width=fields.integer("width", 1, MAX_SIDE_PIXELS),
        action_names=fields.names("action_names"),
        provenance=cast(dict[str, Any], fields.get("provenance", dict)),
        shards=tuple(shards),
        episodes=_parse_episodes(index, columns, shards),
        side_files=_parse_side_files(index, fields),
    )
    frame_bytes = store.height * store.width * 3
    for shard, count in enumerate(shards):
        _check_size(path / frames_name(shard), count * frame_bytes)
        _check_size(path / actions_name(shard), count * 2)
    for name, committed in store.side_files.items():
        _check_size(path / name, committed, may_be_longer=True)
    return store


class _Fields:
    """Typed access to one JSON object; every refusal names the file, the key, and what was expected."""

    def __init__(self, path: Path, data: object, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(data, dict):
            raise BundleError(f"{path}: expected an object at {prefix or 'the top'}, found {_short(data)}")
        self.data = data

    def get(self, key: str, kind: type) -> object:
        value = self.data.get(key)
        if type(value) is not kind:
            raise self.error(key, kind.__name__, value)
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = cast(int, self.get(key, int))
        if not low <= value <= high:
            raise self.error(key, f"a number from {low} to {high}", value)
        return value

    def integers(self, key: str, low: int, high: int, count: int | None = None) -> list[int]:
        values = cast(list[int], self.get(key, list))
        if count is not None and len(values) != count:
            raise self.error(key, f"{count} numbers", f"{len(values)} numbers")
        for value in values:
            if type(value) is not int or not low <= value <= high:
                raise self.error(key, f"numbers from {low} to {high}", value)
        return values

    def names(self, key: str) -> tuple[str, ...]:
        values = cast(list[object], self.get(key, list))
        if len(values) > MAX_ACTIONS or len(set(map(str, values))) != len(values):
            raise self.error(key, f"at most {MAX_ACTIONS} different names", f"{len(values)} names")
        for value in values:
            if not isinstance(value, str) or not 0 < len(value) <= 64:
                raise self.error(key, "names of 1 to 64 characters", value)
        return tuple(cast(list[str], values))

    def error(self, key: str, expected: str, found: object) -> BundleError:
        return BundleError(f"{self.path}: {self.prefix}{key}: expected {expected}, found {_short(found)}")


def _parse_episodes(index: Path, columns: _Fields, shards: Sequence[int]) -> tuple[Episode, ...]:
    lengths = columns.integers("length", 1, MAX_COUNT)
    num = len(lengths)
    shard = columns.integers("shard", 0, len(shards) - 1, num)
    start = columns.integers("start", 0, MAX_COUNT, num)
    split = columns.integers("split", 0, len(SPLITS) - 1, num)
    extras = _Fields(index, columns.get("extra", dict), "episodes.extra.")
    extra = {key: extras.integers(key, -MAX_COUNT, MAX_COUNT, num) for key in extras.data}
    end_of_last = (0, 0)
    for i in range(num):
        end = (shard[i], start[i] + lengths[i])
        if end[1] > shards[shard[i]]:
            raise columns.error("length", f"episode {i} to end by frame {shards[shard[i]]}", end[1])
        if (shard[i], start[i]) < end_of_last:
            raise columns.error("start", f"episode {i} to begin after {end_of_last}", (shard[i], start[i]))
        end_of_last = end
    return tuple(
        Episode(
            shard=shard[i],
            start=start[i],
            length=lengths[i],
            split=SPLITS[split[i]],
            extra={key: column[i] for key, column in extra.items()},
        )
        for i in range(num)
    )


def _parse_side_files(index: Path, fields: _Fields) -> dict[str, int]:
    side = _Fields(index, fields.get("side_files", dict), "side_files.")
    for name in side.data:
        if not is_side_name(name):
            raise side.error(str(name)[:80], "a plain file name inside the store", name)
    return {name: side.integer(name, 0, MAX_SIDE_BYTES) for name in side.data}


def _check_size(path: Path, expected: int, *, may_be_longer: bool = False) -> None:
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path}: expected a regular file of {expected} bytes, found none")
    found = path.stat().st_size
    if found < expected or (found > expected and not may_be_longer):
        raise BundleError(
            f"{path}: expected {expected} bytes, found {found}; the file is truncated or changed"
        )


def _check_actions(store: ClipStore, shard: int, actions: NDArray[np.int16]) -> None:
    path, highest = store.path / actions_name(shard), len(store.action_names) - 1
    if actions.min() < NO_ACTION or actions.max() > highest:
        found = f"{actions.min()} to {actions.max()}"
        raise BundleError(f"{path}: expected actions from {NO_ACTION} to {highest}, found {found}")
    starts = np.array([entry.start for entry in store.episodes if entry.shard == shard], dtype=np.int64)
    if (actions[starts] != NO_ACTION).any():
        raise BundleError(f"{path}: expected {NO_ACTION} at the first frame of each episode, found an action")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
