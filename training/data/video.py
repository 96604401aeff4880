"""Importing a user's own videos into a clip store: decode, resample, shrink, split at cuts, drop stills.

Videos are untrusted. Only common containers are opened, through a file object and never by name, so that no
playlist can point to other files or hosts; picture size, aspect and duration are bounded. A file that breaks
is reported and the others go on.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.interrupt import Cleanup
from genie_rt.runtime.units import plural
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.data.store import INDEX_NAME, SPLITS, ClipStore, Frames, Split
from genie_rt.training.data.writer import ClipStoreWriter

try:
    import av
    from av.video.reformatter import VideoReformatter
except ImportError as error:
    raise UnsupportedError(f"videos need PyAV ({error}); install it with: {install_hint('train')}") from error

# ffmpeg's names; "mov" covers mp4 and "matroska" covers webm.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,gif"
MAX_ASPECT = 8
MAX_SOURCE_HZ = 240
MAX_GAP_SECONDS = 1.0
MAX_SIDE = 1024
MAX_EPISODE_BYTES = 256 << 20
HELDOUT_ONE_IN = 10
# A part of the time between two stored frames, so that rounded time stamps do not skip a beat.
SLACK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """Settings for turning videos into episodes.

    Attributes:
        height, width: size to store, pixels; the picture is shrunk to cover it and cropped at the centre.
        fps: frames per second to store: the first at or after each tick, repeated where the video is slower.
        cut_threshold: a scene cut is where neighbouring stored frames differ by more than this in the mean
            over pixels and channels, of 255. Motion in a game stays below 30, most cuts exceed 50.
        static_threshold: an episode is dropped where its mean difference between neighbours is below this.
        min_frames, max_frames: shorter episodes are dropped and longer ones are cut.
        max_pixels: videos with more pixels a frame are refused.
        max_seconds: what comes later in a video is not read.
    """

    height: int = 64
    width: int = 64
    fps: float = 10.0
    cut_threshold: float = 40.0
    static_threshold: float = 0.5
    min_frames: int = 16
    max_frames: int = 512
    max_pixels: int = 7680 * 4320
    max_seconds: float = 4 * 3600.0

    def __post_init__(self) -> None:
        if not (8 <= self.height <= MAX_SIDE and 8 <= self.width <= MAX_SIDE):
            raise InputError(f"expected 8 to {MAX_SIDE} pixels a side, got {self.width}x{self.height}")
        if not 0 < self.fps <= MAX_SOURCE_HZ or not self.max_seconds > 0:
            raise InputError(
                f"expected 0 < fps <= {MAX_SOURCE_HZ} and max_seconds > 0, got {self.fps}, {self.max_seconds}"
            )
        longest = min(self.max_frames, MAX_EPISODE_BYTES // (self.height * self.width * 3))
        if not 2 <= self.min_frames <= longest:
            raise InputError(f"expected 2 <= min_frames <= {longest}, got {self.min_frames}")
        object.__setattr__(self, "max_frames", longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """Result of importing one file. `problem` is None where all of it was read."""

    file: Path
    num_frames: int
    num_episodes: int
    problem: str | None

    def __str__(self) -> str:
        kept = f"{plural(self.num_frames, 'frame')} in {plural(self.num_episodes, 'episode')}"
        if self.problem is None:
            return f"{self.file}: {kept}"
        return f"{self.file}: {'kept ' + kept if self.num_frames else 'skipped'}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """The new store and what became of each file."""

    store: ClipStore
    results: tuple[VideoResult, ...]

    @property
    def problems(self) -> tuple[VideoResult, ...]:
        return tuple(result for result in self.results if result.problem is not None)


class _BrokenVideoError(Exception):
    """A file that cannot be read on; what was yielded before is good."""


def import_videos(files: Sequence[Path], out: Path, *, options: VideoOptions | None = None) -> VideoReport:
    """Import videos into a new store; about every tenth episode is held out, chosen by a hash of its name.

    Files that cannot be read, or only in part, are printed to stderr and reported; what came well before the
    break is kept. The actions of all frames are -1.

    Args:
        files: the videos, of any size and rate.
        out: folder of the new store.
        options: see `VideoOptions`.

    Raises:
        InputError: if no file yields an episode, or `out` holds a store already.
        BundleError: if the disk fills up; the store then holds what was committed before.
    """
    options = options or VideoOptions()
    if not files:
        raise InputError("expected at least one video file, got none")
    if (out / INDEX_NAME).exists():
        raise InputError(f"{out} holds a clip store already; choose another folder or delete it first")
    results: list[VideoResult] = []
    with _EpisodeSink(out, files, options) as sink, progress_bar() as progress:
        for file in progress.track(files, description="Importing"):
            frames, episodes, problem = 0, 0, None
            try:
                for episode in _episodes(_resampled(file, options), options):
                    sink.add(file.name, episodes, episode)
                    frames, episodes = frames + len(episode), episodes + 1
            except _BrokenVideoError as error:
                problem = str(error)
            if not episodes and problem is None:
                problem = (
                    f"no moving scene of at least {options.min_frames} frames at {options.fps:g} a second"
                )
            results.append(VideoResult(file=file, num_frames=frames, num_episodes=episodes, problem=problem))
            if problem is not None:
                progress.console.print(str(results[-1]), markup=False, highlight=False, soft_wrap=True)
    if not any(result.num_frames for result in results):
        raise InputError("no video could be imported:\n" + "\n".join(map(str, results)))
    return VideoReport(store=ClipStore.open(out), results=tuple(results))


def _resampled(file: Path, options: VideoOptions) -> Iterator[Frames | None]:
    """Yield the frames [H, W, 3] uint8 at the wanted rate, and None where time jumps.

    Raises:
        _BrokenVideoError: with the reason, when reading cannot go on.
    """
    try:
        if not file.is_file():
            raise _BrokenVideoError("no such file")
        with (
            file.open("rb") as data,
            av.open(data, "r", options={"format_whitelist": CONTAINERS}) as container,
        ):
            if not container.streams.video:
                raise _BrokenVideoError("it holds no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise _BrokenVideoError("its codec is none that ffmpeg knows")
            stream.thread_type = "SLICE"
            yield from _decode(container, stream, options)
    except _BrokenVideoError:
        raise
    except Exception as error:  # a decoder fed with broken bytes may raise anything
        raise _BrokenVideoError(f"cannot be decoded: {error}") from error


def _decode(
    container: "av.container.InputContainer", stream: "av.VideoStream", options: VideoOptions
) -> Iterator[Frames | None]:
    _check_size(stream.codec_context.width, stream.codec_context.height, options)
    reformatter = VideoReformatter()
    step = 1 / options.fps
    begin: float | None = None
    last = due = 0.0
    num_decoded = 0
    for frame in container.decode(stream):
        num_decoded += 1
        if frame.is_corrupt:
            raise _BrokenVideoError(f"frame {num_decoded} is corrupt")
        time = frame.time if frame.time is not None else last + step
        if begin is None or not last <= time <= last + MAX_GAP_SECONDS:
            if begin is not None:
                yield None
            begin = due = time
        last = time
        if num_decoded > options.max_seconds * MAX_SOURCE_HZ or time - begin > options.max_seconds:
            raise _BrokenVideoError(f"longer than {options.max_seconds:g} seconds; the rest was not read")
        if time + SLACK * step < due:
            continue
        picture = _shrink(frame, reformatter, options)
        while due <= time + SLACK * step:
            yield picture
            due += step
    # Containers count a few frames that no decoder shows, hence the slack.
    if num_decoded < 0.98 * stream.frames - 1:
        raise _BrokenVideoError(f"truncated: {num_decoded} of {stream.frames} frames could be read")


def _check_size(width: int, height: int, options: VideoOptions) -> None:
    if not 0 < width * height <= options.max_pixels:
        raise _BrokenVideoError(
            f"expected at most {options.max_pixels} pixels a frame, found {width}x{height}"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise _BrokenVideoError(f"expected sides of at most {MAX_ASPECT}:1, found {width}x{height}")


def _shrink(frame: "av.VideoFrame", reformatter: VideoReformatter, options: VideoOptions) -> Frames:
    """Scale by area so that the picture covers the wanted size, then crop its centre: [H, W, 3] uint8."""
    _check_size(frame.width, frame.height, options)
    scale = max(options.width / frame.width, options.height / frame.height)
    width = max(options.width, round(frame.width * scale))
    height = max(options.height, round(frame.height * scale))
    small = reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()
    top, left = (height - options.height) // 2, (width - options.width) // 2
    return np.ascontiguousarray(small[top : top + options.height, left : left + options.width])


def _episodes(frames: Iterator[Frames | None], options: VideoOptions) -> Iterator[Frames]:
    """Cut a stream of frames into moving scenes, [T, H, W, 3] uint8 each.

    When the stream breaks, the scene that was open comes before the error goes on.
    """
    scene: list[Frames] = []
    try:
        for frame in frames:
            if frame is None or len(scene) == options.max_frames or _is_cut(scene, frame, options):
                yield from _worth_keeping(scene, options)
                scene = []
            if frame is not None:
                scene.append(frame)
    except _BrokenVideoError:
        yield from _worth_keeping(scene, options)
        raise
    yield from _worth_keeping(scene, options)


def _is_cut(scene: list[Frames], frame: Frames, options: VideoOptions) -> bool:
    return bool(scene) and _difference(scene[-1], frame) > options.cut_threshold


def _worth_keeping(scene: list[Frames], options: VideoOptions) -> Iterator[Frames]:
    if len(scene) < options.min_frames:
        return
    motion = np.mean([_difference(a, b) for a, b in itertools.pairwise(scene)])
    if motion >= options.static_threshold:
        yield np.stack(scene)


def _difference(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


class _EpisodeSink:
    """Appends episodes and sees to it that both splits get one.

    It holds the latest episode back: if that turns out to be the last, it goes where none went yet, and if it
    is the only one, its end is held out. The writer is made with the first episode, so that an import
    without any leaves no folder behind.
    """

    def __init__(self, out: Path, files: Sequence[Path], options: VideoOptions) -> None:
        self._out, self._files, self._options = out, files, options
        self._writer: ClipStoreWriter | None = None
        self._held: tuple[Split, Frames] | None = None
        self._used: set[Split] = set()
        self._cleanup = Cleanup(self._finish)

    def __enter__(self) -> Self:
        self._cleanup.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)
        # After a full disk there is nothing to save; after Ctrl-C there is.
        if not isinstance(error, BundleError):
            self._finish()

    def add(self, name: str, number: int, episode: Frames) -> None:
        if self._held is not None:
            self._append(*self._held)
        digest = hashlib.sha256(f"{name}#{number}".encode()).digest()
        self._held = ("heldout" if digest[0] % HELDOUT_ONE_IN == 0 else "train", episode)

    def _finish(self) -> None:
        if self._held is not None:
            split, episode = self._held
            share = max(self._options.min_frames, len(episode) // HELDOUT_ONE_IN)
            missing = [name for name in SPLITS if name not in self._used]
            if len(missing) == 1:
                self._append(missing[0], episode)
            elif missing and len(episode) >= share + self._options.min_frames:
                self._append("train", episode[:-share])
                self._append("heldout", episode[-share:])
            else:
                self._append("train" if missing else split, episode)
        if self._writer is not None:
            self._writer.close()

    def _append(self, split: Split, episode: Frames) -> None:
        if self._writer is None:
            self._writer = ClipStoreWriter(
                self._out,
                source="video",
                height=self._options.height,
                width=self._options.width,
                provenance={
                    "files": [file.name for file in self._files],
                    "options": asdict(self._options),
                },
            )
        self._writer.append(episode, split=split)
        self._used.add(split)
