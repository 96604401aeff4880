"""Description, configuration and launch of Triton kernels. Triton itself is imported by the kernels.

A launch configuration is chosen once per kernel, specialisation and architecture, and committed:
`kernels/tuned/sm_<capability>.json`. Nothing is tuned at start-up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genie_rt.errors import UnsupportedError

TUNED = Path(__file__).parent / "tuned"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
"""Compute capabilities, major and minor digits, that the kernels are compiled for."""

TRITON_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
    torch.bool: "i1",
}
"""Triton's names of torch's number formats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Launch configuration of a kernel.

    Attributes:
        blocks: values of its `tl.constexpr` block sizes, by name, as sorted pairs.
        num_warps: 32 threads each, of one program.
        num_stages: loads of a loop in flight.
    """

    blocks: tuple[tuple[str, int], ...]
    num_warps: int = 4
    num_stages: int = 2

    @property
    def arguments(self) -> dict[str, int]:
        """Configuration as keyword arguments of a launch."""
        return {**dict(self.blocks), "num_warps": self.num_warps, "num_stages": self.num_stages}


def config(num_warps: int = 4, num_stages: int = 2, **blocks: int) -> Config:
    """`config(4, 2, BLOCK=64)`."""
    return Config(blocks=tuple(sorted(blocks.items())), num_warps=num_warps, num_stages=num_stages)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """Specialisation of a kernel: the values that a launch makes constant.

    Attributes:
        name: what tuned configurations are filed under, such as "bf16-dh64". A launcher derives it from its
            arguments, so it holds just what the best configuration depends on.
        types: Triton's type of every run-time argument by name, in order: "*bf16", "*i32", "i32", "fp32".
        constants: value of every `tl.constexpr` that is not a block size.
        multiples_of_16: integers of `types` that are, at the sizes in question; a launch specialises for it
            unless the kernel says `do_not_specialize`.
        capability: the lowest that has what it needs, 89 for fp8.
    """

    name: str
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    multiples_of_16: tuple[str, ...] = ()
    capability: int = 80


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kernel:
    """A kernel, and all that a compiler or a tuner has to know of it.

    Attributes:
        name: unique, such as "temporal_attention".
        function: the `@triton.jit` function.
        space: configurations to choose from (`AUTOTUNE_SPACE`); the first is what a launch falls back to.
        variants: specialisations that the presets need, compiled ahead in tests.
    """

    name: str
    function: Any
    space: tuple[Config, ...]
    variants: tuple[Variant, ...]

    def config_for(self, variant: str, device: torch.device) -> Config:
        """The committed configuration for a device, that of the next lower architecture where it has none."""
        if _trial is not None:
            return _trial.config_for(self, variant)
        return self.config_on(variant, capability_of(device))

    def config_on(self, variant: str, capability: int) -> Config:
        """Find a configuration as `config_for` does, for a capability such as 90."""
        return _chosen(self.name, variant, capability) or self.space[0]

    def launch(self, grid: tuple[int, ...], config: Config, *arguments: Any, **constants: Any) -> None:
        """Enqueue the kernel on the current stream of the current device.

        The first launch of a specialisation compiles and loads it, which a CUDA graph cannot hold: whoever
        captures runs the same calls once before.
        """
        self.function[grid](*arguments, **constants, **config.arguments)


@dataclass(slots=True)
class Trial:
    """While it is active, launches take the configurations that it says, and it notes which they asked for.

    Attributes:
        configs: by kernel and variant; others get the first of their space.
        asked: kernels by name and the variants of each that were launched.
    """

    configs: dict[tuple[str, str], Config] = field(default_factory=dict)
    asked: dict[tuple[str, str], Kernel] = field(default_factory=dict)

    def config_for(self, kernel: Kernel, variant: str) -> Config:
        self.asked[kernel.name, variant] = kernel
        return self.configs.get((kernel.name, variant), kernel.space[0])

    def __enter__(self) -> Trial:
        global _trial
        _trial = self
        return self

    def __exit__(self, *error: object) -> None:
        global _trial
        _trial = None


_trial: Trial | None = None


def capability_of(device: torch.device) -> int:
    """90 for an H100; 0 for a CPU, where kernels are interpreted."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a device the current one, which costs nothing where it is already."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)


def check_device(x: Tensor, kernel: Kernel) -> None:
    """Raise `UnsupportedError` if a tensor lies where its kernel cannot run.

    A CPU will do while Triton interprets its kernels (TRITON_INTERPRET=1 when they were imported).
    """
    interpreted = type(kernel.function).__name__ == "InterpretedFunction"
    if x.device.type == "cuda" or (x.device.type == "cpu" and interpreted):
        return
    raise UnsupportedError(
        f"{kernel.name}: expected tensors on a CUDA device, found them on {x.device}; call "
        f"torch.ops.genie_rt.{kernel.name}, which takes the reference there"
    )


@lru_cache(maxsize=4096)
def _chosen(kernel: str, variant: str, capability: int) -> Config | None:
    for known in sorted(ARCHITECTURES, reverse=True):
        if known <= capability:
            entry = tuned(known).get(kernel, {}).get(variant)
            if entry is not None:
                return Config(
                    blocks=tuple(sorted(entry["blocks"].items())),
                    num_warps=entry["num_warps"],
                    num_stages=entry["num_stages"],
                )
    return None


@lru_cache(maxsize=16)
def tuned(capability: int) -> dict[str, dict[str, Any]]:
    """Kernel by kernel, variant by variant, what was chosen for an architecture; empty where nothing was."""
    path = TUNED / f"sm_{capability}.json"
    return read_tuned(path) if path.is_file() else {}


def read_tuned(path: Path) -> dict[str, dict[str, Any]]:
    """Content of one file of tuned configurations.

    Raises:
        UnsupportedError: it is not what `genie-rt bench kernels --tune` writes.
    """
    try:
        kernels: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["kernels"]
        for variants in kernels.values():
            for entry in variants.values():
                numbers = [*entry["blocks"].values(), entry["num_warps"], entry["num_stages"]]
                # a block of 0 is a kernel's way to say that it takes none
                if not all(type(number) is int and 0 <= number < 2**31 for number in numbers):
                    raise ValueError(f"the numbers {numbers}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnsupportedError(
            f"{path}: expected launch configurations of kernels, found {str(error)[:200]}; install genie-rt "
            "again, or tune with `genie-rt bench kernels --tune`"
        ) from error
    return kernels


def next_power_of_2(number: int) -> int:
    """The smallest power of 2 that is not below a positive number."""
    return 1 << (number - 1).bit_length()
