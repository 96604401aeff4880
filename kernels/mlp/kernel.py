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
from genie_rt.kernels.launch import TRITON_TYPES, Config, Kernel, Variant, check_device, config, on_device
from genie_rt.kernels.quantise.kernel import AUTOTUNE_SPACE as AUTOTUNE_SPACE_QUANTISED
from genie_rt.kernels.quantise.kernel import (
    FP8,
    INT8,
    Format,
    launch_on_rows,
    quantise_tile,
    variants_of_rows,
    whole_rows,
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
    x_ptr, q_ptr, scale_ptr, num_rows, D: tl.constexpr, BLOCK_D: tl.constexpr, TILE: tl.constexpr
):
    """`scale = max |gelu(x)| / largest; q = round(gelu(x) / scale)` of whole rows, as many as `TILE` holds.

    In fp8 or int8, as `q_ptr` says.
    """
    row, _, inside, offset = whole_rows(num_rows, D, BLOCK_D, TILE)
    x = tl.load(x_ptr + offset, mask=inside, other=0.0)
    quantised, scale = quantise_tile(_wide_gelu(x), q_ptr.dtype.element_ty)
    tl.store(q_ptr + offset, quantised, mask=inside)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)


AUTOTUNE_SPACE = (
    config(4, 1, BLOCK=2048),
    config(4, 1, BLOCK=1024),
    config(8, 1, BLOCK=4096),
    config(8, 1, BLOCK=8192),
)


def _variants() -> tuple[Variant, ...]:
    """The presets' widths are multiples of 16."""
    found = []
    for dtype in FLOATS:
        number = f"*{TRITON_TYPES[dtype]}"
        types = {"h_ptr": number, "out_ptr": number, "num_units": "i32"}
        found.append(Variant(name=TRITON_TYPES[dtype], types=types, constants={"UNIT": UNIT}))
    return tuple(found)


def _variants_quantised(form: Format) -> tuple[Variant, ...]:
    return variants_of_rows(form, {shape.mlp_width for shape in SHAPES.values()}, "f")


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
    return launch_on_rows(KERNEL_FP8, FP8, h, out, config, name="h", letter="f")


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
    return launch_on_rows(KERNEL_INT8, INT8, h, out, config, name="h", letter="f")


def cost(num_rows: int, width: int, dtype: torch.dtype, *, quantised: bool = False) -> Cost:
    """Reads `h`, writes the activations, in 8 bits with scales where `quantised`."""
    written = width + 4 if quantised else width * dtype.itemsize
    return Cost(flops=0, bytes=num_rows * (width * dtype.itemsize + written))
