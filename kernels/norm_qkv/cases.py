"""The norms of the presets' blocks, for one frame and for a window of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import rms_norm as library_rms_norm

from genie_rt.kernels.case import Case, Outputs
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.norm_qkv import kernel, reference
from genie_rt.kernels.quantise.kernel import FP8, INT8, Format, quantised_outputs
from genie_rt.kernels.shapes import SHAPES

FRAMES = (1, 16)


def make_inputs(
    num_rows: int, width: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """`x` and `delta` `[M, D]` and `weight` `[D]`; rows of `x` differ in size by up to 10 times."""
    generator = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    x, delta, weight = draw(num_rows, width), draw(num_rows, width), 1 + 0.4 * draw(width)
    x *= 10 ** torch.rand(num_rows, 1, generator=generator, device=device)
    return x.to(dtype), delta.to(dtype), weight.to(dtype)


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and number of frames the norm; from 16 bits also to int8, and to fp8 where there is fp8.

    `run` adds to `x` at every call, so it is the first call that gives what `reference` does.
    """
    narrow = dtype.itemsize == 2
    fp8 = narrow and capability_of(device) >= FP8.capability
    for name, shape in SHAPES.items():
        for frames in FRAMES:
            size = (frames * shape.positions, shape.width)
            yield _case(f"{name} T={frames}", *size, dtype, device)
            if fp8:
                yield _quantised_case(FP8, f"{name} T={frames}", *size, dtype, device)
            if narrow:
                yield _quantised_case(INT8, f"{name} T={frames}", *size, dtype, device)


def _case(name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Case:
    x, delta, weight = make_inputs(num_rows, width, dtype, device)
    before, own, out = x.clone(), x.clone(), torch.empty_like(x)

    def run() -> Outputs:
        return x, kernel.norm_qkv(x, delta, weight, out=out)

    def expected() -> Outputs:
        after = before.clone()
        return after, reference.norm_qkv(after, delta, weight)

    def library() -> Tensor:
        return library_rms_norm(own.add_(delta), (width,), weight, reference.EPS)

    baselines: dict[str, Callable[[], object]] = {
        "eager reference": lambda: reference.norm_qkv(own, delta, weight),
        "torch.rms_norm": library,
    }
    if device.type == "cuda":
        compiled = torch.compile(reference.norm_qkv)
        baselines["torch.compile"] = lambda: compiled(own, delta, weight)
    return Case(
        op="norm_qkv",
        name=name,
        dtype=dtype,
        run=run,
        reference=expected,
        baselines=baselines,
        cost=kernel.cost(num_rows, width, dtype),
    )


def _quantised_case(
    form: Format, name: str, num_rows: int, width: int, dtype: torch.dtype, device: torch.device
) -> Case:
    op, launch, define, launched = {
        FP8: ("norm_qkv_fp8", kernel.norm_qkv_fp8, reference.norm_qkv_fp8, kernel.KERNEL_FP8),
        INT8: ("norm_qkv_int8", kernel.norm_qkv_int8, reference.norm_qkv_int8, kernel.KERNEL_INT8),
    }[form]
    x, delta, weight = make_inputs(num_rows, width, dtype, device)
    before, own = x.clone(), x.clone()
    out = quantised_outputs(launched, form, x, None)

    def run() -> Outputs:
        return x, *launch(x, delta, weight, out=out)

    def expected() -> Outputs:
        after = before.clone()
        return after, *define(after, delta, weight)

    baselines: dict[str, Callable[[], object]] = {"eager reference": lambda: define(own, delta, weight)}
    if device.type == "cuda":
        compiled = torch.compile(define)
        baselines["torch.compile"] = lambda: compiled(own, delta, weight)
    return Case(
        op=op,
        name=name,
        dtype=dtype,
        run=run,
        reference=expected,
        baselines=baselines,
        cost=kernel.cost(num_rows, width, dtype, quantised=True),
    )
