"""Frames to a clip: `.gif`, `.mp4`, or one `.png` with all of them side by side.

Frames of world models are small, so they are enlarged by a whole factor without smoothing.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.play.playable import Frame

Pixels = npt.NDArray[np.uint8]

MAX_FPS = 240
_MAX_SCALE = 64
_MAX_SHEET_SIDE = 16_384
_SHORT_SIDE = {".gif": 256, ".mp4": 256, ".png": 128}
_INK_LEVELS = 8
_PAPER, _INK = (16, 18, 22), (232, 234, 238)
# The greys of a caption, from paper to ink: few, so that a GIF's palette has room for the game.
_GREYS = np.linspace(_PAPER, _INK, _INK_LEVELS).round().astype(np.uint8)


def write_clip(
    path: Path | str,
    frames: Iterable[Frame],
    *,
    fps: float = 15.0,
    scale: int | None = None,
    captions: Iterable[str] | None = None,
) -> None:
    """Writes a clip whose format follows from the ending of its name.

    `.gif` has one palette for the whole clip (exact up to 256 colours) and delays that add up to the right
    duration; above 50 FPS frames are left out, because viewers do not show them faster. `.mp4` is H.264, or
    MPEG-4 where PyAV lacks it, and takes frames one by one. `.png` is a sheet, row by row.
    The file appears whole or not at all.

    Args:
        path: where to; missing folders are made.
        frames: at least one, `[H, W, 3]` uint8, all of one size.
        fps: frames per second, above 0 and up to 240; a `.png` has no use for it.
        scale: enlargement, 1 to 64. None: the least that brings the short side to 256 pixels (a sheet: 128).
        captions: a line of text under each frame, as many as frames.

    Raises:
        InputError: an unknown ending, no frame, frames of mixed sizes, or a number out of range.
        UnsupportedError: `.mp4` without PyAV.
    """
    path = Path(path)
    ending = check_clip_path(path)
    if not 0 < fps <= MAX_FPS:
        raise InputError(f"fps: expected a number above 0 and up to {MAX_FPS}, found {fps}")
    if scale is not None and not 1 <= scale <= _MAX_SCALE:
        raise InputError(f"scale: expected a whole number from 1 to {_MAX_SCALE}, found {scale}")
    checked = _checked(frames)
    first = next(checked)
    if scale is None:
        scale = min(_MAX_SCALE, math.ceil(_SHORT_SIDE[ending] / min(first.shape[:2])))
    captioned = _captioned(itertools.chain([first], checked), captions, first.shape[1] * scale)
    with atomic_file(path) as temporary:
        _WRITERS[ending](temporary, captioned, scale, fps)


def check_clip_path(path: Path) -> str:
    """The ending of a clip's name, lower case.

    Raises:
        InputError: no writer for this ending; the message lists those there are.
    """
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise InputError(f"{path}: expected a name that ends in {', '.join(_WRITERS)}, found {path.suffix!r}")
    return ending


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        is_picture = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size > 0
        if not is_picture or frame.shape != (shape or frame.shape):
            expected = "[H, W, 3]" if shape is None else list(shape)
            raise InputError(
                f"frame {index}: expected {expected} uint8, found {list(frame.shape)} {frame.dtype}"
            )
        shape = frame.shape
        yield frame
    if shape is None:
        raise InputError("a clip needs at least one frame, found none")


def _captioned(
    frames: Iterable[Frame], captions: Iterable[str] | None, width: int
) -> Iterator[tuple[Frame, Pixels | None]]:
    """Each frame with its caption bar as grey levels, `[h, width]`, or None."""
    if captions is None:
        yield from ((frame, None) for frame in frames)
        return
    height = max(14, min(40, width // 16))
    font = ImageFont.load_default(height * 0.7)
    texts = iter(captions)
    for frame in frames:
        text = next(texts, None)
        if text is None:
            raise InputError("captions: expected one per frame, found fewer")
        bar = Image.new("L", (width, height))
        ImageDraw.Draw(bar).text((height // 4, height // 2), text, fill=255, font=font, anchor="lm")
        levels: Pixels = np.asarray(bar) // np.uint8(256 // _INK_LEVELS)
        yield frame, levels
    if next(texts, None) is not None:
        raise InputError("captions: expected one per frame, found more")


def _enlarge(pixels: Pixels, scale: int) -> Pixels:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _picture(frame: Frame, bar: Pixels | None, scale: int) -> Pixels:
    """The enlarged frame over its caption: `[H', W', 3]` uint8."""
    enlarged = _enlarge(frame, scale)
    return enlarged if bar is None else np.concatenate([enlarged, _GREYS[bar]])


def _write_gif(path: Path, captioned: Iterable[tuple[Frame, Pixels | None]], scale: int, fps: float) -> None:
    pairs = list(captioned)
    # Delays are whole hundredths of a second, and viewers slow down whatever asks for less than two.
    starts = [round(100 * index / fps) for index in range(len(pairs) + 1)]
    kept = [0]
    for index in range(1, len(pairs)):
        if starts[index] - starts[kept[-1]] >= 2:
            kept.append(index)
    ends = [starts[index] for index in kept[1:]] + [max(starts[-1], starts[kept[-1]] + 2)]
    delays_ms = [10 * (end - starts[index]) for index, end in zip(kept, ends, strict=True)]

    frames = [pairs[index][0] for index in kept]
    greys = np.zeros((0, 3), np.uint8) if pairs[0][1] is None else _GREYS
    colours, to_indices = _palette(frames, 256 - len(greys))
    palette = np.concatenate([greys, colours])
    pages = []
    for index in kept:
        frame, bar = pairs[index]
        indices = _enlarge(to_indices(frame) + np.uint8(len(greys)), scale)
        page = Image.fromarray(indices if bar is None else np.concatenate([indices, bar]), mode="L")
        page.putpalette(palette.tobytes())
        pages.append(page)
    pages[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pages[1:],
        duration=delays_ms,
        loop=0,
        disposal=1,
        optimize=False,
        palette=palette.tobytes(),
    )


def _palette(frames: Sequence[Frame], size: int) -> tuple[Pixels, Callable[[Frame], Pixels]]:
    """At most `size` colours for all frames, and what maps a frame to their indices.

    Exact when the clip has no more colours than that; else a median cut of up to 64 frames, refined by
    k-means.
    """
    known = _distinct_colours(frames, size)
    if known is not None:
        exact = (known[:, None] >> np.array([16, 8, 0], np.uint32) & 255).astype(np.uint8)
        return exact, lambda frame: np.searchsorted(known, _packed(frame)).astype(np.uint8)
    sample = np.concatenate(
        [frames[index] for index in np.linspace(0, len(frames) - 1, min(64, len(frames))).astype(int)]
    )
    stride = math.ceil(math.sqrt(sample.size / 3 / 1_000_000))
    quantised = Image.fromarray(sample[::stride, ::stride]).quantize(
        size, method=Image.Quantize.MEDIANCUT, kmeans=1
    )
    colours = np.array(quantised.getpalette(), np.uint8).reshape(-1, 3)[:size]
    reference = Image.new("P", (1, 1))
    reference.putpalette(colours.tobytes())

    def nearest(frame: Frame) -> Pixels:
        return np.array(Image.fromarray(frame).quantize(palette=reference, dither=Image.Dither.NONE))

    return colours, nearest


def _distinct_colours(frames: Iterable[Frame], most: int) -> npt.NDArray[np.uint32] | None:
    """The packed colours of all frames, sorted; None if they are more than `most`."""
    seen = np.zeros(0, np.uint32)
    for frame in frames:
        seen = np.union1d(seen, _packed(frame))
        if len(seen) > most:
            return None
    return seen


def _packed(frame: Frame) -> npt.NDArray[np.uint32]:
    """Each pixel as one number, `0xRRGGBB`."""
    red, green, blue = np.moveaxis(frame.astype(np.uint32), 2, 0)
    packed: npt.NDArray[np.uint32] = red << np.uint32(16) | green << np.uint32(8) | blue
    return packed


def _write_mp4(path: Path, captioned: Iterable[tuple[Frame, Pixels | None]], scale: int, fps: float) -> None:
    try:
        import av
        from av.codec import codecs_available
        from av.video.reformatter import ColorRange, Colorspace
    except ImportError as error:
        raise UnsupportedError(
            f"writing .mp4 needs PyAV, which is missing: {install_hint('play')}, or write a .gif"
        ) from error
    has_h264 = "libx264" in codecs_available
    rate = Fraction(fps).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264" if has_h264 else "mpeg4", rate=rate)
        stream.pix_fmt = "yuv420p"  # what every player shows; harmless once enlarged
        stream.codec_context.colorspace = Colorspace.ITU601  # what from_ndarray's frames are converted with
        stream.codec_context.color_range = ColorRange.MPEG
        stream.options = {"crf": "16"} if has_h264 else {"qscale": "2"}
        for index, (frame, bar) in enumerate(captioned):
            picture = _even(_picture(frame, bar, scale))
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            video_frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            video_frame.pts, video_frame.time_base = index, 1 / rate
            container.mux(stream.encode(video_frame))
        container.mux(stream.encode(None))


def _even(picture: Pixels) -> Pixels:
    """Repeats the last row or column where a side is odd, which yuv420p cannot hold."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _write_png(path: Path, captioned: Iterable[tuple[Frame, Pixels | None]], scale: int, fps: float) -> None:
    del fps
    pairs = list(captioned)
    height, width = _picture(*pairs[0], scale).shape[:2]
    gap = 2
    columns = max(1, round(math.sqrt(len(pairs) * (height + gap) / (width + gap))))
    rows = math.ceil(len(pairs) / columns)
    sheet_height, sheet_width = rows * (height + gap) - gap, columns * (width + gap) - gap
    if max(sheet_height, sheet_width) > _MAX_SHEET_SIDE:
        raise InputError(
            f"expected a sheet of at most {_MAX_SHEET_SIDE} pixels a side, "
            f"found {sheet_height}x{sheet_width} for {len(pairs)} frames: "
            "write a .gif or .mp4, or lower the scale"
        )
    sheet = np.empty((sheet_height, sheet_width, 3), np.uint8)
    sheet[:] = _PAPER
    for index, (frame, bar) in enumerate(pairs):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = _picture(frame, bar, scale)
    Image.fromarray(sheet).save(path, format="PNG", optimize=True)


_Writer = Callable[[Path, Iterable[tuple[Frame, Pixels | None]], int, float], None]
_WRITERS: dict[str, _Writer] = {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_png}
