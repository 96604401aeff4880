"""Writes the pictures of `runtime/native/tests/data/png`: `python tests/runtime/native/make_pictures.py`.

The pixel at row `y`, column `x` and channel `c` is `(37 x + 59 y + 101 c + 7 x y) mod 256`, and its lower
byte, where there are 16 bits, `(11 x + 5 y + 3 c) mod 256`: `test_png.cpp` knows that. Names that begin with
"no-" are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 9, 13
FOLDER = Path(__file__).parents[3] / "runtime/native/tests/data/png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def pixels(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    y, x, c = np.mgrid[:height, :width, :3]
    return ((37 * x + 59 * y + 101 * c + 7 * x * y) % 256).astype(np.uint8)


def wide_pixels() -> NDArray[np.uint8]:
    """`[H, W, 6]`: upper and lower byte of each channel."""
    y, x, c = np.mgrid[:HEIGHT, :WIDTH, :3]
    low = ((11 * x + 5 * y + 3 * c) % 256).astype(np.uint8)
    return np.stack([pixels(), low], -1).reshape(HEIGHT, WIDTH, 6)


def _predict(kind: int, left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    near = sorted((left, above, corner), key=lambda value: abs(guess - value))[0]
    return (0, left, above, (left + above) // 2, near)[kind]


def filtered(image: NDArray[np.uint8], filters: Callable[[int], int]) -> bytes:
    """Rows of one pass with their filters."""
    if image.size == 0:
        return b""
    rows, out = image.reshape(len(image), -1).astype(int), b""
    size = image.shape[2]
    for y, row in enumerate(rows):
        above = rows[y - 1] if y else np.zeros_like(row)
        kind, line = filters(y), []
        for i, value in enumerate(row):
            left, corner = (row[i - size], above[i - size]) if i >= size else (0, 0)
            line.append((value - _predict(min(kind, 4), left, above[i], corner)) % 256)
        out += bytes([kind, *line])
    return out


def interlaced(image: NDArray[np.uint8], filters: Callable[[int], int]) -> bytes:
    return b"".join(filtered(image[y::down, x::across], filters) for x, y, across, down in ADAM7)


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def header(height: int = HEIGHT, width: int = WIDTH, *tail: int) -> bytes:
    tail = tail or (8, 2, 0, 0, 0)
    return chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(tail))


def png(
    packed: bytes, *, head: bytes | None = None, before: bytes = b"", pieces: Iterable[int] = ()
) -> bytes:
    """A picture of compressed rows, in chunks of the sizes of `pieces` and one with the rest."""
    data, at = b"", 0
    for size in pieces:
        data += chunk(b"IDAT", packed[at : at + size])
        at += size
    return SIGNATURE + (head or header()) + before + data + chunk(b"IDAT", packed[at:]) + chunk(b"IEND")


def deflate(data: bytes, level: int = 9, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, strategy=strategy)
    return packer.compress(data) + packer.flush()


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def good() -> dict[str, bytes]:
    image, wide = pixels(), wide_pixels()
    rows = filtered(image, lambda y: y % 5)
    packed = deflate(rows)
    text = chunk(b"tEXt", b"Title\0picture") + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 100))
    return {
        **{f"filter-{kind}": png(deflate(filtered(image, lambda y, kind=kind: kind))) for kind in range(5)},
        "filters": png(packed),
        "pillow": saved(Image.fromarray(image)),
        "pillow-smallest": saved(Image.fromarray(image), optimize=True),
        "stored": png(deflate(rows, 0)),
        "fixed-codes": png(deflate(rows, strategy=zlib.Z_FIXED)),
        "codes-alone": png(deflate(rows, strategy=zlib.Z_HUFFMAN_ONLY)),
        "pieces": png(packed, pieces=(1, 0, 2, 1, 0, 7)),
        "16-bit": png(deflate(filtered(wide, lambda y: y % 5)), head=header(HEIGHT, WIDTH, 16, 2, 0, 0, 0)),
        "interlaced": png(
            deflate(interlaced(image, lambda y: 4 - y % 5)), head=header(HEIGHT, WIDTH, 8, 2, 0, 0, 1)
        ),
        "interlaced-16-bit": png(
            deflate(interlaced(wide, lambda y: (y + 2) % 5)), head=header(HEIGHT, WIDTH, 16, 2, 0, 0, 1)
        ),
        "text": png(packed, before=text),
        "transparent-colour": png(packed, before=chunk(b"tRNS", bytes((0, 1, 0, 2, 0, 3)))),
        "more-rows": png(deflate(rows + rows)),
        "without-end": png(packed)[:-12],
        "checksum-of-pixels": png(packed)[:-16] + b"\0\0\0\0" + chunk(b"IEND"),
    }


def bad() -> dict[str, bytes]:
    image = pixels()
    rows = filtered(image, lambda y: y % 5)
    packed, whole = deflate(rows), Image.fromarray(image)
    back = bytes([0x78, 0x01, 0x03, 0x02, 0x00])  # a copy of what is not there yet, in fixed codes
    return {
        "no-grey": saved(whole.convert("L")),
        "no-grey-alpha": saved(whole.convert("LA")),
        "no-grey-16-bit": saved(Image.fromarray(image[..., 0].astype(np.uint16) * 257)),
        "no-black-and-white": saved(whole.convert("1")),
        "no-palette": saved(whole.quantize(16)),
        "no-alpha": saved(whole.convert("RGBA")),
        "no-tall": saved(Image.fromarray(pixels(HEIGHT + 1))),
        "no-wide": saved(Image.fromarray(pixels(HEIGHT, WIDTH + 1))),
        "no-huge": png(packed, head=header(2**31 - 1, 2**31 - 1)),
        "no-depth": png(packed, head=header(HEIGHT, WIDTH, 4, 2, 0, 0, 0)),
        "no-filter": png(deflate(filtered(image, lambda y: 5 * (y == 7)))),
        "no-filter-method": png(packed, head=header(HEIGHT, WIDTH, 8, 2, 0, 1, 0)),
        "no-rows": png(deflate(rows[:-1])),
        "no-checksum": png(packed, before=chunk(b"tEXt", b"a\0b")[:-1] + b"\0"),
        "no-chunk": png(packed, before=(2**31).to_bytes(4, "big") + b"tEXt"),
        "no-short-colour": png(packed, before=chunk(b"tRNS", b"\0\1")),
        "no-pixels": SIGNATURE + header() + chunk(b"IEND"),
        "no-header": SIGNATURE + chunk(b"IDAT", packed) + chunk(b"IEND"),
        "no-stream": png(b"\x79" + packed[1:]),
        "no-checksum-of-rows": png(packed[:-1] + bytes([packed[-1] ^ 1])),
        "no-dictionary": png(b"\x78\x20" + packed[2:]),
        "no-kind": png(b"\x78\x01\x07" + packed[3:]),
        "no-length": png(b"\x78\x01\x01\x05\x00\xfa\xfe" + rows),
        "no-distance": png(back),
        "no-symbols": png(b"\x78\x01\xed\xff" + bytes(64)),
        "no-codes": png(b"\x78\x01\xed\x01" + bytes(64)),
        "no-half": png(packed)[:150],
        "no-jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
        "no-bytes": b"",
        "no-more-than-a-signature": SIGNATURE,
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, data in {**good(), **bad()}.items():
        (FOLDER / f"{name}.png").write_bytes(data)


if __name__ == "__main__":
    main()
