"""A tokenizer or a latent action model on its own, judged on held-out clips before anything stands on it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.table import Table

from genie_rt.errors import InputError
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.action_health import ActionHealth
from genie_rt.runtime.config import ConvLamConfig, ModelConfig, from_dict
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.checkpoint import find_checkpoint
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.clips import from_store
from genie_rt.training.evaluation.measure import tokenizer_figures
from genie_rt.training.evaluation.report import tokenizer_table
from genie_rt.training.evaluation.tables import make_table
from genie_rt.training.frozen import load_lam_objective, load_tokenizer, run_state
from genie_rt.training.lam_health import action_health

CLIP_FRAMES = 16
"""Frames of a clip that a tokenizer is judged on."""

LAM_CLIPS = 1000
"""Clips that a latent action model is judged on, where the data has so many and no other number is given."""


def is_run(path: Path) -> bool:
    """Whether a folder is a training run, or one of its checkpoints."""
    return path.is_dir() and find_checkpoint(path, skip_broken=True) is not None


def judge_run(
    run: Path, data: Path, *, clips: int | None, seed: int, batch: int
) -> tuple[str, RenderableType, dict[str, Any]]:
    """Judge a run of a tokenizer or of a latent action model.

    Args:
        run: folder of the run.
        data: clip store whose held-out split is used.
        clips: number of clips; None for 200 of a tokenizer, 1,000 of a LAM, or as many as there are.
        seed: of the choice of clips.
        batch: clips that are computed together.

    Returns:
        The kind of run, a table, and the figures as JSON values.

    Raises:
        InputError: the run is of the dynamics, or of a LAM that sees tokens; or as `from_store`.
    """
    describe = run_state(run)["describe"]
    config = from_dict(ModelConfig, describe.get("config"), f"{run}: config")
    size = config.tokenizer.height, config.tokenizer.width
    if describe.get("kind") == "tokenizer":
        real = from_store(data, num_clips=clips, length=CLIP_FRAMES, size=size, seed=seed).frames
        figures = tokenizer_figures(_restored(load_tokenizer(run, config), real, batch), real)
        return "tokenizer", tokenizer_table(figures), dataclasses.asdict(figures)
    if describe.get("kind") != "lam" or config.lam is None:
        raise InputError(
            f"{run}: expected a bundle, or a run of a tokenizer or of a LAM, found a run of the dynamics: "
            "export it first"
        )
    if config.lam.inputs != "pixels":
        raise InputError(f"{run}: expected a LAM that sees pixels, found one that sees tokens")
    window = config.lam.past_frames if isinstance(config.lam, ConvLamConfig) else config.lam.encoder.window
    found = from_store(data, num_clips=clips, length=window + 1, size=size, seed=seed, most_clips=LAM_CLIPS)
    health = action_health(load_lam_objective(run, config), torch.from_numpy(found.frames), batch)
    return "lam", health_table(health, len(found.frames)), health.as_figures()


def health_table(health: ActionHealth, num_clips: int) -> Table:
    """Make the table of a latent action model's figures."""
    problem, shares = health.problem(), [f"{share:.1%}" for share in health.shares]
    table = make_table(
        f"Latent actions on {num_clips:,} held-out clips",
        ("", "figure"),
        problem or "PSNR is pooled over all pixels. A likeness of 1: two codes draw the same picture.",
    )
    for name, value in (
        ("next frame with the true code", f"{health.true_db:.2f} dB"),
        ("with the code of another step", f"{health.shuffled_db:.2f} dB"),
        ("Δ, the cost of another code", f"{health.delta_db:.2f} dB"),
        ("without a code", f"{health.none_db:.2f} dB"),
        ("copy of the last frame", f"{health.copy_db:.2f} dB"),
        ("share of each code", "\n".join(" ".join(shares[i : i + 4]) for i in range(0, len(shares), 4))),
        ("perplexity", f"{health.perplexity:.2f} of {len(health.shares)}"),
        ("largest cosine of two codes", f"{health.code_cosine:.3f}"),
        ("largest likeness of two effects", f"{health.effect_likeness:.3f}"),
    ):
        table.add_row(name, value)
    return table


@torch.inference_mode()
def _restored(tokenizer: Tokenizer, frames: Frames, batch: int) -> Frames:
    """Clips `[M, T, H, W, 3]` uint8, encoded and decoded."""
    config, parts = tokenizer.config, []
    ages = [causal_ages(frames.shape[1], side.window) for side in (config.encoder, config.decoder)]
    for begin in range(0, len(frames), batch):
        tokens, _ = tokenizer.encode(torch.from_numpy(frames[begin : begin + batch]), ages[0])
        parts.append(to_uint8(tokenizer.decode(tokens, ages[1])[0]).numpy())
    return np.concatenate(parts)
