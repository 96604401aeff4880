"""All kernels and cases, by operator. Imports Triton, so nothing that runs without it imports this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.kernels.case import Case
from genie_rt.kernels.launch import Kernel

OPS = (
    "embed_tokens",
    "norm_qkv",
    "spatial_attention",
    "temporal_attention",
    "quantise",
    "mlp",
    "vq_lookup",
    "maskgit_sample",
    "patchify",
)
"""Operators, in the order in which a frame uses them."""


def chosen_ops(names: Sequence[str]) -> tuple[str, ...]:
    """Select operators by name, in the catalogue's order; all if none is given. Raises `InputError`."""
    unknown = [name for name in names if name not in OPS]
    if unknown:
        raise InputError(f"expected operators among {', '.join(OPS)}, found {unknown[0]!r}")
    return tuple(name for name in OPS if not names or name in names)


def all_kernels(ops: Sequence[str] = OPS) -> tuple[Kernel, ...]:
    """List the kernels that the operators launch.

    Raises:
        UnsupportedError: Triton is missing.
    """
    return tuple(kernel for op in ops for kernel in _module(op, "kernel").KERNELS)


def all_cases(ops: Sequence[str], dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Every operator at every preset's sizes, one after the other: a case's memory goes with it."""
    for op in ops:
        yield from _module(op, "cases").cases(dtype, device)


def _module(op: str, name: str) -> Any:
    try:
        return import_module(f"genie_rt.kernels.{op}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "triton":
            raise
        raise UnsupportedError(
            f"the kernels need Triton, which is not installed here: {install_hint('gpu')}"
        ) from error
