"""A checkpoint of `genie-rt train dynamics` as a bundle needs it; `training/checkpoint.py` reads the files.

    model.*      the dynamics
    tokenizer.*  the frozen tokenizer, codebook included
    lam.*        the frozen LAM, where the actions are latent

The optimiser's states are not opened: they are a pickle. `describe` in the state holds kind ("dynamics"),
config (a ModelConfig), action_names (empty where the actions are latent), and the recipe; `provenance.py`
reads that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from genie_rt.errors import BundleError, ConfigError
from genie_rt.runtime.config import ModelConfig, from_dict
from genie_rt.runtime.manifest import unnamed_action
from genie_rt.runtime.model.lam import encoder_shapes
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.untrusted import brief
from genie_rt.training.checkpoint import find_checkpoint, read_weights
from genie_rt.training.checkpoint_state import EMA_FILE, MODEL_FILE, STATE_FILE, parse_state

_Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DynamicsCheckpoint:
    """A trained world as its run saved it.

    Attributes:
        path: the checkpoint's folder.
        config: sizes of the model.
        weights: named as in `WorldModel.state_dict()`, on the CPU, in the dtype they were trained in.
        lam: weights that tell actions from pictures, named as in `encoder_shapes`; None of logged actions.
        action_names: by action index; `latent-0`, `latent-1`, ... where the actions have no names.
        averaged: whether these are the averaged weights.
        state: state.json as parsed, `describe` checked to be an object.
    """

    path: Path
    config: ModelConfig
    weights: dict[str, Tensor]
    lam: dict[str, Tensor] | None
    action_names: tuple[str, ...]
    averaged: bool
    state: dict[str, Any]


def read_checkpoint(run: Path, *, averaged: bool = False) -> DynamicsCheckpoint:
    """Read the newest checkpoint of a dynamics run, after checking that it is complete.

    Args:
        run: the folder that `genie-rt train dynamics --out` wrote, or one checkpoint in it.
        averaged: take the averaged weights.

    Raises:
        ConfigError: the run trained something else, or kept no averaged weights.
        BundleError: there is no checkpoint, or a file or tensor of it is missing, truncated or not what the
            run's sizes imply.
    """
    folder = find_checkpoint(run, skip_broken=False)
    if folder is None:
        found = "no checkpoint in it" if run.is_dir() else "no such folder"
        raise BundleError(f"{run}: expected the folder of a dynamics run, found {found}")
    state = parse_state(folder)
    describe = state["describe"]
    if describe.get("kind") != "dynamics":
        raise ConfigError(
            f"{run}: expected a run of the dynamics, found one of {brief(repr(describe.get('kind')))}; "
            "give the folder that `genie-rt train dynamics --out` wrote"
        )
    if averaged and EMA_FILE not in state["files"]:
        raise ConfigError(
            f"{folder}: expected averaged weights, found none: the run had no --ema-decay above 0; "
            "export the last weights in their place, with --no-ema"
        )
    try:
        config = from_dict(ModelConfig, describe.get("config"), "describe.config")
    except ConfigError as error:
        raise BundleError(f"{folder / STATE_FILE}: {brief(error)}") from error
    name = EMA_FILE if averaged else MODEL_FILE
    if name not in state["files"]:
        raise BundleError(f"{folder / STATE_FILE}: files: expected the size of {name}, found none")
    wanted = {trained_name(weight): shape for weight, shape in parameter_shapes(config).items()}
    telling = {} if config.lam is None else encoder_shapes(config)
    wanted |= {f"lam.{weight}": shape for weight, shape in telling.items()}
    weights = read_weights(folder, state, name, lambda found: _checked(folder / name, wanted, found))
    return DynamicsCheckpoint(
        path=folder,
        config=config,
        weights={weight: weights[trained_name(weight)] for weight in parameter_shapes(config)},
        lam={weight: weights[f"lam.{weight}"] for weight in telling} or None,
        action_names=_action_names(folder / STATE_FILE, config, describe.get("action_names")),
        averaged=averaged,
        state=state,
    )


def trained_name(name: str) -> str:
    """Return a run's name for the weight that `WorldModel.state_dict()` calls `name`."""
    if name == "lam_codebook":
        return "lam.codebook"
    part, _, rest = name.partition(".")
    return f"model.{rest}" if part == "dynamics" else name


def _checked(path: Path, wanted: _Shapes, found: _Shapes) -> Iterable[str]:
    """Names of the wanted tensors, if those that are found are they."""
    _refuse(path, wanted.keys() - found.keys(), "missing")
    played = {name for name in found if name.startswith(("model.", "tokenizer."))}
    _refuse(path, played - wanted.keys(), "unknown")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise BundleError(f"{path}: {name}: expected shape {list(shape)}, found {list(found[name])}")
    return wanted


def _refuse(path: Path, names: Iterable[str], what: str) -> None:
    ordered = sorted(names)
    if ordered:
        more = f" and {len(ordered) - 1} more" if len(ordered) > 1 else ""
        raise BundleError(
            f"{path}: expected the tensors that the run's config implies, found that {ordered[0]!r}{more} is "
            f"{what}; export with the version that trained it"
        )


def _action_names(path: Path, config: ModelConfig, names: object) -> tuple[str, ...]:
    num_actions = config.dynamics.num_actions
    if config.lam is not None:
        return tuple(map(unnamed_action, range(num_actions)))
    if not isinstance(names, list) or len(names) != num_actions or not all(type(n) is str for n in names):
        raise BundleError(
            f"{path}: describe.action_names: expected {num_actions} names, found {brief(repr(names))}"
        )
    return tuple(names)
