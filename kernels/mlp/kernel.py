"""GELU between the two GEMMs of an MLP, optionally quantised to 8 bits.

"Residual, next norm, quantise" after the second GEMM is `norm_qkv` with that GEMM's output as its `delta`.
"""

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
from genie_rt.kernels.quantise.kernel import (
    FP8,
    INT8,
    MAX_ROWS,
    MAX_WIDTH,
    Format,
    quantise_tile,
    quantised_outputs,
    rows_of_tile,
)
from genie_rt.kernels.shapes import SHAPES

MAX_NUMEL = 2**40
UNIT = 16
"""Numbers that are at least 16 bytes in every format."""


@triton.jit
def _wide_gelu(h):
    """`h / 2 (1 + tanh z)` with `z = sqrt(2 / pi) (h + 0.044715 h^3)`, in fp32.

    As `(1 + tanh z) / 2 = sigmoid(2 z)`, which loses no digits where tanh is close to -1 and gives 0 and `h`
    where the cube overflows.
    """
    h = h.to(tl.float32)
    return h * tl.sigmoid(1.5957691216057308 * h * (1.0 + 0.044715 * h * h))


@triton.jit(do_not_specialize=("num_units",))
def _mlp_gelu(h_ptr, out_ptr, num_units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """`gelu(h)` of `num_units * UNIT` numbers that lie in a row, `BLOCK` a program.

    A `UNIT` of 16 tells the compiler that no 16 bytes are inside only in part.
    """
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < tl.full([], UNIT, tl.int64) * num_units
    h = tl.load(h_ptr + index, mask=inside, other=0.0)
    tl.store(out_ptr + index, _wide_gelu(h).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=("num_rows",))
def _mlp_gelu_quantised(
    h_ptr, out_ptr, scale_ptr, num_rows, F: tl.constexpr, BLOCK_F: tl.constexpr, TILE: tl.constexpr
):
    """`scale = max |gelu(h)| / largest; out = round(gelu(h) / scale)` of whole rows, as many as `TILE` holds.

    In fp8 or int8, as `out_ptr` says.
    """
    ROWS: tl.constexpr = TILE // BLOCK_F if TILE > BLOCK_F else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_F)
    inside = (row < num_rows)[:, None] & (column < F)[None, :]
    offset = row.to(tl.int64)[:, None] * F + column[None, :]
    h = tl.load(h_ptr + offset, mask=inside, other=0.0)
    quantised, scale = quantise_tile(_wide_gelu(h), out_ptr.dtype.element_ty)
    tl.store(out_ptr + offset, quantised, mask=inside)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)


AUTOTUNE_SPACE = (
    config(4, 1, BLOCK=2048),
    config(4, 1, BLOCK=1024),
    config(8, 1, BLOCK=4096),
    config(8, 1, BLOCK=8192),
)
AUTOTUNE_SPACE_QUANTISED = (
    config(8, 1, TILE=4096),
    config(4, 1, TILE=2048),
    config(8, 1, TILE=8192),
    config(16, 1, TILE=8192),
    config(4, 1, TILE=1024),
)
"""`TILE`: numbers of a program, in rows of a width rounded up to a power of 2."""


def _variants() -> tuple[Variant, ...]:
    """The presets' widths are multiples of 16."""
    found = []
    for dtype in FLOATS:
        number = f"*{TRITON_TYPES[dtype]}"
        types = {"h_ptr": number, "out_ptr": number, "num_units": "i32"}
        found.append(Variant(name=TRITON_TYPES[dtype], types=types, constants={"UNIT": UNIT}))
    return tuple(found)


def _variant_quantised(dtype: torch.dtype, width: int) -> str:
    return f"{TRITON_TYPES[dtype]}-f{width}"


def _variants_quantised(form: Format) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            name=_variant_quantised(dtype, width),
            types={
                "h_ptr": f"*{TRITON_TYPES[dtype]}",
                "out_ptr": form.pointer,
                "scale_ptr": "*fp32",
                "num_rows": "i32",
            },
            constants={"F": width, "BLOCK_F": next_power_of_2(width)},
            capability=form.capability,
        )
        for dtype in FLOATS[1:]  # who runs fp32 does not want 8 bits
        for width in sorted({shape.mlp_width for shape in SHAPES.values()})
    )


