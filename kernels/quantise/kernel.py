"""Whole rows to 8 bits, alone or at the end of other kernels, and products of int8 back to numbers."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.kernels.arguments import FLOATS, check_apart, check_range, check_tensor
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import (
    TRITON_TYPES,
    Config,
    Kernel,
    Variant,
    capability_of,
    check_device,
    config,
    next_power_of_2,
    on_device,
)
from genie_rt.kernels.quantise.reference import FP8_MAX, INT8_MAX, SMALLEST_AMAX
from genie_rt.kernels.shapes import SHAPES

MAX_ROWS = 2**30
MAX_WIDTH = 16384
"""Largest width of a row, which one program holds."""

MAX_COLUMNS = 2**20
"""Largest width of a product, whose rows are shared by several programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Numbers of 8 bits.

    Attributes:
        name: as in the names of operators and kernels.
        dtype: torch's. pointer: Triton's type of a pointer to such numbers.
        capability: the lowest whose compiler knows them.
    """

    name: str
    dtype: torch.dtype
    pointer: str
    capability: int


FP8 = Format(name="fp8", dtype=torch.float8_e4m3fn, pointer="*fp8e4nv", capability=89)
INT8 = Format(name="int8", dtype=torch.int8, pointer="*i8", capability=80)

_FP8_MAX = tl.constexpr(FP8_MAX)
_INT8_MAX = tl.constexpr(INT8_MAX)
_SMALLEST_AMAX = tl.constexpr(SMALLEST_AMAX)
_TO_INTEGER = tl.constexpr(1.5 * 2.0**23)


@triton.jit
def whole_rows(num_rows, D: tl.constexpr, BLOCK_D: tl.constexpr, TILE: tl.constexpr):
    """Rows, columns, mask and offsets of a program in `[num_rows, D]`: as many whole rows as `TILE` holds."""
    ROWS: tl.constexpr = TILE // BLOCK_D if TILE > BLOCK_D else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    inside = (row < num_rows)[:, None] & (column < D)[None, :]
    offset = row.to(tl.int64)[:, None] * D + column[None, :]
    return row, column, inside, offset


@triton.jit
def quantise_tile(y, number: tl.constexpr):
    """`round(y / scale)` and `scale = max |y| / largest` of each row of `y` [ROWS, BLOCK] fp32.

    `number` is `tl.float8e4nv`, whose largest is 448, or `tl.int8`, where it is 127.
    """
    LARGEST: tl.constexpr = _INT8_MAX if number == tl.int8 else _FP8_MAX
    magnitude = tl.abs(y)
    if number == tl.int8:
        magnitude = tl.where(y == y, magnitude, float("inf"))  # the scale has to show NaN: integers cannot
    amax = tl.maximum(tl.max(magnitude, 1), _SMALLEST_AMAX)
    largest = tl.full(amax.shape, LARGEST, tl.float32)
    scale = tl.div_rn(amax, largest)
    level = y * tl.div_rn(largest, amax)[:, None]
    if number == tl.int8:
        # between 2**23 and 2**24 floats are integers: the sum rounds to nearest even
        return ((level + _TO_INTEGER) - _TO_INTEGER).to(tl.int32).to(tl.int8), scale
    else:
        return level.to(number), scale


@triton.jit(do_not_specialize=("num_rows",))
def _quantise_rows(
    x_ptr, q_ptr, scale_ptr, num_rows, D: tl.constexpr, BLOCK_D: tl.constexpr, TILE: tl.constexpr
):
    """`q = round(x / scale)` with `scale = max |x| / largest` of whole rows, as many as `TILE` holds."""
    row, _, inside, offset = whole_rows(num_rows, D, BLOCK_D, TILE)
    x = tl.load(x_ptr + offset, mask=inside, other=0.0)
    quantised, scale = quantise_tile(x.to(tl.float32), q_ptr.dtype.element_ty)
    tl.store(q_ptr + offset, quantised, mask=inside)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)


@triton.jit(do_not_specialize=("num_rows",))
def _dequantise_product(
    product_ptr, row_scale_ptr, column_scale_ptr, out_ptr, num_rows, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`out[m, n] = product[m, n] * row_scale[m] * column_scale[n]`, `ROWS * COLUMNS` of them a program."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < num_rows)[:, None] & (column < width)[None, :]
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    row_scale = tl.load(row_scale_ptr + row, mask=row < num_rows, other=0.0)
    column_scale = tl.load(column_scale_ptr + column, mask=column < width, other=0.0)
    product = tl.load(product_ptr + offset, mask=inside, other=0)
    y = product.to(tl.float32) * row_scale[:, None] * column_scale[None, :]
    tl.store(out_ptr + offset, y.to(out_ptr.dtype.element_ty), mask=inside)


AUTOTUNE_SPACE = (
    config(8, 1, TILE=4096),
    config(4, 1, TILE=2048),
    config(8, 1, TILE=8192),
    config(16, 1, TILE=8192),
    config(4, 1, TILE=1024),
)
"""`TILE`: numbers of a program, in rows of a width rounded up to a power of 2."""

AUTOTUNE_SPACE_PRODUCT = (
    config(4, 1, ROWS=4, COLUMNS=512),
    config(4, 1, ROWS=8, COLUMNS=256),
    config(8, 1, ROWS=8, COLUMNS=512),
    config(4, 1, ROWS=2, COLUMNS=512),
    config(4, 1, ROWS=2, COLUMNS=1024),
)


def rows_of_tile(chosen: Config, block_width: int) -> int:
    """Rows of a program, as the kernels compute it."""
    return max(1, dict(chosen.blocks)["TILE"] // block_width)


def _variant(dtype: torch.dtype, width: int, letter: str) -> str:
    return f"{TRITON_TYPES[dtype]}-{letter}{width}"


def variants_of_rows(form: Format, widths: AbstractSet[int], letter: str) -> tuple[Variant, ...]:
    """List the variants of a kernel with the arguments of `_quantise_rows`.

    Args:
        widths: of the rows.
        letter: what a variant's name calls a width.
    """
    return tuple(
        Variant(
            name=_variant(dtype, width, letter),
            types={
                "x_ptr": f"*{TRITON_TYPES[dtype]}",
                "q_ptr": form.pointer,
                "scale_ptr": "*fp32",
                "num_rows": "i32",
            },
            constants={"D": width, "BLOCK_D": next_power_of_2(width)},
            capability=form.capability,
        )
        for dtype in FLOATS[1:]  # who runs fp32 does not want 8 bits
        for width in sorted(widths)
    )


def _variants(form: Format) -> tuple[Variant, ...]:
    """List the variants for attention's output: other GEMM inputs are quantised where they are computed."""
    return variants_of_rows(form, {shape.heads * shape.head_width for shape in SHAPES.values()}, "d")


