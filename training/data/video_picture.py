"""One decoded picture as a player shows it: turned, with square pixels, in the right colours, over black.

Sizes and shapes come from untrusted files and are bounded here.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from genie_rt.training.data.store import Frames

MAX_ASPECT = 8

MATRICES = {
    1: "ITU709",
    4: "FCC",
    5: "ITU601",
    6: "ITU601",
    7: "SMPTE240M",
    9: "BT2020",
    10: "BT2020",
}
"""PyAV's names of the matrices from a file's colours to RGB, by ffmpeg's number in the file."""


class UnusableVideoError(Exception):
    """A file that cannot be read on; what was yielded before is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """What of a picture is stored, in pixels as a player shows them: its centre."""

    shown: tuple[int, int]
    kept: tuple[int, int]

    def __str__(self) -> str:
        shown, kept = (f"{width}x{height}" for width, height in (self.shown, self.kept))
        return f"cropped from {shown} to the {kept} at its centre"


@dataclass(frozen=True, slots=True)
class Turn:
    """How to turn a picture: first exchange rows and columns, then reverse their order."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def __call__(self, picture: Frames) -> Frames:
        """Turn `[H, W, 3]`; the result may be a view."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


class PictureMaker:
    """Makes pictures of one size out of decoded ones.

    Args:
        height, width: size to make.
        max_pixels: decoded pictures with more pixels are refused.
    """

    def __init__(self, height: int, width: int, max_pixels: int) -> None:
        self._height, self._width, self._max_pixels = height, width, max_pixels
        self._reformatter = VideoReformatter()
        self.crop: Crop | None = None
        """What the first picture lost; None where it lost nothing."""
        self._has_made_one = False

    def check_size(self, width: int, height: int, pixel_aspect: Fraction | None = None) -> None:
        """Refuse a size.

        Args:
            pixel_aspect: width of a pixel by its height.

        Raises:
            UnusableVideoError: the picture is too large or too narrow.
        """
        if not 0 < width * height <= self._max_pixels:
            raise UnusableVideoError(
                f"expected at most {self._max_pixels} pixels a frame, found {width}x{height}"
            )
        shown = round(width * (pixel_aspect or 1))
        if not shown or max(shown, height) > MAX_ASPECT * min(shown, height):
            raise UnusableVideoError(f"expected sides of at most {MAX_ASPECT}:1, found {shown}x{height}")

    def make(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Frames:
        """Scale by area so that the picture covers the wanted size, crop its centre, and turn it.

        Args:
            pixel_aspect: width of a pixel by its height; None where the file does not say.

        Returns:
            `[height, width, 3]` uint8, contiguous, newly allocated.
        """
        self.check_size(frame.width, frame.height, pixel_aspect)
        turn = turn_of(frame)
        # the size before the turn
        rows, columns = (self._width, self._height) if turn.transpose else (self._height, self._width)
        shown_width = float(frame.width * (pixel_aspect or 1))
        scale = max(columns / shown_width, rows / frame.height)
        width = max(columns, round(shown_width * scale))
        height = max(rows, round(frame.height * scale))
        if not self._has_made_one:
            self._has_made_one = True
            if (width, height) != (columns, rows):
                shown, kept = (
                    (round(shown_width), frame.height),
                    (round(columns / scale), round(rows / scale)),
                )
                if turn.transpose:
                    shown, kept = shown[::-1], kept[::-1]
                self.crop = Crop(shown=shown, kept=kept)
        if has_alpha(frame):
            frame = self._over_black(frame)
        small = self._as_rgb(frame, width, height, "rgb24")
        top, left = (height - rows) // 2, (width - columns) // 2
        return np.ascontiguousarray(turn(small[top : top + rows, left : left + columns]))

    def _over_black(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Put a picture with transparency over black, at full size, as prompt pictures are."""
        layer = self._as_rgb(frame, frame.width, frame.height, "rgba").astype(np.uint16)
        pixels = (layer[..., :3] * layer[..., 3:] + 127) // 255
        return av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")

    def _as_rgb(self, frame: av.VideoFrame, width: int, height: int, format: str) -> Frames:
        colours: dict[str, Any] = {}
        if not (frame.format.is_rgb or frame.format.has_palette):
            colours["src_colorspace"] = matrix_of(frame)
            colours["src_color_range"] = "JPEG" if is_full_range(frame) else "MPEG"
            colours["dst_color_range"] = "JPEG"
            colours["dst_colorspace"] = "ITU601"  # none of RGB's own, but PyAV 14 mixes the two up
        made = self._reformatter.reformat(frame, width, height, format, interpolation="AREA", **colours)
        return cast(Frames, made.to_ndarray())


def turn_of(frame: av.VideoFrame) -> Turn:
    """How a player turns this frame: the nearest quarter turn, with a flip or without."""
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
    data = np.frombuffer(bytes(side_data or b""), dtype=np.int32)
    return _turn(*(int(data[i]) for i in (0, 1, 3, 4))) if len(data) == 9 else Turn()


def _turn(a: int, b: int, c: int, d: int) -> Turn:
    """Turn of a matrix that shows pixel (x, y) at (a x + c y, b x + d y), y downwards."""
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(reverse_rows=d < 0, reverse_columns=a < 0)
    return Turn(transpose=True, reverse_rows=b < 0, reverse_columns=c < 0)


def matrix_of(frame: av.VideoFrame) -> str | None:
    """The matrix of the frame's colours: as tagged, else BT.709 for HD and BT.601 below, as players do.

    None leaves it to ffmpeg, where PyAV is too old to have a name for it.
    """
    is_hd = frame.width >= 1280 or frame.height > 576
    name = MATRICES.get(frame.colorspace, "ITU709" if is_hd else "ITU601")
    return name if name in Colorspace.__members__ else None


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether black is 0 and white 255, as in grey pictures, where it is 16 and 235 in most videos."""
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return frame.color_range == ColorRange.JPEG
    return frame.format.name.startswith(("yuvj", "gray", "ya"))


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether pixels may be transparent."""
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
