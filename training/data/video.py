"""Importing a user's own videos into a clip store: decode, resample, shrink, split at cuts, drop stills.

`video_files` finds the files, `video_source` and `video_picture` read them, `heldout` says what is held out.
A file that breaks is reported and the others go on.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.interrupt import Cleanup
from genie_rt.runtime.units import plural
from genie_rt.training.data.heldout import held_out_tails, split_pieces
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.data.store import ClipStore, Episode, Frames
from genie_rt.training.data.video_files import find_videos, shown_name
from genie_rt.training.data.video_options import VideoOptions
from genie_rt.training.data.writer import ClipStoreWriter, refuse_other_store, store_lock

try:
    from genie_rt.training.data.video_picture import UnusableVideoError
    from genie_rt.training.data.video_source import VideoSource
except ImportError as error:
    raise UnsupportedError(f"videos need PyAV ({error}); install it with: {install_hint('train')}") from error

__all__ = ["VideoOptions", "VideoReport", "VideoResult", "import_videos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """Result of importing one file.

    `problem` is None where all of it was read; `notes` say what was changed or assumed.
    """

    file: Path
    num_frames: int
    num_episodes: int
    problem: str | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = shown_name(self.file)
        kept = f"{plural(self.num_frames, 'frame')} in {plural(self.num_episodes, 'episode')}"
        notes = "".join(f"; {note}" for note in self.notes)
        if self.problem is None:
            return f"{name}: {kept}{notes}"
        return f"{name}: {'kept ' + kept if self.num_frames else 'skipped'}: {self.problem}{notes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """The new store, what became of each file, and notes about which files were taken."""

    store: ClipStore
    results: tuple[VideoResult, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> tuple[VideoResult, ...]:
        return tuple(result for result in self.results if result.problem is not None)


def import_videos(paths: Sequence[Path], out: Path, *, options: VideoOptions | None = None) -> VideoReport:
    """Import videos into a new store; about a tenth of the frames is held out, as `heldout` says.

    Files that cannot be read, or only in part, are printed to stderr and reported; what came well before the
    break is kept. A file that is given twice is imported once. The actions of all frames are -1.

    Args:
        paths: the videos, of any size and rate, or folders of videos.
        out: folder of the new store.
        options: see `VideoOptions`.

    Raises:
        InputError: if no file yields an episode, a folder holds no video, or `out` holds a store already.
        StateError: if another process writes a store to `out`.
        BundleError: if `out` cannot be written; the store then holds what was committed before.
    """
    options = options or VideoOptions()
    found = find_videos(paths)
    results: list[VideoResult] = []
    with (
        _leaving_no_empty_folder(out),
        store_lock(out),
        progress_bar() as progress,
    ):
        refuse_other_store(out)
        with _SceneSink(out, found.files, options) as sink:
            for note in found.notes:
                progress.console.print(note, markup=False, highlight=False, soft_wrap=True)
            for file in progress.track(found.files, description="Importing"):
                results.append(_import_file(file, sink, options))
                if results[-1].problem is not None:
                    progress.console.print(str(results[-1]), markup=False, highlight=False, soft_wrap=True)
    if not any(result.num_frames for result in results):
        raise InputError("no video could be imported:\n" + "\n".join(map(str, results)))
    return VideoReport(store=ClipStore.open(out), results=tuple(results), notes=found.notes)


def _import_file(file: Path, sink: "_SceneSink", options: VideoOptions) -> VideoResult:
    source = VideoSource(file, options)
    frames, episodes, problem = 0, 0, None
    try:
        for piece in _pieces(source.frames(), options):
            sink.add(piece)
            frames, episodes = frames + len(piece.frames), episodes + 1
    except UnusableVideoError as error:
        problem = str(error)
    if not episodes and problem is None:
        problem = f"no moving scene of at least {options.min_frames} frames at {options.fps:g} a second"
    return VideoResult(
        file=file, num_frames=frames, num_episodes=episodes, problem=problem, notes=source.notes
    )


@contextlib.contextmanager
def _leaving_no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove what the block made of the folder and those above it, as far as they are empty in the end."""
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]

    def remove() -> None:
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()

    try:
        with Cleanup(remove):
            yield
    finally:
        remove()


