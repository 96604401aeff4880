"""Registers an operator with torch, so that `torch.compile` and export see one node and not what is in it.

`torch.library.custom_op` would do it in fewer words, but its first call imports torch's compiler (3 s on two
CPU cores), and every call costs 20 µs more, several dozen times a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import torch

NAMESPACE = "genie_rt"

Operator = TypeVar("Operator", bound=Callable[..., Any])


def register(
    *, reference: Callable[..., Any], launcher: str, mutates: Sequence[str] = ()
) -> Callable[[Operator], Operator]:
    """Decorate a function that makes empty outputs into the operator `torch.ops.genie_rt.<its name>`.

    The function's annotations are the operator's schema, and its body is what tensors without data get: the
    outputs' shapes and dtypes.

    Args:
        reference: what a CPU computes.
        launcher: module below `genie_rt.kernels` whose function of that name a GPU takes. It is imported with
            the first call there, since it imports Triton. It takes the operator's arguments by place.
        mutates: arguments that are written to.
    """

    def decorate(empty: Operator) -> Operator:
        name = f"{NAMESPACE}::{empty.__name__}"
        schema = torch.library.infer_schema(empty, mutates_args=tuple(mutates))
        torch.library.define(name, schema)

        @cache
        def launch() -> Callable[..., Any]:
            return getattr(import_module(f"genie_rt.kernels.{launcher}"), empty.__name__)

        def on_gpu(*arguments: Any) -> Any:
            outputs = launch()(*arguments)
            return None if schema.endswith("-> ()") else outputs

        torch.library.impl(name, "CPU")(reference)
        torch.library.impl(name, "CUDA")(on_gpu)
        torch.library.register_fake(name)(empty)
        return getattr(getattr(torch.ops, NAMESPACE), empty.__name__)

    return decorate
