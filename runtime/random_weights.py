"""Random weights of a preset's sizes: a world to measure where nobody has trained one.

What is on its pictures means nothing, but a frame takes as long as a trained model's. Every weight has the
statistics that the modules start with, so that activations stay finite through all layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.manifest import Int8Manifest
from genie_rt.runtime.model.transformer import position_grid
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.presets import preset

SCRATCH_NUMBERS = 2**24
"""Numbers that are drawn at a time, in fp32: 64 MiB beside the weights, whatever their size."""

NOMINAL_LIMIT = 4.0
"""Limit of int8 for all that can be rounded: norms make numbers of about 1 of what comes in."""

PLAN = Plan(passes=4)
"""The default plan, as `genie-rt export` writes it unless told otherwise."""

_ONES = ("norm.weight", "q_norm", "k_norm", "copy_logit")
_ZEROS = ("age_bias", "mask_embedding", "copy_out.weight", "lam_codebook")
_UNIT = ("tokenizer.codebook", "token_embedding", "action_embedding", "dynamics.code_in.weight")
_FAN_IN = ("token_in.weight", "previous_in.weight", "token_out.weight")
_RESIDUAL = ("out.weight", "down.weight")


class RandomWeights(Mapping[str, Tensor]):
    """The weights of a model by name, each drawn anew whenever it is looked up; none is kept.

    So a model that fits its device only in its own dtype, or packed, can be made there one weight after the
    other: it never exists in a wider dtype or on the host. A weight is a function of seed, name, config and
    kind of device: it has the same numbers in every dtype, rounded.

    Args:
        config: sizes of the model.
        seed: 64 bits.
        dtype: of the weights, floating point.
        device: that they are drawn on.
    """

    def __init__(
        self, config: ModelConfig, *, seed: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.config, self.seed, self.dtype, self.device = config, seed, dtype, torch.device(device)
        self.shapes = parameter_shapes(config)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, name: str) -> Tensor:
        """The weight of that name, a new tensor; up to `SCRATCH_NUMBERS` numbers are allocated beside it."""
        shape = self.shapes[name]
        if name.endswith("position"):
            table = position_grid(*_grid(self.config, name), shape[1])
            return table.to(device=self.device, dtype=self.dtype)
        if (value := _constant(self.config, name)) is not None:
            return torch.full(shape, value, dtype=self.dtype, device=self.device)
        return self._normal(name, shape, _std(self.config, name, fan_in=shape[-1]))

    def _normal(self, name: str, shape: tuple[int, ...], std: float) -> Tensor:
        key = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = torch.Generator(self.device).manual_seed(int.from_bytes(key[:8], "little") >> 1)
        weight = torch.empty(shape, dtype=self.dtype, device=self.device)
        for part in weight.view(-1).split(SCRATCH_NUMBERS):
            drawn = torch.randn(part.shape, generator=generator, dtype=torch.float32, device=self.device)
            part.copy_(drawn.mul_(std))
        return weight


def random_model(
    config: ModelConfig, *, seed: int, dtype: torch.dtype, device: torch.device | str
) -> WorldModel:
    """A model of random weights, made on the device in the dtype; see `RandomWeights`, which takes the same.

    Leaves torch's own random state alone.
    """
    with torch.device("meta"):
        model = WorldModel(config)
    weights = RandomWeights(config, seed=seed, dtype=dtype, device=device)
    model.load_state_dict(dict(weights), assign=True)
    return model.requires_grad_(False)


def random_bundle(name: str, *, seed: int, device: torch.device | str) -> Bundle:
    """What a bundle would say about a preset's model with random weights. There is none on any disk.

    Args:
        name: of the preset.
        seed, device: as `RandomWeights` takes them: they decide the weights, and so the digest.

    Raises:
        ConfigError: there is no such preset.
    """
    config = preset(name)
    names = tuple(f"a{index}" for index in range(config.dynamics.num_actions))
    kind = torch.device(device).type  # another one draws other numbers
    digest = hashlib.sha256(f"{name} {seed} {kind}".encode()).hexdigest()
    return Bundle(
        path=Path(),
        name=f"{name}-random",
        preset=name,
        config=config,
        action_names=names,
        default_action=names[0],
        plans=MappingProxyType({"default": PLAN}),
        prompts=(),
        files=MappingProxyType({}),
        provenance=MappingProxyType({"weights": "random", "seed": seed, "device": kind}),
        digest=f"random:{digest}",
        int8=Int8Manifest(limits=_nominal_limits(config)),
    )


def _nominal_limits(config: ModelConfig) -> dict[str, float]:
    """Limits for the linears that an export would round: it leaves the encoder, which sees prompts alone."""
    names = (name for name in linear_names(config) if not name.startswith("tokenizer.encoder."))
    return dict.fromkeys(names, NOMINAL_LIMIT)


def _constant(config: ModelConfig, name: str) -> float | None:
    """What every number of a weight starts as; None where they are drawn."""
    if name.endswith(_ONES):
        return 1.0
    is_tied = name.endswith("token_embedding") and config.dynamics.tie_codebook
    return 0.0 if is_tied or name.endswith(_ZEROS) else None


def _std(config: ModelConfig, name: str, *, fan_in: int) -> float:
    """Standard deviation that a module draws a weight with."""
    if name.endswith(_UNIT):
        return 1.0
    if ".blocks." in name:
        layers = _num_layers(config, name)
        return (fan_in * (3 * layers if name.endswith(_RESIDUAL) else 1)) ** -0.5
    if name.endswith(_FAN_IN):
        return fan_in**-0.5
    return (3 * fan_in) ** -0.5  # as torch starts a linear layer


def _num_layers(config: ModelConfig, name: str) -> int:
    parts = {
        "dynamics.transformer": config.dynamics.transformer,
        "tokenizer.encoder": config.tokenizer.encoder,
        "tokenizer.decoder": config.tokenizer.decoder,
    }
    return parts[name.partition(".blocks.")[0]].num_layers


def _grid(config: ModelConfig, name: str) -> tuple[int, int]:
    """Rows and columns of positions of the part that a position embedding belongs to."""
    merge = config.dynamics.merge if name.startswith("dynamics") else 1
    rows, columns = config.tokenizer.grid
    return rows // merge, columns // merge
