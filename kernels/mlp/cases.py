"""GELU at the presets' MLP widths, for one frame and for a window of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import gelu

from genie_rt.kernels.case import Case
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.mlp import kernel, reference
from genie_rt.kernels.norm_qkv.kernel import FP8_CAPABILITY, fp8_outputs
from genie_rt.kernels.shapes import SHAPES

FRAMES = (1, 16)


def make_inputs(num_rows: int, width: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """`h` `[M, F]`; rows differ in size by up to 10 times."""
    generator = torch.Generator(device).manual_seed(seed)
    h = torch.randn(num_rows, width, generator=generator, device=device)
    return (h * 10 ** torch.rand(num_rows, 1, generator=generator, device=device)).to(dtype)


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and number of frames GELU, and where the device has fp8 that from 16 bits to it."""
    fp8 = dtype.itemsize == 2 and capability_of(device) >= FP8_CAPABILITY
    for name, shape in SHAPES.items():
        for frames in FRAMES:
            size = (frames * shape.positions, shape.mlp_width)
            yield _case(f"{name} T={frames}", *size, dtype, device)
            if fp8:
                yield _fp8_case(f"{name} T={frames}", *size, dtype, device)


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


def _fp8_case(name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Case:
    h = make_inputs(num_rows, width, dtype, device)
    out = fp8_outputs(h, None)
    compiled = torch.compile(reference.mlp_gelu_fp8)
    return Case(
        op="mlp_gelu_fp8",
        name=name,
        dtype=dtype,
        run=lambda: kernel.mlp_gelu_fp8(h, out=out),
        reference=lambda: reference.mlp_gelu_fp8(h),
        baselines={
            "eager reference": lambda: reference.mlp_gelu_fp8(h),
            "torch.compile": lambda: compiled(h),
        },
        cost=kernel.cost(num_rows, width, dtype, fp8=True),
    )
