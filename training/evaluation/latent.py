"""Latent actions of clips, inferred from the frames by the latent action model."""

from dataclasses import replace
from pathlib import Path

import torch

from genie_rt.errors import InputError
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.manifest import unnamed_action
from genie_rt.runtime.model.lam import Lam
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.training.data.store import NO_ACTION, Actions, Frames
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.frozen import load_bundle_lam, load_lam
from genie_rt.training.lam import code_vectors

CODEBOOK_TOLERANCE = 0.01
"""Relative difference between the codebook of a LAM and a bundle's copy of it: bf16 rounds within 0.004."""


def lam_of(bundle: Bundle, lam_run: Path | None, model: WorldModel) -> Lam:
    """The latent action model of a world: of a training run, or the one that the bundle carries.

    Args:
        bundle: of the world.
        lam_run: training run of the LAM that the world was trained with, or None.
        model: the world's, which knows the codebook.

    Raises:
        ConfigError: the run holds no LAM of the world's sizes.
        InputError: it is another LAM than the world's, or there is neither a run nor one in the bundle.
        BundleError: the bundle's is broken.
    """
    if lam_run is None:
        return load_bundle_lam(bundle)
    lam = load_lam(lam_run, bundle.config)
    kept, found = model.lam_codebook.float().cpu(), lam.codebook.float()
    if (kept - found).norm() > CODEBOOK_TOLERANCE * found.norm():
        raise InputError(
            f"{lam_run}: expected the action model that the world was trained with, found another"
        )
    return lam


@torch.inference_mode()
def infer_actions(lam: Lam, model: WorldModel, frames: Frames, batch: int) -> Actions:
    """The action of the dynamics that led to each frame of clips, as a latent action model sees it.

    Args:
        frames: `[M, T, H, W, 3]` uint8.
        batch: clips that are computed together.

    Returns:
        `[M, T]` int64; entry `t` led from frame `t-1` to frame `t`, -1 at `t = 0`.
    """
    device = model.tokenizer.codebook.device
    lam.to(device)
    actions = torch.full(frames.shape[:2], NO_ACTION)
    for begin in range(0, len(frames), batch):
        part = torch.from_numpy(frames[begin : begin + batch]).to(device)
        codes = code_vectors(model.tokenizer, part) if lam.config.inputs == "tokens" else None
        actions[begin : begin + batch, 1:] = lam.actions(part, codes).cpu()
    return actions.numpy()


def with_latent_actions(
    clips: TrueClips, bundle: Bundle, lam_run: Path | None, model: WorldModel, batch: int
) -> TrueClips:
    """Return the same clips with the dynamics' actions that a LAM infers, named by their index.

    Args:
        clips: whose actions are replaced.
        bundle, lam_run, model: as in `lam_of`.
        batch: clips that are computed together.

    Raises:
        ConfigError, InputError, BundleError: as `lam_of`.
    """
    actions = infer_actions(lam_of(bundle, lam_run, model), model, clips.frames, batch)
    names = tuple(map(unnamed_action, range(bundle.config.dynamics.num_actions)))
    return replace(clips, actions=actions, action_names=names)
