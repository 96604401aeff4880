"""Pictures and videos."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random

import numpy as np
from fuzz.case import Case
from fuzz.mutate import mutate_bytes
from fuzz.target import names_of, other_kind


def picture_change(random: Random, data: bytes, others: Path) -> tuple[str, bytes]:
    draw = random.random()
    if data.startswith(b"\x89PNG") and draw < 0.4:
        return _png_change(random, data)
    if draw < 0.5:
        name = random.choice(names_of(others, "*"))
        return f"as {name}", (others / name).read_bytes()
    return mutate_bytes(random, data)


def _png_change(random: Random, data: bytes) -> tuple[str, bytes]:
    """A change to one chunk, whose checksum is right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    index = random.randrange(len(chunks))
    kind, body = chunks[index]
    match random.randrange(6):
        case 0:
            word, body = mutate_bytes(random, body)
            chunks[index] = kind, body
        case 1:
            sides = [random.choice((0, 1, 2, 8, 12, 8192, 65535, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
            head = b"".join(side.to_bytes(4, "big") for side in sides)
            tail = bytes([random.choice((1, 2, 4, 8, 16, 3)), random.choice((0, 2, 3, 4, 6, 5)), 0, 0, 0])
            chunks[0] = b"IHDR", head + random.choice((chunks[0][1][8:], tail))
            word = f"{sides[0]} by {sides[1]} pixels"
        case 2:
            bomb = zlib.compress(bytes(random.choice((1 << 10, 1 << 20, 1 << 26))))
            chunks.insert(1, (random.choice((b"zTXt", b"iCCP")), b"a\0\0" + bomb))
            word = "compressed text"
        case 3:
            chunks.insert(
                random.randrange(1, len(chunks)),
                (random.choice((b"tRNS", b"PLTE", b"eXIf", b"acTL")), random.randbytes(random.randrange(80))),
            )
            word = "another chunk"
        case 4:
            chunks.insert(index, chunks[index])
            word = "a chunk twice"
        case _:
            pixels = zlib.compress(random.randbytes(random.choice((0, 10, 296, 10_000))))
            chunks = [(k, pixels if k == b"IDAT" else b) for k, b in chunks]
            word = "other pixels"
    parts = [len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks]
    return word, data[:8] + b"".join(parts)


def make_picture(random: Random, sample: Path) -> Case:
    names = names_of(sample, "*")
    if (case := other_kind(random, "picture", names)) is not None:
        return case
    name = random.choice(names)
    word, data = picture_change(random, (sample / name).read_bytes(), sample)
    return Case(target="picture", what=f"{name}: {word}", files={name: data})


def open_picture(folder: Path, case: Case) -> None:
    from genie_rt.runtime.images import MAX_PIXELS, fit_image, load_image

    for name in case.files:
        image = load_image(folder / name)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
        assert fit_image(image, 8, 12).shape == (8, 12, 3)


def open_video(folder: Path, case: Case) -> None:
    from genie_rt.training.data.video import VideoOptions, import_videos

    options = VideoOptions(height=8, width=16, min_frames=4, fps=25)
    names = [folder / name for name in case.files]
    store = import_videos(names, folder / "out", options=options).store
    assert (store.height, store.width) == (8, 16)
    assert store.clips(length=4).batch([0])[0].shape == (1, 4, 8, 16, 3)
