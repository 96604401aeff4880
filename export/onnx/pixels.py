"""Pixels to patches and back as nodes: `kernels/patchify/reference.py`."""

from __future__ import annotations

from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.runtime.config import TokenizerConfig


def patches_of(g: Builder, frame: Name, config: TokenizerConfig) -> Name:
    """`[1, Hpx, Wpx, 3]` uint8 to `[N, 3 patch^2]` float32 in [-1, 1]."""
    (rows, columns), patch = config.grid, config.patch
    x = g.reshape(g.cast(frame, "float32"), config.height, config.width * 3)
    x = g.node("Sub", g.node("Div", x, g.number(127.5)), g.number(1))
    below, right = rows * patch - config.height, columns * patch - config.width
    if below or right:
        x = g.reshape(x, config.height, config.width, 3)
        x = g.node("Pad", x, g.ints(0, 0, 0, below, right, 0), mode="edge")
    x = g.transpose(g.reshape(x, rows, patch, columns, patch * 3), 0, 2, 1, 3)
    return g.reshape(x, rows * columns, patch * patch * 3)


def pixels_of(g: Builder, patches: Name, config: TokenizerConfig) -> Name:
    """`[N, 3 patch^2]` to `[1, Hout, Wout, 3]`, patches of the decoder's size, cropped at the end."""
    (height, width), patch = config.output_size, config.decoder_patch
    rows, columns = -(-height // patch), -(-width // patch)
    x = g.transpose(g.reshape(patches, rows, columns, patch, patch * 3), 0, 2, 1, 3)
    x = g.reshape(x, 1, rows * patch, columns * patch, 3)
    if (rows * patch, columns * patch) == (height, width):
        return x
    return g.node("Slice", x, g.ints(0, 0), g.ints(height, width), g.ints(1, 2), name="crop")


def to_uint8(g: Builder, pixels: Name) -> Name:
    """[-1, 1] to uint8 by clamping and rounding to nearest."""
    x = g.node("Mul", g.node("Add", pixels, g.number(1)), g.number(127.5))
    x = g.node("Round", g.node("Clip", x, g.number(0), g.number(255)))
    return g.cast(x, "uint8", name="rgb")
