"""Writing a clip store so that a full disk or a kill keeps every shard that was committed.

The data of a shard reach the disk first (fsync), then `store.json` is replaced atomically by one that names
them. Files that no index names yet are ignored by readers and removed or overwritten by writers.
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import BundleError, InputError, StateError
from genie_rt.interrupt import Cleanup
from genie_rt.runtime.folder_lock import sole_writer
from genie_rt.runtime.units import plural
from genie_rt.training.data.store import (
    INDEX_NAME,
    MAX_ACTIONS,
    MAX_SIDE_PIXELS,
    NO_ACTION,
    SCHEMA_VERSION,
    SPLITS,
    Episode,
    Frames,
    Split,
    actions_name,
    frames_name,
    is_side_name,
)

SHARD_BYTES = 128 << 20

Arrange = Callable[[Sequence[Episode]], Sequence[Episode]]
"""What the index says of the episodes that were appended: other splits, or several parts of one episode."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def store_lock(path: Path) -> contextlib.AbstractContextManager[None]:
    """Within its block this process alone writes a store to `path`, a folder that is made if it is missing.

    Raises:
        StateError: another process writes one there.
        BundleError: nothing can be written there.
    """
    return sole_writer(path / ".lock", path, "recording into it", error=BundleError)


def refuse_other_store(path: Path) -> None:
    """Raise InputError where the folder holds a store."""
    if (path / INDEX_NAME).exists():
        raise InputError(f"{path} holds a clip store already; choose another folder or delete it first")


