"""Residual addition and RMS norm of whole rows, optionally quantised to 8 bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.kernels.arguments import FLOATS, check_apart, check_range, check_tensor
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import (
    TRITON_TYPES,
    Config,
    Kernel,
    Variant,
    check_device,
    config,
    next_power_of_2,
    on_device,
)
from genie_rt.kernels.norm_qkv.reference import EPS
from genie_rt.kernels.quantise.kernel import (
    FP8,
    INT8,
    MAX_ROWS,
    MAX_WIDTH,
    Format,
    quantise_tile,
    quantised_outputs,
    rows_of_tile,
    whole_rows,
)
from genie_rt.kernels.shapes import SHAPES

_EPS = tl.constexpr(EPS)


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
    _, column, inside, offset = whole_rows(num_rows, D, BLOCK_D, TILE)
    y = _norm_rows(x_ptr, delta_ptr, weight_ptr, offset, column, inside, D, HAS_DELTA)
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=("num_rows",))
def _norm_qkv_quantised(
    x_ptr, delta_ptr, weight_ptr, y_ptr, scale_ptr, num_rows,
    D: tl.constexpr, BLOCK_D: tl.constexpr, HAS_DELTA: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Compute `_norm_qkv`, then `scale = max |y| / largest` and `y = round(y / scale)` of each row.

    In fp8 or int8, as `y_ptr` says.
    """
    row, column, inside, offset = whole_rows(num_rows, D, BLOCK_D, TILE)
    y = _norm_rows(x_ptr, delta_ptr, weight_ptr, offset, column, inside, D, HAS_DELTA)
    quantised, scale = quantise_tile(y, y_ptr.dtype.element_ty)
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


def _variant(dtype: torch.dtype, width: int, has_delta: bool) -> str:
    return f"{TRITON_TYPES[dtype]}-d{width}" + ("-delta" if has_delta else "")


def _variants(form: Format | None = None) -> tuple[Variant, ...]:
    found = []
    for dtype in FLOATS[1:] if form else FLOATS:  # who runs fp32 does not want 8 bits
        number = f"*{TRITON_TYPES[dtype]}"
        types = dict.fromkeys(("x_ptr", "delta_ptr", "weight_ptr"), number)
        types |= {"y_ptr": form.pointer, "scale_ptr": "*fp32"} if form else {"y_ptr": number}
        types |= {"num_rows": "i32"}
        widths = sorted({shape.width for shape in SHAPES.values()})
        # the first norm of a frame has nothing to add
        for width, has_delta in [(width, True) for width in widths] + [(widths[0], False)]:
            constants = {"D": width, "BLOCK_D": next_power_of_2(width), "HAS_DELTA": has_delta}
            name = _variant(dtype, width, has_delta)
            capability = form.capability if form else 80
            found.append(Variant(name=name, types=types, constants=constants, capability=capability))
    return tuple(found)


KERNEL = Kernel(name="norm_qkv", function=_norm_qkv, space=AUTOTUNE_SPACE, variants=_variants())
KERNEL_FP8 = Kernel(
    name="norm_qkv_fp8", function=_norm_qkv_quantised, space=AUTOTUNE_SPACE, variants=_variants(FP8)
)
KERNEL_INT8 = Kernel(
    name="norm_qkv_int8", function=_norm_qkv_quantised, space=AUTOTUNE_SPACE, variants=_variants(INT8)
)
KERNELS = (KERNEL, KERNEL_FP8, KERNEL_INT8)


def norm_qkv(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Launch `reference.norm_qkv` on the current stream; does not synchronise.

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
    """Launch `reference.norm_qkv_fp8` on the current stream; does not synchronise. From sm_89 on.

    Args:
        x, delta, weight, config: as `norm_qkv` takes them.
        out: `[M, D]` float8_e4m3fn and `[M, 1]` fp32, memory of their own; allocated where not given.

    Returns:
        The quantised norm and the scales of its rows.

    Raises:
        InputError, UnsupportedError: an argument is not as above, or the device has no fp8.
    """
    return _quantised(KERNEL_FP8, FP8, x, delta, weight, out, config)


def norm_qkv_int8(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    *,
    out: tuple[Tensor, Tensor] | None = None,
    config: Config | None = None,
) -> tuple[Tensor, Tensor]:
    """Launch `reference.norm_qkv_int8`: as `norm_qkv_fp8`, but int8 in place of e4m3, and on every device."""
    return _quantised(KERNEL_INT8, INT8, x, delta, weight, out, config)


def _quantised(
    kernel: Kernel,
    form: Format,
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    out: tuple[Tensor, Tensor] | None,
    config: Config | None,
) -> tuple[Tensor, Tensor]:
    _check(x, delta, weight, kernel)
    out = quantised_outputs(kernel, form, x, out, delta=delta, weight=weight)
    _launch(kernel, config, x, delta, weight, *out)
    return out


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


def cost(
    num_rows: int, width: int, dtype: torch.dtype, *, has_delta: bool = True, quantised: bool = False
) -> Cost:
    """Reads `x` and `delta`, writes `x` where it changes and `y`, in 8 bits with scales where `quantised`."""
    size = dtype.itemsize
    written = width + 4 if quantised else width * size
    a_row = width * (size + (2 * size if has_delta else 0)) + written
    return Cost(flops=0, bytes=num_rows * a_row + width * size)
