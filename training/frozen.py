"""Trained parts that a later stage builds on, loaded from their runs and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genie_rt.errors import BundleError, ConfigError, InputError
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.bundle import load_weights as load_weights_of
from genie_rt.runtime.config import ConvLamConfig, LamConfig, ModelConfig, from_dict, to_dict
from genie_rt.runtime.manifest import LAM_WEIGHTS
from genie_rt.runtime.model.lam import Lam, build_lam, encoder_shapes
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.runtime.untrusted import brief
from genie_rt.training.checkpoint import latest_checkpoint, load_weights
from genie_rt.training.checkpoint_state import as_json, read_state

if TYPE_CHECKING:
    from genie_rt.training.lam import LamObjective


def load_tokenizer(run: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a run, frozen. Raises `ConfigError` where it was trained in other sizes."""
    from genie_rt.training.tokenizer import TokenizerObjective

    _describe(run, "tokenizer", config)
    objective = TokenizerObjective(config)
    _load(objective, load_weights(run), run)
    model = objective.model
    model.load_state_dict(objective.weights())
    return model.requires_grad_(False).eval()


def load_lam(run: Path, config: ModelConfig) -> Lam:
    """The latent action model of a run, frozen. Raises `ConfigError` where it was trained in other sizes."""
    model = load_lam_objective(run, config).model
    return model.requires_grad_(False).eval()


def load_lam_objective(run: Path, config: ModelConfig) -> LamObjective:
    """The objective of a run of a latent action model, with its quantiser. Raises as `load_lam`."""
    from genie_rt.training.lam import LamObjective

    _describe(run, "lam", config)
    objective = LamObjective(config, None)
    state = {name: value for name, value in load_weights(run).items() if not name.startswith("tokenizer.")}
    _load(objective, state, run)
    objective.model.load_state_dict(objective.weights())
    return objective.eval()


def load_bundle_lam(bundle: Bundle) -> Lam:
    """The latent action model that a bundle carries, in float32: it tells actions and predicts nothing.

    Raises:
        InputError: the bundle carries none.
        BundleError: its file is broken, or not what the bundle's sizes imply.
    """
    if bundle.config.lam is None or LAM_WEIGHTS not in bundle.files:
        raise InputError(
            f"{bundle.path}: expected a bundle that carries its latent action model, found none in it: name "
            "the run folder with --lam RUN, or export the run again with this genie-rt"
        )
    return telling_lam(bundle.config, load_weights_of(bundle, encoder_shapes(bundle.config), LAM_WEIGHTS))


def telling_lam(config: ModelConfig, weights: Mapping[str, Tensor]) -> Lam:
    """A latent action model, in float32, from the weights of `encoder_shapes`: it predicts nothing."""
    with torch.device("meta"):
        model = build_lam(config)
    own = {name: weight.to(torch.float32, copy=True) for name, weight in weights.items()}
    model.load_state_dict(own, assign=True, strict=False)
    for name in {name.partition(".")[0] for name, weight in model.named_parameters() if weight.is_meta}:
        delattr(model, name)  # what predicts
    return model.requires_grad_(False).eval()


def lam_config(run: Path) -> LamConfig | ConvLamConfig:
    """The sizes of a run's latent action model.

    Raises:
        ConfigError: the folder holds no run of one.
    """
    describe = run_state(run)["describe"]
    if describe.get("kind") != "lam":
        raise ConfigError(f"{run}: expected a run of the lam, found one of the {brief(describe.get('kind'))}")
    config = from_dict(ModelConfig, describe.get("config"), f"{run}: config")
    assert config.lam is not None  # what a LAM run trains
    return config.lam


def run_state(run: Path) -> dict[str, Any]:
    """Read the state of a run's newest checkpoint: step, config, describe, versions.

    Raises:
        ConfigError: the folder holds no checkpoint.
    """
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise ConfigError(f"{run}: expected a training run with a checkpoint, found none")
    return read_state(checkpoint)


def run_summary(run: Path) -> dict[str, Any]:
    """Summarise a run for the stage that builds on it: steps, time, device, data and settings."""
    state = run_state(run)
    describe = state["describe"]
    return {
        "steps": state["step"],
        "seconds": state.get("seconds"),
        "device": state.get("device"),
        "clip": describe.get("clip"),
        "data": describe.get("data"),
        "loop": state.get("loop"),
        "figures": state.get("figures"),
    }


def _load(objective: nn.Module, state: dict[str, Tensor], run: Path) -> None:
    try:
        objective.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            f"{run}: expected the weights that its sizes imply, found others: {brief(error)}"
        ) from error


def _describe(run: Path, kind: str, config: ModelConfig) -> None:
    found = run_state(run)["describe"]
    if found.get("kind") != kind:
        raise ConfigError(f"{run}: expected a run of the {kind}, found one of the {brief(found.get('kind'))}")
    sizes = from_dict(ModelConfig, found.get("config"), f"{run}: config")
    trained, wanted = getattr(sizes, kind), getattr(config, kind)
    if trained != wanted:
        raise ConfigError(
            f"{run}: its {kind} was trained as {brief(str(as_json(to_dict(sizes))[kind]))}, this model needs "
            f"{as_json(to_dict(config))[kind]}; train it again with this preset, or use the preset it was "
            "trained with"
        )
    seen, shown = ((each.tokenizer.width, each.tokenizer.height) for each in (sizes, config))
    if seen != shown:
        raise ConfigError(
            f"{run}: its {kind} was trained on pictures of {seen[0]}x{seen[1]}, these are "
            f"{shown[0]}x{shown[1]}"
        )