class ClipStoreWriter:
    """Appends episodes to a new store; a context manager that commits the last shard on a clean exit.

    Args:
        path: folder to make; it must not hold a store yet.
        source: "coinrun", "video" or another word for where the frames come from.
        height, width: size of all frames.
        action_names: what the action indices mean; empty for videos.
        provenance: JSON-able facts that suffice to make the store again.
        shard_bytes: a shard is committed once it holds this many bytes of frames.
        arrange: makes the episodes of the index out of those that were appended, anew at every commit: so a
            split may depend on all of them, and yet every index is valid. It keeps the order of the frames,
            and what it returns begins where no action led, as in videos. None takes them as they are.
        is_locked: the caller is the sole writer of the folder already.

    Raises:
        InputError: if the folder holds a store already or an argument cannot be stored.
        BundleError: if the disk refuses to take the data; what was committed stays readable.
        StateError: if another process writes a store there.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: str,
        height: int,
        width: int,
        action_names: tuple[str, ...] = (),
        provenance: dict[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
        arrange: Arrange | None = None,
        is_locked: bool = False,
    ) -> None:
        self._lock = contextlib.ExitStack()
        self._arrange = arrange
        if not is_locked:
            self._lock.enter_context(store_lock(path))
        try:
            self._begin(path, source, height, width, action_names, provenance, shard_bytes)
        except BaseException:
            self._lock.close()
            raise

    def _begin(
        self,
        path: Path,
        source: str,
        height: int,
        width: int,
        action_names: tuple[str, ...],
        provenance: dict[str, Any] | None,
        shard_bytes: int,
    ) -> None:
        refuse_other_store(path)
        if not (1 <= height <= MAX_SIDE_PIXELS and 1 <= width <= MAX_SIDE_PIXELS):
            raise InputError(f"frames must be 1 to {MAX_SIDE_PIXELS} pixels a side, got {width}x{height}")
        if len(action_names) > MAX_ACTIONS or len(set(action_names)) != len(action_names):
            raise InputError(f"expected at most {MAX_ACTIONS} different action names, got {action_names}")
        self.path = path
        self.frame_shape = (height, width, 3)
        self.num_actions = len(action_names)
        self._frame_bytes = height * width * 3
        self._shard_bytes = shard_bytes
        self._head = {
            "schema_version": SCHEMA_VERSION,
            "source": source,
            "height": height,
            "width": width,
            "action_names": list(action_names),
            "provenance": provenance or {},
        }
        self._shards: list[int] = []
        self._episodes: list[Episode] = []
        # Of the open shard, whose files no index names yet. Each list grows by one append, so that Ctrl-C
        # at any moment leaves the two in step.
        self._pending: list[tuple[Episode, NDArray[np.int16]]] = []
        self._frames_file: BinaryIO | None = None
        self._side_files: dict[str, BinaryIO] = {}
        self._closed = False
        self._cleanup = Cleanup(self.close)
        with self._keeping_what_is_committed():
            path.mkdir(parents=True, exist_ok=True)
            self._write_index([])

    def __enter__(self) -> Self:
        self._cleanup.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after an error or Ctrl-C the episodes that were appended whole are worth keeping.
        self._cleanup.__exit__(kind, error, trace)
        if not self._closed:
            self.close()

    def append(
        self,
        frames: Frames,
        actions: NDArray[Any] | None = None,
        *,
        split: Split,
        extra: dict[str, int] | None = None,
    ) -> None:
        """Add one episode; it is safe on the disk after the next commit.

        Args:
            frames: [T, H, W, 3] uint8.
            actions: [T] integers; `actions[t]` led to frame t; `actions[0]` must be -1. None where there are
                no actions, as in videos.
            split: "train" or "heldout".
            extra: integers to keep with the episode, the same keys for all episodes of a store.
        """
        if self._closed:
            raise StateError("append after close; open a new ClipStoreWriter on another folder")
        if actions is None:
            actions = np.full(len(frames), NO_ACTION, dtype=np.int16)
        self._check_episode(frames, actions, split)
        extra = {key: int(value) for key, value in (extra or {}).items()}
        known = [*self._episodes[:1], *(episode for episode, _ in self._pending[:1])]
        if known and extra.keys() != known[0].extra.keys():
            raise InputError(f"expected the extra keys {sorted(known[0].extra)}, got {sorted(extra)}")
        start = self._num_pending()
        with self._keeping_what_is_committed():
            if self._frames_file is None:
                self._frames_file = (self.path / frames_name(len(self._shards))).open("wb", buffering=0)
            self._frames_file.seek(start * self._frame_bytes)
            _write_all(self._frames_file, np.ascontiguousarray(frames).data.cast("B"))
        episode = Episode(shard=len(self._shards), start=start, length=len(frames), split=split, extra=extra)
        self._pending.append((episode, actions.astype("<i2")))
        if (start + len(frames)) * self._frame_bytes >= self._shard_bytes:
            self.commit()

    def append_side_file(self, name: str, data: bytes) -> None:
        """Append bytes to a side file, such as an action log; committed together with the next shard."""
        if not is_side_name(name):
            raise InputError(f"expected a plain lower-case file name such as 'log-train.u8', got {name!r}")
        with self._keeping_what_is_committed():
            if name not in self._side_files:
                self._side_files[name] = (self.path / name).open("wb", buffering=0)
            _write_all(self._side_files[name], memoryview(data))

    def commit(self) -> None:
        """Make everything that was appended durable: fsync the data, then replace the index."""
        with self._keeping_what_is_committed():
            shards = list(self._shards)
            if self._pending:
                if self._frames_file is not None:
                    self._frames_file.close()
                    self._frames_file = None
                count = self._num_pending()
                with (self.path / frames_name(len(shards))).open("r+b", buffering=0) as file:
                    # Ctrl-C may have left part of an episode at the end.
                    file.truncate(count * self._frame_bytes)
                    os.fsync(file.fileno())
                with (self.path / actions_name(len(shards))).open("wb", buffering=0) as file:
                    actions = np.concatenate([actions for _, actions in self._pending])
                    _write_all(file, actions.data.cast("B"))
                    os.fsync(file.fileno())
                shards.append(count)
            for side in self._side_files.values():
                os.fsync(side.fileno())
            self._write_index(shards)

    def close(self) -> None:
        """Commit and let go of all files. Further calls do nothing."""
        if not self._closed:
            self.commit()
            self._let_go()

    @property
    def num_frames(self) -> int:
        """Number of committed frames."""
        return sum(self._shards)

    def _num_pending(self) -> int:
        return sum(episode.length for episode, _ in self._pending)

    def _check_episode(self, frames: Frames, actions: NDArray[Any], split: str) -> None:
        if (
            frames.dtype != np.uint8
            or frames.ndim != 4
            or frames.shape[1:] != self.frame_shape
            or not len(frames)
        ):
            expected = ", ".join(map(str, self.frame_shape))
            raise InputError(
                f"expected frames [T, {expected}] uint8, got {list(frames.shape)} {frames.dtype}"
            )
        if actions.shape != (len(frames),) or actions.dtype.kind not in "iu":
            raise InputError(f"expected {len(frames)} integer actions, got {actions.shape} {actions.dtype}")
        if actions[0] != NO_ACTION or actions.min() < NO_ACTION or actions.max() >= self.num_actions:
            raise InputError(
                f"expected actions from {NO_ACTION} to {self.num_actions - 1} that begin with {NO_ACTION}, "
                f"got {actions.min()} to {actions.max()} that begin with {actions[0]}"
            )
        if split not in SPLITS:
            raise InputError(f"split must be one of {SPLITS}, got {split!r}")

    def _write_index(self, shards: list[int]) -> None:
        appended = self._episodes + [episode for episode, _ in self._pending]
        episodes = appended if self._arrange is None else self._arrange(appended)
        extra_keys = episodes[0].extra.keys() if episodes else ()
        index = self._head | {
            "shards": shards,
            "side_files": {name: file.tell() for name, file in self._side_files.items()},
            "episodes": {
                "shard": [episode.shard for episode in episodes],
                "start": [episode.start for episode in episodes],
                "length": [episode.length for episode in episodes],
                "split": [SPLITS.index(episode.split) for episode in episodes],
                "extra": {key: [episode.extra[key] for episode in episodes] for key in extra_keys},
            },
        }
        temporary = self.path / (INDEX_NAME + ".tmp")
        with temporary.open("wb", buffering=0) as file:
            _write_all(file, memoryview(json.dumps(index, separators=(",", ":")).encode()))
            os.fsync(file.fileno())
        temporary.replace(self.path / INDEX_NAME)
        self._shards, self._episodes, self._pending = shards, appended, []
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _keeping_what_is_committed(self) -> Iterator[None]:
        """Turn a disk failure into a BundleError that says what is kept; drop the open shard's files."""
        try:
            yield
        except OSError as error:
            self._let_go()
            shard = len(self._shards)
            for name in (frames_name(shard), actions_name(shard), INDEX_NAME + ".tmp"):
                with contextlib.suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)
            raise BundleError(
                f"{self.path}: writing failed: {error.strerror or error}; "
                f"{plural(self.num_frames, 'frame')} in {plural(shard, 'shard')} can still be read; "
                f"{'free some space and ' if error.errno in _FULL else ''}write the rest to another folder"
            ) from error

    def _let_go(self) -> None:
        self._closed = True
        files = [*self._side_files.values(), *([self._frames_file] if self._frames_file else [])]
        for file in files:
            with contextlib.suppress(OSError):
                file.close()
        self._frames_file = None
        self._lock.close()


def _write_all(file: BinaryIO, data: memoryview) -> None:
    # A raw write may be short when the disk fills up; the next one then raises.
    while data:
        data = data[file.write(data) :]
