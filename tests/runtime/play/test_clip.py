"""A clip holds the frames that went in, at the right size and speed, and appears whole or not at all."""

import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.play.clip import write_clip

av = pytest.importorskip("av", reason="writing .mp4 needs PyAV")


def few_colours(num_frames: int, height: int = 20, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    colours = rng.integers(0, 256, (40, 3), dtype=np.uint8)
    return [colours[rng.integers(0, 40, (height, width))] for _ in range(num_frames)]


def smooth(num_frames: int, side: int = 64) -> list[np.ndarray]:
    """More than 256 colours, as a decoder makes them."""
    y, x = np.mgrid[:side, :side] / side
    return [
        (np.stack([x, y, (x + y) / 2 + 0 * x], axis=2) * 200 + 5 * index).clip(0, 255).astype(np.uint8)
        for index in range(num_frames)
    ]


def read_gif(path: Path) -> tuple[list[np.ndarray], list[int]]:
    frames, delays_ms = [], []
    with Image.open(path) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")))
            delays_ms.append(picture.info["duration"])
    return frames, delays_ms


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    return frame.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("scale", [1, 3])
def test_gif_of_few_colours_is_exact(tmp_path: Path, scale: int) -> None:
    frames = few_colours(5)
    write_clip(tmp_path / "a.gif", frames, fps=10, scale=scale)
    found, delays_ms = read_gif(tmp_path / "a.gif")
    assert delays_ms == [100] * 5
    np.testing.assert_array_equal(found, [enlarge(frame, scale) for frame in frames])


def test_gif_of_many_colours_is_close(tmp_path: Path) -> None:
    frames = smooth(4)
    write_clip(tmp_path / "a.gif", frames, scale=1)
    found, _ = read_gif(tmp_path / "a.gif")
    error = np.abs(np.stack(found).astype(int) - np.stack(frames))
    assert error.mean() < 5  # 256 colours for a plane of 200 x 200
    assert error.max() < 40


@pytest.mark.parametrize("fps", [7, 15, 30, 33.3, 50, 60, 240])
def test_gif_lasts_as_long_as_its_frames(tmp_path: Path, fps: float) -> None:
    write_clip(tmp_path / "a.gif", few_colours(40), fps=fps, scale=1)
    _, delays_ms = read_gif(tmp_path / "a.gif")
    assert sum(delays_ms) == pytest.approx(40_000 / fps, abs=25)
    assert min(delays_ms) >= 20  # faster ones are slowed down by viewers
    assert len(delays_ms) == 40 or fps > 50


def test_gif_of_one_frame_and_of_equal_frames(tmp_path: Path) -> None:
    frame = few_colours(1)[0]
    write_clip(tmp_path / "one.gif", [frame], scale=1)
    write_clip(tmp_path / "same.gif", [frame] * 3, scale=1)
    for name in ("one.gif", "same.gif"):
        np.testing.assert_array_equal(read_gif(tmp_path / name)[0], [frame])


def test_small_frames_are_enlarged_to_256_pixels(tmp_path: Path) -> None:
    frames = [np.full((64, 100, 3), 9, np.uint8)]
    for name, expected in (("a.gif", (400, 256)), ("a.png", (200, 128))):
        write_clip(tmp_path / name, frames)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == expected


@pytest.mark.parametrize(("height", "width"), [(64, 64), (15, 27)])
def test_mp4_keeps_frames_size_and_rate(tmp_path: Path, height: int, width: int) -> None:
    frames = [np.kron(frame, np.ones((height, width, 1), np.uint8)) for frame in few_colours(6, 1, 1)]
    write_clip(tmp_path / "a.mp4", iter(frames), fps=15, scale=None if height == 64 else 1)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(15)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    expected_size = (256, 256) if height == 64 else (16, 28)
    assert [frame.shape[:2] for frame in decoded] == [expected_size] * 6
    for frame, expected in zip(decoded, frames, strict=True):
        middle = frame[frame.shape[0] // 2, frame.shape[1] // 2].astype(int)
        assert np.abs(middle - expected[0, 0]).max() <= 8


def test_png_is_a_sheet_row_by_row(tmp_path: Path) -> None:
    frames = few_colours(5, 10, 10)
    write_clip(tmp_path / "a.png", frames, scale=2)
    with Image.open(tmp_path / "a.png") as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (3 * 22 - 2, 2 * 22 - 2, 3)
    np.testing.assert_array_equal(sheet[:20, 22:42], enlarge(frames[1], 2))
    np.testing.assert_array_equal(sheet[44:64, :20], enlarge(frames[4], 2))


def test_png_that_would_be_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16384 pixels a side"):
        write_clip(tmp_path / "a.png", few_colours(600, 20, 32), scale=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.png"])
def test_captions_stand_under_the_frame(tmp_path: Path, name: str) -> None:
    frames = few_colours(2, 64, 64)
    write_clip(tmp_path / "with.png", frames[:1], scale=4, captions=["right+jump"])
    with Image.open(tmp_path / "with.png") as picture:
        sheet = np.asarray(picture)
    np.testing.assert_array_equal(sheet[:256], enlarge(frames[0], 4))
    bar = sheet[256:]
    assert 14 <= bar.shape[0] <= 40
    assert bar.max() > 200 and 0.01 < (bar > 120).mean() < 0.3  # ink, but mostly paper
    write_clip(tmp_path / name, frames, captions=["right", ""])
    assert (tmp_path / name).stat().st_size > 0


def test_gif_with_captions_keeps_the_game_exact(tmp_path: Path) -> None:
    frames = few_colours(3)
    write_clip(tmp_path / "a.gif", frames, scale=2, captions=["left", "right", "jump"])
    found, _ = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal([frame[:40] for frame in found], [enlarge(frame, 2) for frame in frames])


@pytest.mark.parametrize("captions", [["one"], ["one", "two", "three"]])
def test_captions_must_be_as_many_as_frames(tmp_path: Path, captions: list[str]) -> None:
    with pytest.raises(InputError, match="one per frame"):
        write_clip(tmp_path / "a.gif", few_colours(2), captions=captions)


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.png"])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    bad = [*few_colours(3), np.zeros((9, 9, 3), np.uint8)]
    with pytest.raises(InputError, match="frame 3"):
        write_clip(path, bad)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.gif"
    write_clip(path, few_colours(1))
    write_clip(str(path), few_colours(2))
    assert len(read_gif(path)[0]) == 2
    assert list(path.parent.iterdir()) == [path]


def test_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can be written"):
        write_clip(tmp_path / "file" / "a.gif", few_colours(1))


def test_same_frames_give_the_same_gif(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        write_clip(tmp_path / name, smooth(3))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@pytest.mark.parametrize("name", ["a.webm", "a", "a.gif.txt"])
def test_unknown_ending_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.gif, \.mp4, \.png"):
        write_clip(tmp_path / name, few_colours(1))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(InputError, match="frame 0: expected"):
        write_clip(tmp_path / "a.gif", [frame])


@pytest.mark.parametrize(
    "options", [{"fps": 0}, {"fps": 241}, {"fps": float("nan")}, {"scale": 0}, {"scale": 65}]
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        write_clip(tmp_path / "a.gif", few_colours(1), **options)


def test_no_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        write_clip(tmp_path / "a.gif", [])


def test_frames_may_be_views(tmp_path: Path) -> None:
    frames = [frame[:, ::-1] for frame in few_colours(2)]
    write_clip(tmp_path / "a.gif", frames, scale=1)
    np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], frames)


def test_mp4_without_pyav_says_which_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("play"))):
        write_clip(tmp_path / "a.mp4", few_colours(1))
    assert list(tmp_path.iterdir()) == []
