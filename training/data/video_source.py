"""Reading one video: its pictures at the wanted rate, and what is worth a note about it.

Videos are untrusted. Only common containers are opened, through a file object and never by name, so that no
playlist can point to other files or hosts; picture size, aspect and duration are bounded.
"""

from collections.abc import Iterator
from pathlib import Path

import av

from genie_rt.runtime.units import plural
from genie_rt.training.data.store import Frames
from genie_rt.training.data.video_files import CONTAINERS, KINDS
from genie_rt.training.data.video_options import MAX_SOURCE_HZ, VideoOptions
from genie_rt.training.data.video_picture import PictureMaker, UnusableVideoError

MAX_GAP_SECONDS = 1.0
SLACK = 0.01
"""Part of the time between two stored frames, so that rounded time stamps do not skip a beat."""

REPEATS_WORTH_A_NOTE = 0.05
"""Share of stored frames that repeat the one before, from which on it is said."""

NO_DISPLAY_TIMES = ("avi",)
"""Containers whose time stamps are those of decoding; what they give for display is a guess."""


class VideoSource:
    """One file to read once, with `frames`; after that `notes` says what should be known about it."""

    def __init__(self, file: Path, options: VideoOptions) -> None:
        self._file, self._options = file, options
        self._pictures = PictureMaker(options.height, options.width, options.max_pixels)
        self._assumed_hz: float | None = None
        self._num_frames = self._num_repeats = self._num_decoded = 0
        self._seconds = 0.0

    def frames(self) -> Iterator[Frames | None]:
        """Yield the frames [H, W, 3] uint8 at the wanted rate, and None where time jumps.

        Raises:
            UnusableVideoError: with the reason, when reading cannot go on.
        """
        try:
            if not self._file.is_file():
                raise UnusableVideoError("no such file")
            with self._file.open("rb") as data, _opened(data) as container:
                if not container.streams.video:
                    raise UnusableVideoError("it holds no video")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise UnusableVideoError("its codec is none that ffmpeg knows")
                stream.thread_type = "SLICE"
                yield from self._decode(container, stream)
        except UnusableVideoError:
            raise
        except Exception as error:  # a decoder fed with broken bytes may raise anything
            raise UnusableVideoError(f"cannot be decoded: {_reason(error)}") from error

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed or assumed, for the user; of the part that was read."""
        notes = []
        if self._pictures.crop is not None:
            notes.append(str(self._pictures.crop))
        if self._num_repeats > REPEATS_WORTH_A_NOTE * self._num_frames:
            rate = self._num_decoded / self._seconds if self._seconds else self._options.fps
            notes.append(
                f"slower than --fps {self._options.fps:g}, with about {rate:.3g} frames a second: "
                f"{self._num_repeats:,} of {plural(self._num_frames, 'frame')} repeat the one before"
            )
        if self._assumed_hz is not None:
            notes.append(f"has no time stamps, so it was taken for {self._assumed_hz:.4g} frames a second")
        return tuple(notes)

    def _decode(
        self, container: "av.container.InputContainer", stream: "av.VideoStream"
    ) -> Iterator[Frames | None]:
        options, pictures = self._options, self._pictures
        pictures.check_size(stream.codec_context.width, stream.codec_context.height)
        clock = _Clock(stream, trusts_display=container.format.name not in NO_DISPLAY_TIMES)
        step = 1 / options.fps
        begin: float | None = None
        last = due = 0.0
        for frame in container.decode(stream):
            self._num_decoded += 1
            if frame.is_corrupt:
                raise UnusableVideoError(f"frame {self._num_decoded} is corrupt")
            time = clock.read(frame)
            if begin is None or not last <= time <= last + MAX_GAP_SECONDS:
                if begin is not None:
                    yield None
                begin = due = time
                self._seconds += clock.tick
            else:
                self._seconds += time - last
            last = time
            if self._num_decoded > options.max_seconds * MAX_SOURCE_HZ or time - begin > options.max_seconds:
                raise UnusableVideoError(
                    f"longer than --max-seconds {options.max_seconds:g}; the rest was not read"
                )
            if time + SLACK * step < due:
                continue
            picture = pictures.make(frame, stream.sample_aspect_ratio)
            self._num_repeats -= 1
            while due <= time + SLACK * step:
                self._num_frames += 1
                self._num_repeats += 1
                yield picture
                due += step
        self._assumed_hz = None if clock.has_stamps else 1 / clock.tick
        _check_whole(stream, self._num_decoded, last + clock.tick)


class _Clock:
    """When each decoded frame is shown, in seconds.

    Display times are taken as they are unless more of them than of the decoding times run backwards, as
    ffmpeg's players do; where there are none, frames come at the stream's rate.

    Args:
        trusts_display: the container holds display times. Else decoding times, which always rise, count the
            frames, which leave the decoder in the order of display.
    """

    def __init__(self, stream: "av.VideoStream", *, trusts_display: bool) -> None:
        rate = float(stream.guessed_rate or stream.average_rate or 25)
        self.tick = 1 / rate if 0 < rate <= MAX_SOURCE_HZ else 1 / 25
        self.has_stamps = False
        self._trusts_display = trusts_display
        self._last: float | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._backward_pts = self._backward_dts = 0

    def read(self, frame: "av.VideoFrame") -> float:
        pts, dts = frame.pts, frame.dts
        self.has_stamps |= pts is not None or dts is not None
        if pts is not None:
            self._backward_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        is_backward = dts is not None and self._last_dts is not None and dts <= self._last_dts
        if dts is not None:
            self._backward_dts += is_backward
            self._last_dts = dts
        if self._trusts_display and self._backward_pts <= self._backward_dts:
            stamp = pts if pts is not None else dts
        else:  # two frames of one packet share its time
            stamp = None if is_backward else dts
        if stamp is not None and frame.time_base is not None:
            self._last = float(stamp * frame.time_base)
        else:
            self._last = 0.0 if self._last is None else self._last + self.tick
        return self._last


def _opened(data: object) -> "av.container.InputContainer":
    try:
        return av.open(data, "r", options={"format_whitelist": CONTAINERS})
    except av.FFmpegError as error:
        raise UnusableVideoError(f"expected a whole {KINDS} file, found something else") from error


def _check_whole(stream: "av.VideoStream", num_decoded: int, end: float) -> None:
    """Refuse a stream that ends before its container says.

    Containers count a few frames that no decoder shows, hence the slack; and with an edit list, as a cut
    without encoding leaves, they count what lies outside the cut. Then the time tells.
    """
    if num_decoded >= 0.98 * stream.frames - 1:
        return
    if stream.duration is not None and stream.time_base is not None:
        start = float((stream.start_time or 0) * stream.time_base)
        if end - start >= 0.98 * float(stream.duration * stream.time_base):
            return
    raise UnusableVideoError(f"truncated: {num_decoded} of {stream.frames} frames could be read")


def _reason(error: Exception) -> str:
    """What went wrong, without the file's name, which the report gives."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
