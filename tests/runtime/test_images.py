"""Pictures from outside become frames, or an InputError that says what to do."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from genie_rt.errors import InputError
from genie_rt.runtime import images as module
from genie_rt.runtime.images import FORMATS, check_frame, fit_image, load_image


def picture(height: int = 5, width: int = 7, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(16, 24)).save(buffer, format=kind)
    return buffer.getvalue()


# --- load_image ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(encoded(kind))
    loaded = load_image(str(path))
    np.testing.assert_array_equal(loaded, picture(16, 24))
    assert loaded.dtype == np.uint8 and loaded.flags.c_contiguous and loaded.flags.writeable


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (24, 16), (200, 100, 50)).save(tmp_path / "x", format=kind)
    loaded = load_image(tmp_path / "x")
    assert loaded.shape == (16, 24, 3)
    np.testing.assert_allclose(loaded.astype(int), np.full((16, 24, 3), (200, 100, 50)), atol=4)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "x.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("I;16", 0x4D00, [77, 77, 77]),
        ("RGBA", (200, 100, 50, 0), [0, 0, 0]),
        ("RGBA", (200, 100, 50, 255), [200, 100, 50]),
        ("LA", (90, 0), [0, 0, 0]),
    ],
)
def test_other_modes_become_rgb(
    tmp_path: Path, mode: str, color: int | tuple[int, ...], expected: list[int]
) -> None:
    Image.new(mode, (3, 2), color).save(tmp_path / "x.png")
    assert load_image(tmp_path / "x.png")[1, 2].tolist() == expected


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, depth: int, colour: int, row: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """One row of pixels, written by hand: of these Pillow writes only some."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
COLOURS = (b"PLTE", bytes([10, 20, 30, 200, 100, 50, 1, 2, 3]))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        # black takes the place of the colour that is named as transparent, and of no other
        (png(3, 1, GREY, bytes([0b01000000]), (b"tRNS", b"\0\1")), [0, 0, 0]),
        (png(3, 1, GREY, bytes([0b01000000]), (b"tRNS", b"\0\0")), [0, 255, 0]),
        (png(4, 2, GREY, bytes([0b01101100]), (b"tRNS", b"\0\2")), [85, 0, 255, 0]),
        (png(4, 4, GREY, bytes([0x35, 0xF6]), (b"tRNS", b"\0\5")), [51, 0, 255, 102]),
        (png(3, 8, GREY, bytes([4, 5, 6]), (b"tRNS", b"\0\5")), [4, 0, 6]),
        (
            png(3, 16, GREY, struct.pack(">3H", 0x5150, 0x5151, 0x5251), (b"tRNS", b"\x51\x51")),
            [0x51, 0, 0x52],
        ),
        (
            png(3, 8, RGB, bytes([1, 2, 3, 1, 2, 4, 1, 2, 3]), (b"tRNS", bytes([0, 1, 0, 2, 0, 3]))),
            [[0, 0, 0], [1, 2, 4], [0, 0, 0]],
        ),
        (
            png(
                3, 16, RGB, struct.pack(">9H", 0x101, 0x202, 0x303, 0x101, 0x202, 0x304, 0x111, 0x202, 0x303),
                (b"tRNS", struct.pack(">3H", 0x101, 0x202, 0x303)),
            ),
            [[0, 0, 0], [1, 2, 3], [1, 2, 3]],
        ),
        # palettes and alpha channels, in halves too
        (
            png(3, 2, PALETTE, bytes([0b00011000]), COLOURS, (b"tRNS", bytes([255, 0]))),
            [[10, 20, 30], [0, 0, 0], [1, 2, 3]],
        ),
        (
            png(3, 8, PALETTE, bytes([0, 1, 2]), COLOURS, (b"tRNS", bytes([255, 128, 0]))),
            [[10, 20, 30], [100, 50, 25], [0, 0, 0]],
        ),
        (png(2, 8, GREY_ALPHA, bytes([200, 0, 200, 128])), [0, 100]),
        (png(2, 16, GREY_ALPHA, struct.pack(">4H", 0xC8C8, 0, 0xC8C8, 0x8080)), [0, 100]),
        (png(2, 8, RGB_ALPHA, bytes([9, 9, 9, 0, 200, 100, 50, 128])), [[0, 0, 0], [100, 50, 25]]),
        (
            png(2, 16, RGB_ALPHA, struct.pack(">8H", 9, 9, 9, 0, 0xC800, 0x6400, 0x3200, 0x8000)),
            [[0, 0, 0], [100, 50, 25]],
        ),
        (png(2, 16, GREY, struct.pack(">2H", 0x5151, 0xFFFF)), [0x51, 255]),
    ],
    ids=["grey 1, white", "grey 1, black", "grey 2", "grey 4", "grey 8", "grey 16", "RGB 8", "RGB 16",
         "palette 2", "palette 8", "LA 8", "LA 16", "RGBA 8", "RGBA 16", "opaque grey 16"],
)  # fmt: skip
def test_transparency_of_every_kind_of_png_is_black(tmp_path: Path, file: bytes, expected: list[Any]) -> None:
    (tmp_path / "x.png").write_bytes(file)
    wanted = np.array(expected)
    wanted = wanted if wanted.ndim == 2 else np.repeat(wanted[:, None], 3, axis=1)
    np.testing.assert_array_equal(load_image(tmp_path / "x.png")[0], wanted)