def _variants_product() -> tuple[Variant, ...]:
    """The presets' widths are multiples of 16."""
    return tuple(
        Variant(
            name=TRITON_TYPES[dtype],
            types={
                "product_ptr": "*i32",
                "row_scale_ptr": "*fp32",
                "column_scale_ptr": "*fp32",
                "out_ptr": f"*{TRITON_TYPES[dtype]}",
                "num_rows": "i32",
                "width": "i32",
            },
            constants={},
            multiples_of_16=("width",),
        )
        for dtype in FLOATS
    )


KERNEL_FP8 = Kernel(
    name="quantise_rows", function=_quantise_rows, space=AUTOTUNE_SPACE, variants=_variants(FP8)
)
KERNEL_INT8 = Kernel(
    name="quantise_rows_int8", function=_quantise_rows, space=AUTOTUNE_SPACE, variants=_variants(INT8)
)
KERNEL_PRODUCT = Kernel(
    name="dequantise_product",
    function=_dequantise_product,
    space=AUTOTUNE_SPACE_PRODUCT,
    variants=_variants_product(),
)
KERNELS = (KERNEL_FP8, KERNEL_INT8, KERNEL_PRODUCT)


def quantise_rows(
    x: Tensor, *, out: tuple[Tensor, Tensor] | None = None, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """Launch `reference.quantise_rows` on the current stream; does not synchronise. From sm_89 on.

    Args:
        x: `[M, D]` fp32, fp16 or bf16, contiguous, D at most 16384.
        out: `[M, D]` float8_e4m3fn and `[M, 1]` fp32, memory of their own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Returns:
        The quantised rows and their scales.

    Raises:
        InputError, UnsupportedError: an argument is not as above, or the device has no fp8.
    """
    return launch_on_rows(KERNEL_FP8, FP8, x, out, config)


def quantise_rows_int8(
    x: Tensor, *, out: tuple[Tensor, Tensor] | None = None, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """Launch `reference.quantise_rows_int8` on the current stream; does not synchronise.

    Args:
        x, config: as `quantise_rows` takes them.
        out: `[M, D]` int8 and `[M, 1]` fp32, memory of their own; allocated where not given.

    Returns:
        The quantised rows and their scales.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    return launch_on_rows(KERNEL_INT8, INT8, x, out, config)


def dequantise_product(
    product: Tensor, row_scale: Tensor, column_scale: Tensor, out: Tensor, *, config: Config | None = None
) -> None:
    """Launch `reference.dequantise_product` on the current stream; neither allocates nor synchronises.

    Args:
        product: `[M, N]` int32, contiguous.
        row_scale: `[M, 1]` fp32, contiguous. column_scale: `[1, N]` fp32, contiguous.
        out: `[M, N]` fp32, fp16 or bf16, contiguous, memory of its own.
        config: in place of the one that is tuned for this device.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    check_device(product, KERNEL_PRODUCT)
    check_tensor("product", product, (None, None), (torch.int32,))
    num_rows, width = product.shape
    check_range("rows", num_rows, 1, MAX_ROWS)
    check_range("columns", width, 1, MAX_COLUMNS)
    check_tensor("row_scale", row_scale, (num_rows, 1), (torch.float32,), like=product)
    check_tensor("column_scale", column_scale, (1, width), (torch.float32,), like=product)
    check_tensor("out", out, product.shape, FLOATS, like=product)
    check_apart(out=out, product=product, row_scale=row_scale, column_scale=column_scale)
    chosen = config or KERNEL_PRODUCT.config_for(TRITON_TYPES[out.dtype], out.device)
    blocks = dict(chosen.blocks)
    grid = (triton.cdiv(num_rows, blocks["ROWS"]), triton.cdiv(width, blocks["COLUMNS"]))
    with on_device(out.device):
        KERNEL_PRODUCT.launch(grid, chosen, product, row_scale, column_scale, out, num_rows, width)


def quantised_outputs(
    kernel: Kernel, form: Format, x: Tensor, out: tuple[Tensor, Tensor] | None, **others: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The quantised `[M, D]` and the scales `[M, 1]` that belong to `x` `[M, D]`: given ones are checked.

    Args:
        others: further arguments that the outputs must not overlap.

    Raises:
        InputError, UnsupportedError: they do not fit, or the device does not know the format.
    """
    capability = capability_of(x.device)
    if 0 < capability < form.capability:
        raise UnsupportedError(
            f"{kernel.name}: expected a device of compute capability {form.capability // 10}."
            f"{form.capability % 10} or later for {form.name}, found {capability // 10}.{capability % 10}; "
            "choose bf16 or fp16"
        )
    if out is None:
        return (
            torch.empty_like(x, dtype=form.dtype),
            torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device),
        )
    quantised = check_tensor("out", out[0], x.shape, (form.dtype,), like=x)
    scale = check_tensor("scale", out[1], (x.shape[0], 1), (torch.float32,), like=x)
    check_apart(out=quantised, scale=scale, x=x, **others)
    check_apart(scale=scale, x=x, **others)
    return quantised, scale


def launch_on_rows(
    kernel: Kernel, form: Format, x: Tensor, out: tuple[Tensor, Tensor] | None, chosen: Config | None,
    *, name: str = "x", letter: str = "d",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Launch a kernel with the arguments of `_quantise_rows`; the public launchers say what they are.

    Args:
        name: of `x` in messages.
        letter: as `variants_of_rows` takes it.
    """
    check_device(x, kernel)
    check_tensor(name, x, (None, None), FLOATS)
    num_rows, width = x.shape
    check_range("rows", num_rows, 1, MAX_ROWS)
    check_range("width", width, 1, MAX_WIDTH)
    out = quantised_outputs(kernel, form, x, out)
    chosen = chosen or kernel.config_for(_variant(x.dtype, width, letter), x.device)
    block_width = next_power_of_2(width)
    grid = (triton.cdiv(num_rows, rows_of_tile(chosen, block_width)),)
    with on_device(x.device):
        kernel.launch(grid, chosen, x, *out, num_rows, D=width, BLOCK_D=block_width)
    return out


def cost(num_rows: int, width: int, dtype: torch.dtype) -> Cost:
    """Cost of quantising to either 8-bit format: reads `x`, writes one byte per number and the scales."""
    return Cost(flops=0, bytes=num_rows * (width * (dtype.itemsize + 1) + 4))


def cost_product(num_rows: int, width: int, dtype: torch.dtype) -> Cost:
    """Reads the product and all scales, writes `out`."""
    return Cost(flops=0, bytes=num_rows * width * (4 + dtype.itemsize) + 4 * (num_rows + width))
