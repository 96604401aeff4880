"""Source of an export: a training run, or a bundle that gets graphs, plans or another precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genie_rt.errors import BundleError
from genie_rt.export.checkpoint import read_checkpoint
from genie_rt.export.model_card import renamed_card
from genie_rt.export.provenance import preset_of, provenance_of
from genie_rt.export.run_card import card_of_run
from genie_rt.runtime.bundle import Bundle, load_weights, open_bundle, shipped_bundles
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.images import load_image
from genie_rt.runtime.manifest import LAM_WEIGHTS, MANIFEST, MODEL_CARD, GraphManifest, Int8Manifest
from genie_rt.runtime.model.lam import encoder_shapes
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.random_weights import RandomWeights, random_bundle

IDLE_ACTION = "stay"
"""The action that is meant when no key is pressed, where the data has one of that name."""

MAX_CARD_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A world as it was found.

    Attributes:
        name: of the checkpoint's or bundle's folder, for messages.
        weights: named as in `WorldModel.state_dict()`, on the CPU.
        lam: weights that tell actions from pictures, where the actions are latent and these are known.
        action_codes: the action of the dynamics that each name stands for; empty where they are the same.
        dtype: that a bundle's matrices are stored in, "bf16" or "fp32"; None of a run.
        plans, prompts, graphs, int8: of a bundle; a run has none.
        card: of a bundle; None of a run, whose card is made from its provenance.
    """

    name: str
    config: ModelConfig
    preset: str
    weights: Mapping[str, torch.Tensor]
    lam: Mapping[str, torch.Tensor] | None = None
    action_codes: tuple[int, ...] = ()
    dtype: str | None
    action_names: tuple[str, ...]
    default_action: str
    provenance: Mapping[str, Any]
    plans: Mapping[str, Plan]
    prompts: tuple[NDArray[np.uint8], ...]
    graphs: GraphManifest | None
    int8: Int8Manifest | None = None
    card: str | None

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in parameter_shapes(self.config).values())

    def model_card(self, name: str, record: Mapping[str, Any] | None, limits: Sequence[str] = ()) -> str:
        """Return the model card for a bundle of that name.

        Args:
            record: from `run_card.read_record`, if the world was measured; a bundle's card is then made anew.
            limits: sentences for its section "Limits", beside the usual ones.
        """
        if self.card is not None and record is None:
            return renamed_card(self.card, self.name, name)
        return card_of_run(
            name=name,
            config=self.config,
            num_parameters=self.num_parameters,
            action_names=self.action_names,
            provenance=self.provenance,
            record=record,
            limits=limits,
        )


def is_bundle(source: str | Path) -> bool:
    """Whether it is a bundle, by its name or by what is in the folder.

    Raises:
        BundleError: nothing can have that name, or the folder cannot be looked into.
    """
    try:
        return str(source) in shipped_bundles() or (Path(source) / MANIFEST).is_file()
    except OSError as error:
        raise BundleError(f"{source}: expected a run or a bundle, found {error}") from error


def read_source(source: str | Path, *, averaged: bool = False) -> Source:
    """Read a run or a bundle.

    Args:
        source: the folder of a dynamics run, a checkpoint in it, a bundle's folder, or a shipped bundle's
            name.
        averaged: take a run's averaged weights.

    Raises:
        BundleError, ConfigError: as `read_checkpoint` and `open_bundle`.
    """
    return _read_bundle(source) if is_bundle(source) else _read_run(Path(source), averaged)


def random_source(preset: str, seed: int = 0) -> Source:
    """A world of a preset's sizes with random weights, to measure with: its pictures mean nothing.

    Raises:
        ConfigError: there is no such preset.
    """
    bundle = random_bundle(preset, seed=seed, device="cpu")
    return Source(
        name=f"random {preset}",
        config=bundle.config,
        preset=preset,
        weights=RandomWeights(bundle.config, seed=seed, dtype=torch.float32, device="cpu"),
        dtype=None,
        action_names=bundle.action_names,
        default_action=bundle.default_action,
        provenance=bundle.provenance,
        plans=bundle.plans,
        prompts=(),
        graphs=None,
        int8=bundle.int8,
        card=f"# {preset}, random weights\n\nTo measure how long a frame takes. Its pictures mean nothing.\n",
    )


def _read_run(folder: Path, averaged: bool) -> Source:
    checkpoint = read_checkpoint(folder, averaged=averaged)
    names = checkpoint.action_names
    return Source(
        name=checkpoint.path.name,
        config=checkpoint.config,
        preset=preset_of(checkpoint.config),
        weights=checkpoint.weights,
        lam=checkpoint.lam,
        dtype=None,
        action_names=names,
        default_action=IDLE_ACTION if IDLE_ACTION in names else names[0],
        provenance=provenance_of(checkpoint),
        plans={},
        prompts=(),
        graphs=None,
        card=None,
    )


def _read_bundle(source: str | Path) -> Source:
    bundle = open_bundle(source)
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    is_narrow = any(weight.dtype == torch.bfloat16 for weight in weights.values())
    return Source(
        name=bundle.name,
        config=bundle.config,
        preset=bundle.preset,
        weights=weights,
        lam=_read_lam(bundle),
        action_codes=bundle.named_codes,
        dtype="bf16" if is_narrow else "fp32",
        action_names=bundle.action_names,
        default_action=bundle.default_action,
        provenance=bundle.provenance,
        plans=bundle.plans,
        prompts=tuple(load_image(path) for path in bundle.prompts),
        graphs=bundle.graphs,
        int8=bundle.int8,
        card=_read_card(bundle),
    )


def _read_lam(bundle: Bundle) -> Mapping[str, torch.Tensor] | None:
    if LAM_WEIGHTS not in bundle.files or bundle.config.lam is None:
        return None
    return load_weights(bundle, encoder_shapes(bundle.config), LAM_WEIGHTS)


def _read_card(bundle: Bundle) -> str | None:
    path, record = bundle.path / MODEL_CARD, bundle.files.get(MODEL_CARD)
    if record is None:
        return None
    if record.size > MAX_CARD_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_CARD_BYTES} bytes, found {record.size}")
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: expected a model card in UTF-8, found {error}") from error