def test_transparency_of_a_gif_and_of_a_turned_png(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette(COLOURS[1])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "x.gif", transparency=1)
    assert load_image(tmp_path / "x.gif")[0].tolist() == [[10, 20, 30], [0, 0, 0], [1, 2, 3]]
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    data = png(3, 16, GREY, struct.pack(">3H", 0x100, 0x5151, 0x200), (b"tRNS", b"\x51\x51"))
    turned = data[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:]
    (tmp_path / "x.png").write_bytes(turned)
    assert load_image(tmp_path / "x.png")[..., 0].tolist() == [[1], [0], [2]]


def test_the_orientation_of_a_camera_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=exif)
    assert load_image(tmp_path / "x.jpg").shape == (8, 4, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_picture_is_named(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    (tmp_path / "cut").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="cut: expected a picture"):
        load_image(tmp_path / "cut")


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.png: expected a picture"):
        load_image(tmp_path / "x.png")


def test_a_format_outside_the_list_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.tiff")
    with pytest.raises(InputError, match="PNG, JPEG, BMP, GIF, WEBP"):
        load_image(tmp_path / "x.tiff")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: expected a picture, found nothing"):
        load_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="expected a picture, found a folder"):
        load_image(tmp_path)
    for path in (None, 5, b"x.png", ""):
        with pytest.raises(InputError, match="expected the path of a picture, found"):
            load_image(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(8193, 8192), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(InputError, match=r"bomb\.png.*pixels"):
            load_image(tmp_path / "bomb.png")


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    (tmp_path / "x.png").write_bytes(encoded("PNG"))
    with pytest.raises(InputError, match="at most 10 bytes"):
        load_image(tmp_path / "x.png")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(FORMATS), where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8))
def test_random_damage_gives_a_picture_or_an_input_error(
    tmp_path: Path, kind: str, where: float, junk: bytes
) -> None:
    data = bytearray(encoded(kind))
    start = int(where * (len(data) - 1))
    data[start : start + len(junk)] = junk
    (tmp_path / "x").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load_image(tmp_path / "x")
        except InputError:
            return
    assert loaded.dtype == np.uint8 and loaded.ndim == 3 and loaded.shape[2] == 3


# --- fit_image -------------------------------------------------------------------------------------------


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    np.testing.assert_array_equal(fit_image(picture(), 5, 7), picture())


def test_areas_are_averaged() -> None:
    image = picture(8, 12)
    expected = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(fit_image(image, 4, 6), expected, atol=1)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centre_is_kept(axis: int) -> None:
    image = np.zeros((30, 10, 3), np.uint8)
    image[10:20] = 255
    square = fit_image(image if axis == 0 else image.swapaxes(0, 1), 5, 5)
    assert (square == 255).all()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, 1), (64, 64)),
        ((1, 5000), (64, 64)),
        ((5000, 1), (90, 160)),
        ((3, 2), (90, 160)),
        ((90, 160), (1, 1)),
    ],
)
def test_extreme_shapes_fit(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert fit_image(picture(*before), *after).shape == (*after, 3)


@settings(max_examples=100, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 97)] * 4))
def test_a_flat_picture_stays_flat_at_any_size(sizes: tuple[int, int, int, int]) -> None:
    fitted = fit_image(np.full((sizes[0], sizes[1], 3), 123, np.uint8), sizes[2], sizes[3])
    assert fitted.shape == (sizes[2], sizes[3], 3) and (fitted == 123).all()


