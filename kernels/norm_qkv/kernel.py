"""Residual addition and RMS norm of whole rows, optionally quantised to fp8."""

from __future__ import annotations

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
from genie_rt.kernels.norm_qkv.reference import EPS, FP8_MAX, SMALLEST_AMAX
from genie_rt.kernels.shapes import SHAPES

MAX_ROWS = 2**30
MAX_WIDTH = 16384
FP8_CAPABILITY = 89
"""The lowest whose compiler knows e4m3."""

_EPS = tl.constexpr(EPS)
_FP8_MAX = tl.constexpr(FP8_MAX)
_SMALLEST_AMAX = tl.constexpr(SMALLEST_AMAX)


@triton.jit
def quantise_rows(y):
    """`round(y / scale)` in e4m3 and `scale = max |y| / 448` of each row of `y` [ROWS, BLOCK] fp32."""
    amax = tl.maximum(tl.max(tl.abs(y), 1), _SMALLEST_AMAX)
    scale = tl.div_rn(amax, tl.full(amax.shape, _FP8_MAX, tl.float32))
    inverse = tl.div_rn(tl.full(amax.shape, _FP8_MAX, tl.float32), amax)
    return (y * inverse[:, None]).to(tl.float8e4nv), scale


@triton.jit
def _norm_rows(
    x_ptr, delta_ptr, weight_ptr, offset, column, inside, D: tl.constexpr, HAS_DELTA: tl.constexpr
):
    """`x += delta`; gives `x / sqrt(mean(x^2) + eps) * weight` in fp32, of `x` as its dtype holds it."""
    x = tl.load(x_ptr + offset, mask=inside, other=0.0)
    if HAS_DELTA:
        delta = tl.load(delta_ptr + offset, mask=inside, other=0.0)
        x = (x.to(tl.float32) + delta.to(tl.float32)).to(x_ptr.dtype.element_ty)
        tl.store(x_ptr + offset, x, mask=inside)
    weight = tl.load(weight_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 1) / D + _EPS)
    return wide * scale[:, None] * weight[None, :]


@triton.jit(do_not_specialize=("num_rows",))
def _norm_qkv(
    x_ptr, delta_ptr, weight_ptr, y_ptr, num_rows,
    D: tl.constexpr, BLOCK_D: tl.constexpr, HAS_DELTA: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """`x += delta; y = x / sqrt(mean(x^2) + eps) * weight`.

    One program has whole rows: `TILE` numbers of them, or one row where that is longer. So every byte of `x`,
    `delta` and `y` moves once.
    """
    ROWS: tl.constexpr = TILE // BLOCK_D if TILE > BLOCK_D else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    inside = (row < num_rows)[:, None] & (column < D)[None, :]
    offset = row.to(tl.int64)[:, None] * D + column[None, :]
    y = _norm_rows(x_ptr, delta_ptr, weight_ptr, offset, column, inside, D, HAS_DELTA)
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=("num_rows",))
def _norm_qkv_fp8(
    x_ptr, delta_ptr, weight_ptr, y_ptr, scale_ptr, num_rows,
    D: tl.constexpr, BLOCK_D: tl.constexpr, HAS_DELTA: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """As `_norm_qkv`, then `scale = max |y| / 448` and `y = round(y / scale)` of each row."""
    ROWS: tl.constexpr = TILE // BLOCK_D if TILE > BLOCK_D else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    inside = (row < num_rows)[:, None] & (column < D)[None, :]
    offset = row.to(tl.int64)[:, None] * D + column[None, :]
    y = _norm_rows(x_ptr, delta_ptr, weight_ptr, offset, column, inside, D, HAS_DELTA)
    quantised, scale = quantise_rows(y)
    tl.store(y_ptr + offset, quantised, mask=inside)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)


AUTOTUNE_SPACE = (
    config(8, 1, TILE=4096),
    config(4, 1, TILE=2048),
    config(8, 1, TILE=8192),
    config(16, 1, TILE=8192),
    config(4, 1, TILE=1024),
    config(2, 1, TILE=1024),
    config(1, 1, TILE=512),
)
"""`TILE`: numbers of a program, in rows of a width rounded up to a power of 2; 16 a thread by default, 32
where a row of 8192 is longer than the tile. There is no loop, so there are no stages."""


