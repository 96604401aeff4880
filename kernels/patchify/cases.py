"""Seeded inputs of `patchify` and `unpatchify`, and their cases at the presets' sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from genie_rt.kernels.case import Case
from genie_rt.kernels.patchify import reference
from genie_rt.kernels.patchify.kernel import cost, patchify, unpatchify
from genie_rt.kernels.shapes import SHAPES, ModelShape

CLIP = 16
"""Frames of a prompt; in play there is one at a time."""


def make_frames(
    device: torch.device | str, *, batch: int = 1, time: int = 1, height: int, width: int, seed: int = 0
) -> Tensor:
    """`[B, T, height, width, 3]` uint8."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (batch, time, height, width, 3)
    return torch.randint(0, 256, shape, generator=generator, device=device, dtype=torch.uint8)


def make_patches(
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    batch: int = 1,
    time: int = 1,
    height: int,
    width: int,
    patch: int,
    seed: int = 0,
) -> Tensor:
    """`[B, T, N, patch * patch * 3]`, some of them beyond [-1, 1]."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (batch, time, -(-height // patch) * -(-width // patch), patch * patch * 3)
    return (0.7 * torch.randn(shape, generator=generator, device=device)).to(dtype)


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """List every preset's cases, both ways: the frame of a step, and a prompt."""
    for name, shape in SHAPES.items():
        for frames in (1, CLIP):
            yield make_patchify_case(f"{name} to patches T={frames}", shape, frames, dtype, device)
            yield make_unpatchify_case(f"{name} to pixels T={frames}", shape, frames, dtype, device)


def make_patchify_case(
    name: str, shape: ModelShape, time: int, dtype: torch.dtype, device: torch.device
) -> Case:
    height, width, patch = shape.height, shape.width_px, shape.patch
    frames = make_frames(device, time=time, height=height, width=width)
    out = torch.empty_like(make_patches(dtype, device, time=time, height=height, width=width, patch=patch))
    return Case(
        op="patchify",
        name=name,
        dtype=dtype,
        run=lambda: (patchify(frames, patch, dtype, out=out),),
        reference=lambda: (reference.patchify(frames, patch, torch.float32),),
        baselines=baselines(lambda: reference.patchify(frames, patch, dtype), device),
        cost=cost(time, height, width, patch, dtype),
    )


def make_unpatchify_case(
    name: str, shape: ModelShape, time: int, dtype: torch.dtype, device: torch.device
) -> Case:
    height, width, patch = shape.height, shape.width_px, shape.patch
    patches = make_patches(dtype, device, time=time, height=height, width=width, patch=patch)
    out = make_frames(device, time=time, height=height, width=width)

    def whole() -> Tensor:
        return reference.unpatchify_to_uint8(patches, patch, height, width)

    return Case(
        op="unpatchify",
        name=name,
        dtype=dtype,
        run=lambda: (unpatchify(patches, patch, height, width, out=out),),
        reference=lambda: (whole(),),
        baselines=baselines(whole, device),
        cost=cost(time, height, width, patch, dtype, back=True),
        exact=(True,),
    )


def baselines(whole: Callable[[], Tensor], device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """The reference, as it is, and on CUDA as one kernel that torch.compile generates."""

    @cache
    def compiled() -> Callable[[], Tensor]:
        return torch.compile(whole, dynamic=False)

    calls = {"eager": whole}
    if device.type == "cuda":
        calls["compile"] = lambda: compiled()()
    return calls