KERNEL = Kernel(name="mlp_gelu", function=_mlp_gelu, space=AUTOTUNE_SPACE, variants=_variants())
KERNEL_FP8 = Kernel(
    name="mlp_gelu_fp8",
    function=_mlp_gelu_quantised,
    space=AUTOTUNE_SPACE_QUANTISED,
    variants=_variants_quantised(FP8),
)
KERNEL_INT8 = Kernel(
    name="mlp_gelu_int8",
    function=_mlp_gelu_quantised,
    space=AUTOTUNE_SPACE_QUANTISED,
    variants=_variants_quantised(INT8),
)
KERNELS = (KERNEL, KERNEL_FP8, KERNEL_INT8)


def mlp_gelu(h: Tensor, *, out: Tensor | None = None, config: Config | None = None) -> Tensor:
    """Launch `reference.mlp_gelu` on the current stream; does not synchronise.

    Args:
        h: `[M, F]` fp32, fp16 or bf16, contiguous.
        out: like `h`: `h` itself or memory of its own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Returns:
        `[M, F]` in the dtype of `h`.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    check_device(h, KERNEL)
    check_tensor("h", h, (None, None), FLOATS)
    check_range("numbers", h.numel(), 1, MAX_NUMEL)
    if out is None:
        out = torch.empty_like(h)
    else:
        check_tensor("out", out, h.shape, (h.dtype,), like=h)
        if out.data_ptr() != h.data_ptr():
            check_apart(out=out, h=h)
    chosen = config or KERNEL.config_for(TRITON_TYPES[h.dtype], h.device)
    grid = (triton.cdiv(h.numel(), dict(chosen.blocks)["BLOCK"]),)
    with on_device(h.device):
        unit = 1 if h.numel() % UNIT else UNIT
        KERNEL.launch(grid, chosen, h, out, h.numel() // unit, UNIT=unit)
    return out


def mlp_gelu_fp8(
    h: Tensor, *, out: tuple[Tensor, Tensor] | None = None, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """Launch `reference.mlp_gelu_fp8` on the current stream; does not synchronise. From sm_89 on.

    Args:
        h: `[M, F]` fp32, fp16 or bf16, contiguous, F at most 16384.
        out: `[M, F]` float8_e4m3fn and `[M, 1]` fp32, memory of their own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Returns:
        The quantised activations and the scales of their rows.

    Raises:
        InputError, UnsupportedError: an argument is not as above, or the device has no fp8.
    """
    return _quantised(KERNEL_FP8, FP8, h, out, config)


def mlp_gelu_int8(
    h: Tensor, *, out: tuple[Tensor, Tensor] | None = None, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """Launch `reference.mlp_gelu_int8` on the current stream; does not synchronise.

    Args:
        h, config: as `mlp_gelu_fp8` takes them.
        out: `[M, F]` int8 and `[M, 1]` fp32, memory of their own; allocated where not given.

    Returns:
        The quantised activations and the scales of their rows.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    return _quantised(KERNEL_INT8, INT8, h, out, config)


def _quantised(
    kernel: Kernel, form: Format, h: Tensor, out: tuple[Tensor, Tensor] | None, chosen: Config | None
) -> tuple[Tensor, Tensor]:
    check_device(h, kernel)
    check_tensor("h", h, (None, None), FLOATS)
    num_rows, width = h.shape
    check_range("rows", num_rows, 1, MAX_ROWS)
    check_range("width", width, 1, MAX_WIDTH)
    out = quantised_outputs(kernel, form, h, out)
    chosen = chosen or kernel.config_for(_variant_quantised(h.dtype, width), h.device)
    block_width = next_power_of_2(width)
    grid = (triton.cdiv(num_rows, rows_of_tile(chosen, block_width)),)
    with on_device(h.device):
        kernel.launch(grid, chosen, h, *out, num_rows, F=width, BLOCK_F=block_width)
    return out


def cost(num_rows: int, width: int, dtype: torch.dtype, *, quantised: bool = False) -> Cost:
    """Reads `h`, writes the activations, in 8 bits with scales where `quantised`."""
    written = width + 4 if quantised else width * dtype.itemsize
    return Cost(flops=0, bytes=num_rows * (width * dtype.itemsize + written))