def rows_of_tile(chosen: Config, block_width: int) -> int:
    """Rows of a program, as the kernels compute it."""
    return max(1, dict(chosen.blocks)["TILE"] // block_width)


def _variant(dtype: torch.dtype, width: int, has_delta: bool) -> str:
    return f"{TRITON_TYPES[dtype]}-d{width}" + ("-delta" if has_delta else "")


def _variants(fp8: bool) -> tuple[Variant, ...]:
    found = []
    for dtype in FLOATS[1:] if fp8 else FLOATS:  # who runs fp32 does not want fp8
        number = f"*{TRITON_TYPES[dtype]}"
        types = dict.fromkeys(("x_ptr", "delta_ptr", "weight_ptr"), number)
        types |= {"y_ptr": "*fp8e4nv", "scale_ptr": "*fp32"} if fp8 else {"y_ptr": number}
        types |= {"num_rows": "i32"}
        widths = sorted({shape.width for shape in SHAPES.values()})
        # the first norm of a frame has nothing to add
        for width, has_delta in [(width, True) for width in widths] + [(widths[0], False)]:
            constants = {"D": width, "BLOCK_D": next_power_of_2(width), "HAS_DELTA": has_delta}
            name = _variant(dtype, width, has_delta)
            capability = FP8_CAPABILITY if fp8 else 80
            found.append(Variant(name=name, types=types, constants=constants, capability=capability))
    return tuple(found)


KERNEL = Kernel(name="norm_qkv", function=_norm_qkv, space=AUTOTUNE_SPACE, variants=_variants(fp8=False))
KERNEL_FP8 = Kernel(
    name="norm_qkv_fp8", function=_norm_qkv_fp8, space=AUTOTUNE_SPACE, variants=_variants(fp8=True)
)
KERNELS = (KERNEL, KERNEL_FP8)


def norm_qkv(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Launches `reference.norm_qkv` on the current stream; does not synchronise.

    Args:
        x: `[M, D]` fp32, fp16 or bf16, contiguous, D at most 16384. Gets `x + delta`.
        delta: like `x`, memory of its own; None where there is nothing to add, and `x` is only read.
        weight: `[D]` in the dtype of `x` or fp32.
        out: like `x`, memory of its own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Returns:
        The norm, `[M, D]` in the dtype of `x`.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    _check(x, delta, weight, KERNEL)
    if out is None:
        out = torch.empty_like(x)
    else:
        check_tensor("out", out, x.shape, (x.dtype,), like=x)
        check_apart(out=out, x=x, delta=delta, weight=weight)
    _launch(KERNEL, config, x, delta, weight, out)
    return out


def norm_qkv_fp8(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    *,
    out: tuple[Tensor, Tensor] | None = None,
    config: Config | None = None,
) -> tuple[Tensor, Tensor]:
    """Launches `reference.norm_qkv_fp8` on the current stream; does not synchronise. From sm_89 on.

    Args:
        x, delta, weight, config: as `norm_qkv` takes them.
        out: `[M, D]` float8_e4m3fn and `[M, 1]` fp32, memory of their own; allocated where not given.

    Returns:
        The quantised norm and the scales of its rows.

    Raises:
        InputError, UnsupportedError: an argument is not as above, or the device has no fp8.
    """
    _check(x, delta, weight, KERNEL_FP8)
    check_fp8(x.device, KERNEL_FP8.name)
    out = fp8_outputs(x, out, delta=delta, weight=weight)
    _launch(KERNEL_FP8, config, x, delta, weight, *out)
    return out


def check_fp8(device: torch.device, name: str) -> None:
    """Raises `UnsupportedError` on a CUDA device without e4m3."""
    capability = capability_of(device)
    if 0 < capability < FP8_CAPABILITY:
        raise UnsupportedError(
            f"{name}: expected a device of compute capability 8.9 or later for fp8, found "
            f"{capability // 10}.{capability % 10}; choose bf16 or fp16"
        )


def fp8_outputs(
    x: Tensor, out: tuple[Tensor, Tensor] | None, **others: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The quantised `[M, D]` and the scales `[M, 1]` that belong to `x` `[M, D]`: given ones are checked."""
    if out is None:
        return (
            torch.empty_like(x, dtype=torch.float8_e4m3fn),
            torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device),
        )
    quantised = check_tensor("out", out[0], x.shape, (torch.float8_e4m3fn,), like=x)
    scale = check_tensor("scale", out[1], (x.shape[0], 1), (torch.float32,), like=x)
    check_apart(out=quantised, scale=scale, x=x, **others)
    check_apart(scale=scale, x=x, **others)
    return quantised, scale


def _check(x: Tensor, delta: Tensor | None, weight: Tensor, kernel: Kernel) -> None:
    check_device(x, kernel)
    check_tensor("x", x, (None, None), FLOATS)
    check_range("rows", x.shape[0], 1, MAX_ROWS)
    check_range("width", x.shape[1], 1, MAX_WIDTH)
    if delta is not None:
        check_tensor("delta", delta, x.shape, (x.dtype,), like=x)
    check_tensor("weight", weight, x.shape[1:], (x.dtype, torch.float32), like=x)
    check_apart(x=x, delta=delta, weight=weight)


def _launch(
    kernel: Kernel, chosen: Config | None, x: Tensor, delta: Tensor | None, weight: Tensor, *outputs: Tensor
) -> None:
    num_rows, width = x.shape
    chosen = chosen or kernel.config_for(_variant(x.dtype, width, delta is not None), x.device)
    block_width = next_power_of_2(width)
    grid = (triton.cdiv(num_rows, rows_of_tile(chosen, block_width)),)
    with on_device(x.device):
        kernel.launch(
            grid, chosen, x, x if delta is None else delta, weight, *outputs, num_rows,
            D=width, BLOCK_D=block_width, HAS_DELTA=delta is not None,
        )  # fmt: skip


def cost(num_rows: int, width: int, dtype: torch.dtype, *, has_delta: bool = True, fp8: bool = False) -> Cost:
    """Reads `x` and `delta`, writes `x` where it changes, and `y`."""
    size = dtype.itemsize
    a_row = width * (size + (2 * size if has_delta else 0) + (1 if fp8 else size)) + (4 if fp8 else 0)
    return Cost(flops=0, bytes=num_rows * a_row + width * size)
