"""GELU at the presets' MLP widths, for one frame and for a window of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import gelu

from genie_rt.kernels.case import Case
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.mlp import kernel, reference
from genie_rt.kernels.quantise.kernel import FP8, INT8, Format, quantised_outputs
from genie_rt.kernels.shapes import SHAPES

FRAMES = (1, 16)


def make_inputs(num_rows: int, width: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """`h` `[M, F]`; rows differ in size by up to 10 times."""
    generator = torch.Generator(device).manual_seed(seed)
    h = torch.randn(num_rows, width, generator=generator, device=device)
    return (h * 10 ** torch.rand(num_rows, 1, generator=generator, device=device)).to(dtype)


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and number of frames GELU; from 16 bits also to int8, and to fp8 where there is fp8."""
    narrow = dtype.itemsize == 2
    fp8 = narrow and capability_of(device) >= FP8.capability
    for name, shape in SHAPES.items():
        for frames in FRAMES:
            size = (frames * shape.positions, shape.mlp_width)
            yield _case(f"{name} T={frames}", *size, dtype, device)
            if fp8:
                yield _quantised_case(FP8, f"{name} T={frames}", *size, dtype, device)
            if narrow:
                yield _quantised_case(INT8, f"{name} T={frames}", *size, dtype, device)


def _case(name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Case:
    h = make_inputs(num_rows, width, dtype, device)
    out = torch.empty_like(h)
    baselines: dict[str, Callable[[], object]] = {"torch.gelu": lambda: gelu(h, approximate="tanh")}
    if device.type == "cuda":
        compiled = torch.compile(reference.mlp_gelu)
        baselines["torch.compile"] = lambda: compiled(h)
    return Case(
        op="mlp_gelu",
        name=name,
        dtype=dtype,
        run=lambda: (kernel.mlp_gelu(h, out=out),),
        reference=lambda: (reference.mlp_gelu(h),),
        baselines=baselines,
        cost=kernel.cost(num_rows, width, dtype),
    )


def _quantised_case(
    form: Format, name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device
) -> Case:
    op, launch, define, launched = {
        FP8: ("mlp_gelu_fp8", kernel.mlp_gelu_fp8, reference.mlp_gelu_fp8, kernel.KERNEL_FP8),
        INT8: ("mlp_gelu_int8", kernel.mlp_gelu_int8, reference.mlp_gelu_int8, kernel.KERNEL_INT8),
    }[form]
    h = make_inputs(num_rows, width, dtype, device)
    out = quantised_outputs(launched, form, h, None)
    baselines: dict[str, Callable[[], object]] = {"eager reference": lambda: define(h)}
    if device.type == "cuda":
        compiled = torch.compile(define)
        baselines["torch.compile"] = lambda: compiled(h)
    return Case(
        op=op,
        name=name,
        dtype=dtype,
        run=lambda: launch(h, out=out),
        reference=lambda: define(h),
        baselines=baselines,
        cost=kernel.cost(num_rows, width, dtype, quantised=True),
    )