class _Piece(NamedTuple):
    """Frames [T, H, W, 3] uint8 of one scene; `continues` where they follow the piece before at once."""

    frames: Frames
    continues: bool


def _pieces(frames: Iterator[Frames | None], options: VideoOptions) -> Iterator[_Piece]:
    """Cut a stream of frames into moving scenes, and long scenes into pieces.

    When the stream breaks, the scene that was open comes before the error goes on.
    """
    piece: list[Frames] = []
    continues = False
    try:
        for frame in frames:
            is_over = frame is None or _is_cut(piece, frame, options)
            if is_over or len(piece) == options.max_frames:
                is_kept = _is_worth_keeping(piece, options)
                if is_kept:
                    yield _Piece(np.stack(piece), continues)
                piece, continues = [], is_kept and not is_over
            if frame is not None:
                piece.append(frame)
    except UnusableVideoError:
        if _is_worth_keeping(piece, options):
            yield _Piece(np.stack(piece), continues)
        raise
    if _is_worth_keeping(piece, options):
        yield _Piece(np.stack(piece), continues)


def _is_cut(piece: list[Frames], frame: Frames, options: VideoOptions) -> bool:
    return bool(piece) and _difference(piece[-1], frame) > options.cut_threshold


def _is_worth_keeping(piece: list[Frames], options: VideoOptions) -> bool:
    if len(piece) < options.min_frames:
        return False
    motion = np.mean([_difference(a, b) for a, b in itertools.pairwise(piece)])
    return bool(motion >= options.static_threshold)


def _difference(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


class _SceneSink:
    """Appends pieces, and says of all scenes so far, at every commit, which frames are held out.

    The writer is made with the first piece, so that an import without any leaves no store behind.
    """

    def __init__(self, out: Path, files: Sequence[Path], options: VideoOptions) -> None:
        self._out, self._files, self._options = out, files, options
        self._writer: ClipStoreWriter | None = None
        # Of each piece its scene, and of each scene a digest of its pieces. They may be ahead of the episodes
        # by one, so that a commit or Ctrl-C at any moment finds what it needs.
        self._scenes: list[int] = []
        self._digests: list[bytes] = []
        self._cleanup = Cleanup(self._finish)

    def __enter__(self) -> Self:
        self._cleanup.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)
        # After a disk that failed there is nothing to save; after Ctrl-C there is.
        if not isinstance(error, BundleError):
            self._finish()

    def add(self, piece: _Piece) -> None:
        if self._writer is None:
            self._writer = self._new_writer()
        digest = hashlib.sha256(piece.frames.data).digest()
        if piece.continues:
            self._digests[-1] = hashlib.sha256(self._digests[-1] + digest).digest()
        else:
            self._digests.append(digest)
        self._scenes.append(len(self._digests) - 1)
        self._writer.append(piece.frames, split="train")

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _new_writer(self) -> ClipStoreWriter:
        return ClipStoreWriter(
            self._out,
            source="video",
            height=self._options.height,
            width=self._options.width,
            provenance={
                "files": [shown_name(Path(file.name)) for file in self._files],
                "options": asdict(self._options),
            },
            arrange=self._arrange,
            is_locked=True,
        )

    def _arrange(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Part each scene into what is trained on and what is held out at its end."""
        scenes: dict[int, list[Episode]] = {}
        for scene, episode in zip(self._scenes, episodes, strict=False):
            scenes.setdefault(scene, []).append(episode)
        lengths = [[piece.length for piece in pieces] for pieces in scenes.values()]
        min_frames = self._options.min_frames
        digests = [self._digests[scene] for scene in scenes]
        tails = held_out_tails([sum(each) for each in lengths], digests, min_frames=min_frames)
        arranged: list[Episode] = []
        for pieces, each, tail in zip(scenes.values(), lengths, tails, strict=True):
            split = split_pieces(each, tail, min_frames=min_frames)
            for piece, parts in zip(pieces, split, strict=True):
                start = piece.start
                for length, part in parts:
                    arranged.append(replace(piece, start=start, length=length, split=part))
                    start += length
        return arranged