def test_a_view_with_strides_is_read_as_it_looks() -> None:
    wide = picture(10, 14)
    np.testing.assert_array_equal(fit_image(wide[::2, ::-2], 5, 7), wide[::2, ::-2])


@pytest.mark.parametrize("side", [0, -1, 8193, 2.0, True, None, "5", np.float64(5)])
def test_a_size_that_is_none_is_refused_by_name(side: Any) -> None:
    with pytest.raises(InputError, match=r"^height: expected a whole number from 1 to 8192, found"):
        fit_image(picture(), side, 5)
    with pytest.raises(InputError, match=r"^width: expected a whole number from 1 to 8192, found"):
        fit_image(picture(), 5, side)


def test_a_size_may_be_of_numpy() -> None:
    np.testing.assert_array_equal(fit_image(picture(), np.int64(3), np.array(4)), fit_image(picture(), 3, 4))


def test_an_empty_or_huge_picture_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        fit_image(np.zeros((0, 4, 3), np.uint8), 4, 4)
    monkeypatch.setattr(module, "MAX_PIXELS", 34)
    with pytest.raises(InputError, match="at most 34 pixels, found 7 x 5"):
        fit_image(picture(), 4, 4)


# --- check_frame -----------------------------------------------------------------------------------------


def test_a_frame_passes_without_a_copy() -> None:
    image = picture()
    assert np.shares_memory(check_frame(image, 5, 7), image)


def test_a_tensor_passes() -> None:
    frame = check_frame(torch.from_numpy(picture()), 5, 7)
    np.testing.assert_array_equal(frame, picture())


def test_a_strided_frame_becomes_contiguous() -> None:
    tensor = torch.from_numpy(picture()).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    frame = check_frame(tensor, 5, 7)
    assert frame.flags.c_contiguous
    np.testing.assert_array_equal(frame, picture())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cat.png", "found str; call genie_rt.runtime.images.load_image"),
        (Path("cat.png"), "Path; call genie_rt.runtime.images.load_image"),
        (Image.new("RGB", (7, 5)), r"found Image; .*numpy\.asarray"),
        (None, "found NoneType"),
        ([[[0, 0, 0]]], "found list"),
        (picture().astype(np.float32), "dtype uint8 .*found float32"),
        (torch.zeros(5, 7, 3), "dtype uint8 .*found float32"),
        (picture().astype(np.int64), "found int64"),
        (np.zeros((5, 7, 3), bool), "found bool"),
        (np.zeros((5, 7, 3), object), "found object"),
        (picture()[..., 0], r"\[5, 7, 3\], found \[5, 7\]"),
        (picture()[None], r"found \[1, 5, 7, 3\]"),
        (np.zeros((5, 7, 4), np.uint8), r"found \[5, 7, 4\]"),
        (picture().transpose(2, 0, 1), r"found \[3, 5, 7\]; move the channels last"),
        (np.ma.array(picture()), r"a masked array; .*image\.filled\(0\)"),
        (picture().astype(np.complex64), "found complex64"),
        (np.zeros((5, 7, 3), "m8[s]"), "found timedelta64"),
        (picture(7, 5), r"found \[7, 5, 3\]; call genie_rt.runtime.images.fit_image\(image, 5, 7\)"),
        (np.zeros((0, 7, 3), np.uint8), r"found \[0, 7, 3\]"),
        (torch.zeros(5, 7, 3, dtype=torch.uint8, device="meta"), "dense data"),
        (torch.zeros(5, 7, 3, dtype=torch.uint8).to_sparse(), "dense data"),
    ],
)
def test_what_is_no_frame_is_told_what_to_do(image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_frame(image, 5, 7)
