"""Pixels to patches and back, one launch each: what moves is bytes, and all of them in order on one side."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.kernels.arguments import FLOATS, check_apart, check_range, check_tensor
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import TRITON_TYPES, Config, Kernel, Variant, check_device, config, on_device

MAX_SIDE = 2**14
"""Largest side of a picture, in pixels: offsets within one are 32 bits."""

MAX_PATCH = 64
MAX_PROGRAMS = 2**31 - 1

_TO_INTEGER = tl.constexpr(2.0**23)


@triton.jit(do_not_specialize=("height", "rows", "columns"))
def _patchify(
    frames,
    patches,
    height,
    width,
    rows,
    columns,
    CUT: tl.constexpr,
    PATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`patches[f, n, (y, x, c)] = frames[f, row of n + y, column of n + x, c] / 127.5 - 1`.

    Rows and columns beyond the picture are its last ones. A program writes `BLOCK` numbers of one row of
    patches, which lie in order; what it reads are runs of `3 * PATCH` bytes out of `PATCH` lines of pixels.
    Rounds once, from fp32. CUT: a picture ends within a column of patches.
    """
    frame = (tl.program_id(0) // rows).to(tl.int64)
    row = tl.program_id(0) % rows
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    asked = number < columns * (PATCH * PATCH * 3)
    run = number // (PATCH * 3)
    y = tl.minimum(row * PATCH + run % PATCH, height - 1)
    x = run // PATCH * (PATCH * 3) + number % (PATCH * 3)  # in bytes
    if CUT:
        x = tl.where(x < width * 3, x, (width - 1) * 3 + x % 3)

    source = frames + frame * height * width * 3
    level = tl.load(source + y * (width * 3) + x, mask=asked, other=0)
    value = tl.div_rn(level.to(tl.float32), 127.5) - 1.0  # a GPU's plain division is off by an ulp or two
    target = patches + (frame * rows + row) * columns * (PATCH * PATCH * 3)
    tl.store(target + number, value.to(patches.dtype.element_ty), mask=asked)


@triton.jit(do_not_specialize=("height", "rows", "columns", "bands"))
def _unpatchify(
    patches,
    frames,
    height,
    width,
    rows,
    columns,
    bands,
    PATCH: tl.constexpr,
    LINES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`frames[f, y, x, c] = round(clamp((patches[f, n, (y, x, c)] + 1) * 127.5, 0, 255))`, ties to even.

    A program writes `BLOCK` bytes of each of `LINES` lines of pixels. With `LINES` dividing `PATCH` no other
    one reads the same memory twice. NaN becomes 0.
    """
    frame = (tl.program_id(0) // bands).to(tl.int64)
    y = (tl.program_id(0) % bands * LINES + tl.arange(0, LINES))[:, None]
    byte = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    asked = (y < height) & (byte < width * 3)
    patch = y // PATCH * columns + byte // (PATCH * 3)
    within = y % PATCH * (PATCH * 3) + byte % (PATCH * 3)

    source = patches + frame * rows * columns * (PATCH * PATCH * 3)
    value = tl.load(source + patch * (PATCH * PATCH * 3) + within, mask=asked, other=0.0).to(tl.float32)
    level = tl.minimum(tl.maximum((value + 1.0) * 127.5, 0.0), 255.0)
    level = (level + _TO_INTEGER) - _TO_INTEGER  # beyond 2**23 floats are integers: the sum rounds as they do
    target = frames + frame * height * width * 3
    tl.store(target + y * (width * 3) + byte, level.to(tl.int32).to(tl.uint8), mask=asked)


AUTOTUNE_SPACE = (
    config(4, 1, BLOCK=1024),
    config(4, 1, BLOCK=512),
    config(8, 1, BLOCK=2048),
    config(2, 1, BLOCK=256),
)

UNPATCHIFY_SPACE = (
    config(4, 1, LINES=4, BLOCK=256),
    config(4, 1, LINES=4, BLOCK=512),
    config(8, 1, LINES=4, BLOCK=1024),
    config(2, 1, LINES=2, BLOCK=256),
)

_PRESET_PATCHES = (4, 16)


def _variants(pointers: tuple[str, str], sizes: tuple[str, ...], **constants: bool) -> tuple[Variant, ...]:
    """List the variants of the presets, whose widths are multiples of 16 and of their patches.

    Args:
        pointers, sizes: names of the run-time arguments, in order.
    """
    return tuple(
        Variant(
            name=f"{name}-p{patch}",
            types={
                **{pointer: "*u8" if pointer == "frames" else f"*{name}" for pointer in pointers},
                **dict.fromkeys(sizes, "i32"),
            },
            constants={**constants, "PATCH": patch},
            multiples_of_16=("width",),
        )
        for name in ("bf16", "fp16", "fp32")
        for patch in _PRESET_PATCHES
    )


PATCHIFY = Kernel(
    name="patchify",
    function=_patchify,
    space=AUTOTUNE_SPACE,
    variants=_variants(("frames", "patches"), ("height", "width", "rows", "columns"), CUT=False),
)

UNPATCHIFY = Kernel(
    name="unpatchify",
    function=_unpatchify,
    space=UNPATCHIFY_SPACE,
    variants=_variants(("patches", "frames"), ("height", "width", "rows", "columns", "bands")),
)

KERNELS = (PATCHIFY, UNPATCHIFY)


def patchify(
    frames: Tensor,
    patch: int,
    dtype: torch.dtype,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """`reference.patchify` on a GPU, in fp32 and rounded once to `dtype`.

    Runs on the current stream, waits for nothing, and allocates nothing where `out` is given.

    Args:
        frames: `[B, T, Hpx, Wpx, 3]` uint8, contiguous.
        patch: pixels a side, 1 to 64. A side that it does not divide is padded with its last row or column.
        dtype: fp32, fp16 or bf16.
        out: `[B, T, N, patch * patch * 3]` of `dtype`, contiguous, apart from `frames`.
        config: a launch configuration in place of the committed one.

    Returns:
        `out`.

    Raises:
        InputError: a shape, layout, device or overlap that the kernel cannot take.
        UnsupportedError: a dtype or size that it was not made for.
    """
    check_device(frames, PATCHIFY)
    check_tensor("frames", frames, (None, None, None, None, 3), (torch.uint8,))
    batch, time, height, width, _ = frames.shape
    _check_sizes(patch, height, width)
    rows, columns = triton.cdiv(height, patch), triton.cdiv(width, patch)
    shape = (batch, time, rows * columns, patch * patch * 3)
    if dtype not in FLOATS:
        raise UnsupportedError(f"dtype: expected float32, bfloat16 or float16, found {dtype}")
    if out is None:
        out = torch.empty(shape, dtype=dtype, device=frames.device)
    else:
        check_tensor("out", out, shape, (dtype,), like=frames)
        check_apart(out=out, frames=frames)

    config = config or PATCHIFY.config_for(f"{TRITON_TYPES[dtype]}-p{patch}", frames.device)
    programs = check_range("B * T * rows of patches", batch * time * rows, 0, MAX_PROGRAMS)
    blocks = triton.cdiv(columns * shape[-1], dict(config.blocks)["BLOCK"])
    if programs:
        with on_device(frames.device):
            PATCHIFY.launch(
                (programs, blocks), config, frames, out, height, width, rows, columns,
                CUT=width % patch != 0, PATCH=patch,
            )  # fmt: skip
    return out


def unpatchify(
    patches: Tensor,
    patch: int,
    height: int,
    width: int,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """`reference.unpatchify_to_uint8` on a GPU, bit for bit but for NaN, which becomes 0.

    Runs on the current stream, waits for nothing, and allocates nothing where `out` is given.

    Args:
        patches: `[B, T, N, patch * patch * 3]` fp32, fp16 or bf16, contiguous, nominally in [-1, 1].
        patch: pixels a side, 1 to 64.
        height, width: of a picture, in pixels; `N` is the number of patches that cover it.
        out: `[B, T, height, width, 3]` uint8, contiguous, apart from `patches`.
        config: a launch configuration in place of the committed one.

    Returns:
        `out`.

    Raises:
        InputError: a shape, layout, device or overlap that the kernel cannot take.
        UnsupportedError: a dtype or size that it was not made for.
    """
    check_device(patches, UNPATCHIFY)
    _check_sizes(patch, height, width)
    rows, columns = triton.cdiv(height, patch), triton.cdiv(width, patch)
    check_tensor("patches", patches, (None, None, rows * columns, patch * patch * 3), FLOATS)
    batch, time = patches.shape[:2]
    shape = (batch, time, height, width, 3)
    if out is None:
        out = torch.empty(shape, dtype=torch.uint8, device=patches.device)
    else:
        check_tensor("out", out, shape, (torch.uint8,), like=patches)
        check_apart(out=out, patches=patches)

    config = config or UNPATCHIFY.config_for(f"{TRITON_TYPES[patches.dtype]}-p{patch}", patches.device)
    blocks = dict(config.blocks)
    bands = triton.cdiv(height, blocks["LINES"])
    programs = check_range("B * T * bands of lines", batch * time * bands, 0, MAX_PROGRAMS)
    if programs:
        with on_device(patches.device):
            UNPATCHIFY.launch(
                (programs, triton.cdiv(width * 3, blocks["BLOCK"])), config,
                patches, out, height, width, rows, columns, bands, PATCH=patch,
            )  # fmt: skip
    return out


def cost(frames: int, height: int, width: int, patch: int, dtype: torch.dtype, *, back: bool = False) -> Cost:
    """Every byte of the pictures and every number of the patches, once.

    Args:
        back: of `unpatchify`, which has no use for what lies beyond the picture.
    """
    pixels = height * width
    numbers = pixels if back else triton.cdiv(height, patch) * triton.cdiv(width, patch) * patch**2
    return Cost(flops=0, bytes=frames * 3 * (pixels + numbers * dtype.itemsize))


def _check_sizes(patch: int, height: int, width: int) -> None:
    check_range("patch", patch, 1, MAX_PATCH)
    check_range("height", height, 1, MAX_SIDE)
    check_range("width", width, 1, MAX_SIDE)
