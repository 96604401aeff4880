"""The numbers that the `cuda` back end computes with, and which GPUs have them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genie_rt.errors import ConfigError, UnsupportedError

_QUANTISED = (torch.float8_e4m3fn, torch.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What activations and weights are kept in.

    Attributes:
        name: "fp32", "bf16", "fp16", "fp8" or "int8"; "fp64" is for proofs on a CPU.
        activations: of the residual stream and the weights that are no projections.
        weights: of the projections: that of the activations, or `float8_e4m3fn` or `int8` with a scale for
            each row of a weight and of its input.

    Raises:
        ConfigError: there is no such combination.
    """

    name: str
    activations: torch.dtype
    weights: torch.dtype

    def __post_init__(self) -> None:
        if not self.activations.is_floating_point or self.activations.itemsize < 2:
            raise ConfigError(
                f"activations: expected a floating dtype of 16 bits or more, found {self.activations}"
            )
        if self.weights not in (self.activations, *_QUANTISED):
            raise ConfigError(
                f"weights: expected {self.activations} as the activations, or one of "
                f"{', '.join(map(str, _QUANTISED))}, found {self.weights}"
            )

    @classmethod
    def of(cls, name: str) -> Precision:
        """The precision of a name, which may be torch's: "bf16" or "bfloat16".

        Raises:
            ConfigError: there is none.
        """
        found = _BY_NAME.get(_TORCH_NAMES.get(name, name))
        if found is None:
            known = f"{', '.join(_BY_NAME)} (or {', '.join(_TORCH_NAMES)})"
            raise ConfigError(f"precision: expected one of {known}, found {name!r}")
        return found

    @property
    def quantised(self) -> bool:
        """Whether projections are in 8 bits."""
        return self.weights != self.activations

    @property
    def pages(self) -> torch.dtype:
        """What past keys and values are kept in: 8 bits where the projections are in fp8."""
        return torch.float8_e4m3fn if self.weights == torch.float8_e4m3fn else self.activations

    @property
    def dense(self) -> Precision:
        """The activations' precision: for projections that are not to be quantised."""
        return next(found for found in _BY_NAME.values() if found.weights == self.activations)

    @property
    def tokenizer(self) -> Precision:
        """Precision of the tokenizer's transformers and their pages: beside e4m3 that of the activations.

        A decoder in e4m3 is off by one or two levels everywhere, at all times: PSNR hardly notices, the clip
        distance does. That of 40 real clips, shown by the demo's, was 17.5 in place of 10.2.
        """
        return self.dense if self.weights == torch.float8_e4m3fn else self

    def check(self, capability: int) -> None:
        """Returns where a device can compute so.

        Args:
            capability: 90 for an H100; 0 for a CPU, which computes the references of everything.

        Raises:
            UnsupportedError: it cannot.
        """
        if capability == 0:
            return
        if self.activations == torch.float64:
            raise UnsupportedError(f"{self.name} is for a CPU: the kernels have no float64; use fp32")
        needed = _CAPABILITY.get(self.name, 0)
        if capability < needed:
            others = [name for name in _PREFERRED if _CAPABILITY.get(name, 0) <= capability]
            raise UnsupportedError(
                f"{self.name} needs compute capability {_version(needed)} or later, this GPU has "
                f"{_version(capability)}; use {' or '.join(others[:2])}"
            )


def _version(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"


_BY_NAME = {
    name: Precision(name=name, activations=activations, weights=weights)
    for name, activations, weights in (
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("fp16", torch.float16, torch.float16),
        ("fp8", torch.bfloat16, torch.float8_e4m3fn),
        ("int8", torch.bfloat16, torch.int8),
        ("fp64", torch.float64, torch.float64),
    )
}

_TORCH_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}

_CAPABILITY = {"bf16": 80, "int8": 80, "fp8": 89}  # activations of int8 are bf16
_PREFERRED = ("int8", "bf16", "fp16", "fp32")
