"""Latent actions of clips, inferred from the frames by the latent action model."""

from dataclasses import replace
from pathlib import Path

import torch

from genie_rt.errors import InputError
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.training.data.store import NO_ACTION
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.frozen import load_lam
from genie_rt.training.lam import code_vectors

CODEBOOK_TOLERANCE = 0.01
"""Relative difference between the codebook of a LAM and a bundle's copy of it: bf16 rounds within 0.004."""


@torch.inference_mode()
def with_latent_actions(
    clips: TrueClips, lam_run: Path, model: WorldModel, action_names: tuple[str, ...], batch: int
) -> TrueClips:
    """Return the same clips with the actions that a LAM infers, `actions[:, t]` from the frames up to `t`.

    Args:
        clips: whose actions are replaced.
        lam_run: training run of the LAM that the world was trained with.
        model: the world's.
        action_names: of the world.
        batch: clips that are evaluated together.

    Raises:
        ConfigError: the run holds no LAM of the world's sizes.
        InputError: it is another LAM than the world's.
    """
    lam = load_lam(lam_run, model.config)
    kept, found = model.lam_codebook.float().cpu(), lam.codebook.float()
    if (kept - found).norm() > CODEBOOK_TOLERANCE * found.norm():
        raise InputError(
            f"{lam_run}: expected the action model that the world was trained with, found another"
        )
    device = model.tokenizer.codebook.device
    lam.to(device)
    actions = clips.actions.copy()
    for begin in range(0, len(actions), batch):
        frames = torch.from_numpy(clips.frames[begin : begin + batch]).to(device)
        codes = None
        if lam.config.inputs == "tokens":
            codes = code_vectors(model.tokenizer, frames)
        actions[begin : begin + batch, 1:] = lam.actions(frames, codes).cpu().numpy()
    actions[:, 0] = NO_ACTION
    return replace(clips, actions=actions, action_names=action_names)
