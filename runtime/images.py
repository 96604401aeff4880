"""Pictures from outside: an untrusted file or array becomes `[H, W, 3]` uint8, or an `InputError`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from genie_rt.errors import InputError
from genie_rt.runtime.arguments import check_path, whole_number
from genie_rt.runtime.files import read_regular

Picture = NDArray[np.uint8]
"""Pixels, `[height, width, 3]` uint8."""

MAX_PIXELS = 2**26
"""The most pixels that a picture may have, 8192 x 8192: a small file can claim billions."""

MAX_SIDE = 8192
"""Longest side of a picture that is made to a size."""

MAX_FILE_BYTES = 2**28
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads a picture of any size; of an animation the first frame.

    Turned as its EXIF says, transparency over black, 16 bits scaled to 8.

    Args:
        path: a PNG, JPEG, BMP, GIF or WEBP file, recognised by content and not by name.

    Returns:
        `[height, width, 3]` uint8, C-contiguous, newly allocated.

    Raises:
        InputError: there is no such file, it is too large, broken, or of another format.
    """
    path = check_path(path, "a picture")
    data = read_regular(path, MAX_FILE_BYTES, expected="a picture")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_pixels(path, *image.size)
            return np.array(_to_rgb(ImageOps.exif_transpose(_key_to_alpha(image, data))))
    except InputError:
        raise
    except Exception as error:  # a decoder fed with broken bytes may raise anything
        raise _broken(path, f"a picture ({', '.join(FORMATS)})", error) from error


def decode_prompt(data: bytes, path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Decodes a picture that has to be an RGB PNG of one size already, as those of a bundle are.

    Args:
        data: the file's bytes.
        path: of the file, for messages.

    Returns:
        `[height, width, 3]` uint8, C-contiguous, newly allocated.

    Raises:
        InputError: it is anything else. The size is checked before the pixels are decoded.
    """
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            if image.mode != "RGB" or image.size != (width, height):
                raise InputError(
                    f"{path}: expected an RGB picture {height} high and {width} wide, "
                    f"found {image.mode}, {image.height} high and {image.width} wide"
                )
            return np.array(image)
    except InputError:
        raise
    except Exception as error:  # as above
        raise _broken(path, "a PNG picture", error) from error


def fit_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Crops the centre to the aspect `height : width`, then averages areas down to that size.

    The crop has fractional edges, so no row is lost to rounding. Where a side has to grow, pixels repeat.

    Args:
        image: `[any, any, 3]` uint8.
        height: of the result, 1 to 8192.
        width: of the result, 1 to 8192.

    Returns:
        `[height, width, 3]` uint8, newly allocated; equal to `image` where that had the size already.

    Raises:
        InputError: `image` is no picture, or an empty or too large one, or the size is none.
    """
    height, width = _check_size(height, width)
    image = _check_array(image, "[height, width, 3]")
    rows, columns, _ = image.shape
    if not rows or not columns:
        raise InputError(f"image: expected at least one pixel, found shape {list(image.shape)}")
    _check_pixels("image", columns, rows)
    scale = min(rows / height, columns / width)
    top, left = (rows - scale * height) / 2, (columns - scale * width) / 2
    box = (max(left, 0), max(top, 0), min(columns - left, columns), min(rows - top, rows))
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX, box=box))


def check_frame(image: object, height: int, width: int) -> NDArray[np.uint8]:
    """Checks that an array or tensor is a frame of the model's size.

    Args:
        image: `[height, width, 3]` uint8, a NumPy array or a torch tensor on any device.
        height: of the model's frames.
        width: of the model's frames.

    Returns:
        The same pixels, C-contiguous on the CPU. Shares memory with `image` where that is so already; a
        tensor on a GPU is copied, which synchronises.

    Raises:
        InputError: another type, dtype or shape. The message says which call makes a frame of it.
    """
    height, width = _check_size(height, width)
    wanted = f"[{height}, {width}, 3]"
    array = _check_array(image, wanted)
    if array.shape != (height, width, 3):
        raise InputError(
            f"image: expected shape {wanted}, found {list(array.shape)}; "
            f"call genie_rt.runtime.images.fit_image(image, {height}, {width})"
        )
    return array


