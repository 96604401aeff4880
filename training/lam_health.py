"""Measuring a latent action model on held-out clips: does the decoder need the code, and do codes differ?"""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.action_health import ActionHealth
from genie_rt.training.lam import LamObjective
from genie_rt.training.tokenizer import psnr_db, target_frames

EFFECT_STEPS = 16
"""Clips whose last step is predicted with every code in turn."""


@torch.inference_mode()
def action_health(objective: LamObjective, frames: Tensor, batch: int = 64) -> ActionHealth:
    """Measure on the steps of clips.

    Args:
        objective: in evaluation mode; its codebook is that of its quantiser.
        frames: `[B, T, H, W, 3]` uint8, `B >= 2`; a step is shuffled by taking the code of the next clip.
        batch: clips that are computed together.
    """
    model, codebook = objective.model, objective.quantiser.codebook()
    device = codebook.device
    chunks = frames.split(batch)
    vectors = [model.action_vectors(objective.inputs_of(chunk.to(device))) for chunk in chunks]
    codes = nearest_code(torch.cat(vectors).float(), codebook)  # [B, T-1]
    shuffled = codes.roll(1, 0)
    parts: list[Tensor] = []
    for index, chunk in enumerate(chunks):
        rows = slice(index * batch, index * batch + len(chunk))
        shown = chunk.to(device)
        target = target_frames(shown[:, 1:], model.size)
        inputs = objective.inputs_of(shown)[:, :-1]

        def error(action_vectors: Tensor, inputs: Tensor = inputs, target: Tensor = target) -> Tensor:
            return mse_loss(model.predict(inputs, action_vectors).float().clamp(-1, 1), target)

        true = lookup_code(codes[rows], codebook).to(inputs.dtype)
        other = lookup_code(shuffled[rows], codebook).to(inputs.dtype)
        copy = mse_loss(target_frames(shown[:, :-1], model.size), target)
        errors = torch.stack([error(true), error(other), error(torch.zeros_like(true)), copy])
        parts.append(errors * len(chunk) / len(frames))
    true_db, shuffled_db, none_db, copy_db = psnr_db(torch.stack(parts).sum(0)).tolist()
    shares = torch.bincount(codes.flatten(), minlength=len(codebook)) / codes.numel()
    unit = normalize(codebook, dim=-1)
    return ActionHealth(
        true_db=true_db,
        shuffled_db=shuffled_db,
        none_db=none_db,
        copy_db=copy_db,
        shares=tuple(shares.tolist()),
        code_cosine=_largest(unit @ unit.T),
        effect_likeness=_largest(_effects(objective, frames[:EFFECT_STEPS].to(device), codebook)),
    )


def _effects(objective: LamObjective, frames: Tensor, codebook: Tensor) -> Tensor:
    """Likeness `[A, A]` of what the codes change about the last prediction, from the mean over codes.

    `2 <a, b> / (<a, a> + <b, b>)`; codes that change nothing count as alike.
    """
    inputs = objective.inputs_of(frames)[:, :-1]
    drawn = torch.stack([_last(objective, inputs, code, codebook) for code in range(len(codebook))])
    effects = drawn - drawn.mean(0)  # [A, B * pixels]
    products = effects @ effects.T
    squares = products.diagonal()
    likeness = 2 * products / (squares[:, None] + squares[None])
    idle = squares <= 1e-12 * drawn.square().sum(-1)  # rounding has a direction too
    return torch.where(idle[:, None] & idle[None], 1.0, likeness)


def _last(objective: LamObjective, inputs: Tensor, code: int, codebook: Tensor) -> Tensor:
    codes = torch.full(inputs.shape[:2], code, device=inputs.device)
    vectors = lookup_code(codes, codebook).to(inputs.dtype)
    return objective.model.predict(inputs, vectors)[:, -1].float().flatten()


def _largest(table: Tensor) -> float:
    """The largest off the diagonal; 0 where there is one code."""
    off = ~torch.eye(len(table), dtype=torch.bool, device=table.device)
    return table[off].max().item() if len(table) > 1 else 0.0
