"""Videos as a player shows them: turned, with square pixels, in the right colours and order, over black."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from genie_rt.errors import InputError
from genie_rt.training.data.store import Frames

pytest.importorskip("av", reason='needs PyAV: pip install -e ".[train]"')

import av
from av.video.reformatter import Colorspace

from genie_rt.training.data.video import VideoOptions, VideoResult, import_videos
from genie_rt.training.data.video_files import KINDS
from genie_rt.training.data.video_picture import Turn, _turn

CASES = Path(__file__).with_name("cases")
RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128)
QUADRANTS = np.array([[RED, GREEN], [BLUE, GREY]], np.uint8)
"""What the cases show, unturned, behind a white square that moves."""


def stored(file: Path, out: Path, **options: Any) -> tuple[Frames, VideoResult]:
    """All stored frames of a video, in order, and what is said about it."""
    report = import_videos([file], out, options=VideoOptions(**({"min_frames": 8} | options)))
    frames = [report.store.episode_frames(index) for index in range(len(report.store.episodes))]
    return np.concatenate(frames), report.results[0]


def corners(frames: Frames) -> NDArray[np.float64]:
    """The colours of the four quadrants, [2, 2, 3]: medians over time, which the square leaves alone."""
    still = np.median(frames, axis=0)
    quarter, half = still.shape[0] // 4, still.shape[0] // 2
    return still[quarter::half, quarter::half][:2, :2]


def assert_colours(found: NDArray[Any], expected: NDArray[Any], atol: float = 4) -> None:
    np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=atol)


def quadrants(num: int = 30, height: int = 48, width: int = 64) -> Frames:
    frames = np.repeat(np.repeat(QUADRANTS, height // 2, axis=0), width // 2, axis=1)[None].repeat(
        num, axis=0
    )
    for t in range(num):
        frames[t, height // 2 - 4 : height // 2 + 4, 2 + t : 10 + t] = 255
    return frames


def write(
    path: Path,
    frames: Frames,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 20,
    format: str | None = None,
    set_up: Callable[[Any], None] = lambda stream: None,
    to_pixels: dict[str, Any] | None = None,
    **options: str,
) -> Path:
    """Encode [T, H, W, 3 or 4] at a high quality."""
    if codec == "libx264":
        options = {"crf": "8", "preset": "veryfast"} | options
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        set_up(stream)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[-1] == 4 else "rgb24")
            frame = frame.reformat(format=pixels, **(to_pixels or {}))
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_rotation_in_the_metadata_is_applied(tmp_path: Path) -> None:
    frames, result = stored(CASES / "rot90.mp4", tmp_path / "out")
    assert_colours(corners(frames), np.rot90(QUADRANTS))
    assert result.notes == ("cropped from 240x320 to the 240x240 at its centre",)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_every_quarter_turn_comes_out_upright(tmp_path: Path, degrees: int) -> None:
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV writes no display matrix")
    file = write(tmp_path / "a.mp4", quadrants(), set_up=lambda stream: stream.set_display_rotation(degrees))
    frames, _ = stored(file, tmp_path / "out", height=48, width=48)
    assert_colours(corners(frames), np.rot90(QUADRANTS, degrees // 90), atol=6)


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (-1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, 1, 0),
        (0, 1, -1, 0),
        (0, -1, -1, 0),
    ],
)
def test_a_display_matrix_means_what_its_formula_says(matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = matrix
    picture = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    ys, xs = np.mgrid[:4, :3]
    rows, columns = b * xs + d * ys, a * xs + c * ys
    expected = np.zeros((np.ptp(rows) + 1, np.ptp(columns) + 1, 3), np.uint8)
    expected[rows - rows.min(), columns - columns.min()] = picture
    np.testing.assert_array_equal(_turn(*(65536 * each for each in matrix))(picture), expected)


def test_without_a_matrix_nothing_turns() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(Turn()(picture), picture)


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    frames, result = stored(CASES / "sar2.mp4", tmp_path / "out")
    white = (frames.min(-1) > 190).sum(0).max() and frames.min(-1) > 170
    heights = white.any(2).sum(1)
    widths = white.any(1).sum(1)
    assert 15 <= np.median(heights) <= 18 and 15 <= np.median(widths) <= 18
    assert_colours(corners(frames), QUADRANTS)
    assert result.notes == ("cropped from 320x240 to the 240x240 at its centre",)


def test_stretching_may_not_go_beyond_the_limits(tmp_path: Path) -> None:
    def stretch(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(7, 1)

    file = write(tmp_path / "a.mp4", quadrants(), set_up=stretch)
    with pytest.raises(InputError, match="expected sides of at most 8:1, found 448x48"):
        stored(file, tmp_path / "out")


def left_edges(frames: Frames) -> NDArray[np.int64]:
    """Where the white square begins in each frame."""
    return (frames.min(-1) > 170).any(1).argmax(1)


def test_b_frames_in_avi_come_in_the_order_of_display(tmp_path: Path) -> None:
    frames, result = stored(CASES / "h264b.avi", tmp_path / "out", fps=30)
    assert len(frames) == 60 and result.problem is None
    assert len(result.notes) == 1  # the crop; no frame is repeated
    with av.open(str(CASES / "h264b.avi")) as container:
        shown = [frame.reformat(85, 64, "rgb24", interpolation="AREA") for frame in container.decode(video=0)]
    expected = np.stack([frame.to_ndarray()[:, 10:74] for frame in shown])
    assert np.abs(frames.astype(int) - expected).mean(axis=(1, 2, 3)).max() < 4


@pytest.mark.parametrize("frames_between", ["0", "2"])
@pytest.mark.parametrize("ending", ["avi", "mp4", "h264", "mkv"])
def test_no_container_loses_or_repeats_a_frame(tmp_path: Path, ending: str, frames_between: str) -> None:
    file = write(tmp_path / f"a.{ending}", quadrants(40), bf=frames_between)
    frames, result = stored(file, tmp_path / "out", height=48, width=64, fps=20)
    np.testing.assert_array_equal(left_edges(frames), 2 + np.arange(40))
    assert result.problem is None
    assert result.notes == (
        ("has no time stamps, so it was taken for 20 frames a second",) if ending == "h264" else ()
    )


def test_a_cut_without_encoding_keeps_what_it_shows(tmp_path: Path) -> None:
    frames, result = stored(CASES / "cutcopy.mp4", tmp_path / "out", fps=30)
    assert result.problem is None
    with av.open(str(CASES / "cutcopy.mp4")) as container:
        shown = sum(1 for _ in container.decode(video=0))
    assert shown == 122
    assert len(frames) == 123  # one that the cut lost is filled with the one before


def test_untagged_hd_is_bt709(tmp_path: Path) -> None:
    frames, _ = stored(CASES / "c709hd_untag.mp4", tmp_path / "out")
    assert_colours(corners(frames), QUADRANTS)


@pytest.mark.parametrize(
    ("height", "matrix", "tag"),
    [
        (48, "ITU601", 2),
        (48, "ITU601", 5),
        (48, "ITU709", 1),
        (600, "ITU709", 2),
        (600, "ITU709", 1),
        (600, "ITU601", 6),
        (600, "BT2020", 9),
    ],
    ids=["SD", "SD-601", "SD-709", "HD", "HD-709", "HD-601", "HD-2020"],
)
@pytest.mark.parametrize("is_full", [False, True], ids=["limited", "full"])
def test_colours_are_as_tagged_and_as_players_guess(
    tmp_path: Path, height: int, matrix: str, tag: int, is_full: bool
) -> None:
    if matrix not in Colorspace.__members__:
        pytest.skip(f"this PyAV encodes no {matrix}")

    def set_up(stream: Any) -> None:
        stream.codec_context.colorspace = tag
        stream.codec_context.color_range = 2 if is_full else 1

    colours = {"dst_colorspace": matrix, "src_color_range": "JPEG"}
    colours["dst_color_range"] = "JPEG" if is_full else "MPEG"
    file = write(tmp_path / "a.mp4", quadrants(20, height, height), set_up=set_up, to_pixels=colours)
    frames, _ = stored(file, tmp_path / "out", height=48, width=48, static_threshold=0)
    assert_colours(corners(frames), QUADRANTS, atol=5)


@pytest.mark.parametrize("ending", ["apng", "mkv", "png", "gif"])
def test_transparency_is_black(tmp_path: Path, ending: str) -> None:
    """As in prompt pictures; the colour below transparent pixels is never seen, not even at their edges."""
    layers = np.concatenate([quadrants(20), np.full((20, 48, 64, 1), 255, np.uint8)], axis=-1)
    layers[:, :24, :32, 3] = 0
    layers[:, 24:, 32:, 3] = 255 if ending == "gif" else 128
    if ending in ("gif", "png"):
        images = [Image.fromarray(layer) for layer in layers]
        file = tmp_path / f"a.{ending}"
        images[0].save(
            file, save_all=True, append_images=images[1:], duration=100, disposal=2 if ending == "gif" else 0
        )
    else:
        codec, pixels = ("apng", "rgba") if ending == "apng" else ("ffv1", "yuva444p")
        file = write(tmp_path / f"a.{ending}", layers, codec=codec, pixels=pixels, rate=10)
    frames, _ = stored(file, tmp_path / "out", height=48, width=64, static_threshold=0.01)
    grey = GREY if ending == "gif" else (64, 64, 64)
    assert_colours(corners(frames), np.array([[(0, 0, 0), GREEN], [BLUE, grey]]), atol=3)


def test_a_slow_source_says_so(tmp_path: Path) -> None:
    frames, result = stored(CASES / "slow5.gif", tmp_path / "out")
    same = sum(bool((a == b).all()) for a, b in itertools.pairwise(frames))
    assert (len(frames), same) == (119, 59)
    assert result.notes[1] == (
        "slower than --fps 10, with about 5 frames a second: 59 of 119 frames repeat the one before"
    )
    assert str(result).endswith(f"; {result.notes[0]}; {result.notes[1]}")
    _, result = stored(CASES / "slow5.gif", tmp_path / "again", fps=5)
    assert len(result.notes) == 1


def test_only_a_crop_that_happened_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", quadrants())
    assert stored(file, tmp_path / "same", height=48, width=64)[1].notes == ()
    assert stored(file, tmp_path / "low", height=24, width=64)[1].notes == (
        "cropped from 64x48 to the 64x24 at its centre",
    )


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.y4m", "wrapped_avframe", "yuv420p"),
        ("a.hevc", "libx265", "yuv420p"),
        ("a.apng", "apng", "rgb24"),
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.ogv", "libtheora", "yuv420p"),
        ("a.flv", "flv", "yuv420p"),
    ],
)
def test_other_containers_are_read(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    file = write(tmp_path / name, quadrants(40), codec=codec, pixels=pixels, rate=25, **options)
    frames, result = stored(file, tmp_path / "out", height=48, width=64, fps=25)
    assert (len(frames), result.problem) == (40, None)
    assert_colours(corners(frames), QUADRANTS, atol=20)


@pytest.mark.parametrize("kind", ["webp", "still", "text", "playlist", "concat", "sdp"])
def test_anything_else_is_refused_by_one_list(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.mp4"
    images = [Image.fromarray(picture) for picture in quadrants()]
    if kind == "webp":
        images[0].save(file, format="WEBP", save_all=True, append_images=images[1:])
    elif kind == "still":
        images[0].save(file, format="PNG")
    else:
        secret = write(tmp_path / "secret.mp4", quadrants())
        texts = {
            "text": "no video\n" * 100,
            "playlist": f"#EXTM3U\n#EXTINF:1,\n{secret}\n",
            "concat": f"ffconcat version 1.0\nfile {secret}\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        }
        file.write_text(texts[kind])
    with pytest.raises(InputError, match=f"skipped: expected a whole {KINDS} file, found something else"):
        stored(file, tmp_path / "out")