def _check_array(image: object, wanted: str) -> NDArray[np.uint8]:
    """A C-contiguous uint8 array with three axes, the last of them the three channels."""
    torch = sys.modules.get("torch")  # who passes a tensor has imported torch
    is_tensor = torch is not None and isinstance(image, torch.Tensor)
    if not is_tensor and not isinstance(image, np.ndarray):
        raise InputError(
            f"image: expected a NumPy array or torch tensor, {wanted} uint8, found {type(image).__name__}; "
            "call genie_rt.runtime.images.load_image(path) for a file, numpy.asarray for a PIL picture, "
            "numpy.stack for a list of pictures"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise InputError(
            "image: expected pixels that are all there, found a masked array; say what belongs in the gaps: "
            "image.filled(0)"
        )
    try:
        shape = list(image.shape)  # type: ignore[attr-defined]
    except RuntimeError as error:  # nested tensors
        raise InputError(f"image: expected a tensor with dense data, found {error}") from error
    dtype = str(image.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
    if dtype != "uint8":
        raise InputError(
            f"image: expected dtype uint8 (0 to 255), found {dtype}; "
            "scale, clip and round it yourself: whether 1 means white only you know"
        )
    if len(shape) != 3 or shape[2] != 3:
        remedy = "give one picture with three channels, R, G and B"
        if len(shape) == 3 and shape[0] == 3:
            remedy = "move the channels last: transpose(1, 2, 0) of an array, permute(1, 2, 0) of a tensor"
        raise InputError(f"image: expected shape {wanted}, found {shape}; {remedy}")
    if is_tensor:
        try:
            image = image.detach().cpu().numpy()  # type: ignore[attr-defined]
        except (RuntimeError, TypeError) as error:  # meta and sparse tensors
            raise InputError(f"image: expected a tensor with dense data, found {error}") from error
    return np.ascontiguousarray(image, dtype=np.uint8)


def _check_size(height: object, width: object) -> tuple[int, int]:
    sides = (("height", height), ("width", width))
    rows, columns = (
        whole_number(side, 1, MAX_SIDE, f"{name}: expected a whole number from 1 to {MAX_SIDE}")
        for name, side in sides
    )
    return rows, columns


def _check_pixels(where: str | Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{where}: expected at most {MAX_PIXELS} pixels, found {width} x {height}; scale it down first"
        )


_SCALES = {"1": 255, "L;2": 85, "L;4": 17}
"""What Pillow multiplies the greys of a PNG by, by its name of how they are packed."""


def _key_to_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """A PNG that names one colour as transparent (tRNS), with an alpha channel; others as they are.

    Pillow compares that colour with pixels that it has scaled to 8 bits: of 2, 4 and 16 bits it finds none.

    Args:
        data: of the file.
    """
    key = image.info.get("transparency")
    if not isinstance(image, PngImageFile) or image.mode not in ("1", "L", "I", "I;16", "RGB") or key is None:
        return image
    packed: Any = image.tile[0][3]
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image).astype(np.int64)
    if packed == "RGB;16B":
        with PngImageFile(BytesIO(data)) as again:
            tile: Any = (*again.tile[0][:3], "RGB;16L")  # the other byte of each number
            again.tile = [tile]
            pixels = pixels << 8 | np.asarray(again)
    if image.mode != "1" or key < 2:  # 1-bit keys come scaled or not, by Pillow's version
        key = np.multiply(key, _SCALES.get(packed, 1))
    is_key = pixels == key
    alpha = Image.fromarray(np.where(is_key.all(-1) if is_key.ndim == 3 else is_key, 0, 255).astype(np.uint8))
    plain = _opaque(image)
    plain.putalpha(alpha)
    plain.info = {name: value for name, value in image.info.items() if name != "transparency"}  # EXIF as well
    return plain


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return _opaque(image)
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """Its colours, whatever its transparency."""
    if image.mode.startswith("I"):  # Pillow's own conversion of 16-bit greys clips at 255
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _broken(path: Path, expected: str, error: Exception) -> InputError:
    reason = str(error) or type(error).__name__
    return InputError(f"{path}: expected {expected}, found a file that cannot be decoded ({reason})")
