"""Cases at the presets' sizes: the input of attention's projection, and int8 products."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genie_rt.kernels.case import Case, Outputs
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.quantise import kernel, reference
from genie_rt.kernels.quantise.kernel import FP8, INT8, Format
from genie_rt.kernels.shapes import SHAPES

FRAMES = (1, 16)


def make_inputs(num_rows: int, width: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """`x` `[M, D]`; rows differ in size by up to 10 times."""
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn(num_rows, width, generator=generator, device=device)
    return (x * 10 ** torch.rand(num_rows, 1, generator=generator, device=device)).to(dtype)


def make_product(
    num_rows: int, width: int, device: torch.device, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """`[M, N]` int32 as long rows of int8 give it, and the scales `[M, 1]` and `[1, N]` fp32."""
    generator = torch.Generator(device).manual_seed(seed)
    product = 1e6 * torch.randn(num_rows, width, generator=generator, device=device)
    row_scale = 1e-4 * (0.01 + torch.rand(num_rows, 1, generator=generator, device=device))
    column_scale = 0.01 + torch.rand(1, width, generator=generator, device=device)
    return product.int(), row_scale, column_scale


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and number of frames products; 16 bits also to int8, and to fp8 where there is fp8."""
    narrow = dtype.itemsize == 2
    fp8 = narrow and capability_of(device) >= FP8.capability
    for name, shape in SHAPES.items():
        width = shape.heads * shape.head_width
        for frames in FRAMES:
            size = (frames * shape.positions, width)
            if fp8:
                yield _case(FP8, f"{name} T={frames}", *size, dtype, device)
            if narrow:
                yield _case(INT8, f"{name} T={frames}", *size, dtype, device)
            yield _product_case(f"{name} T={frames}", size[0], 3 * width, dtype, device)


def _case(
    form: Format, name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device
) -> Case:
    op, launch, define, launched = {
        FP8: ("quantise_rows", kernel.quantise_rows, reference.quantise_rows, kernel.KERNEL_FP8),
        INT8: (
            "quantise_rows_int8",
            kernel.quantise_rows_int8,
            reference.quantise_rows_int8,
            kernel.KERNEL_INT8,
        ),
    }[form]
    x = make_inputs(num_rows, width, dtype, device)
    out = kernel.quantised_outputs(launched, form, x, None)
    baselines: dict[str, Callable[[], object]] = {"eager reference": lambda: define(x)}
    if device.type == "cuda":
        compiled = torch.compile(define)
        baselines["torch.compile"] = lambda: compiled(x)
    return Case(
        op=op,
        name=name,
        dtype=dtype,
        run=lambda: launch(x, out=out),
        reference=lambda: define(x),
        baselines=baselines,
        cost=kernel.cost(num_rows, width, dtype),
    )


def _product_case(name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Case:
    product, row_scale, column_scale = make_product(num_rows, width, device)
    out, own = (torch.empty(num_rows, width, dtype=dtype, device=device) for _ in range(2))

    def run() -> Outputs:
        kernel.dequantise_product(product, row_scale, column_scale, out)
        return (out,)

    def expected() -> Outputs:
        wide = torch.empty(num_rows, width, device=device)
        reference.dequantise_product(product, row_scale, column_scale, wide)
        return (wide,)

    baselines: dict[str, Callable[[], object]] = {
        "eager reference": lambda: reference.dequantise_product(product, row_scale, column_scale, own)
    }
    if device.type == "cuda":
        compiled = torch.compile(reference.dequantise_product)
        baselines["torch.compile"] = lambda: compiled(product, row_scale, column_scale, own)
    return Case(
        op="dequantise_product",
        name=name,
        dtype=dtype,
        run=run,
        reference=expected,
        baselines=baselines,
        cost=kernel.cost_product(num_rows, width, dtype),
    )
