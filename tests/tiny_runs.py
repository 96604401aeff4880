"""A world so small that training it takes seconds, and runs of the real commands that trained it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_rt.runtime.config import (
    ConvLamConfig,
    DynamicsConfig,
    ModelConfig,
    TokenizerConfig,
    TransformerConfig,
)
from genie_rt.training.commands import DynamicsCommand, LamCommand, TokenizerCommand
from genie_rt.training.data.store import Split
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.loop_config import LoopConfig

_SIDE = TransformerConfig(num_layers=1, width=16, num_heads=2, head_width=8, mlp_width=16, window=2)
TINY = ModelConfig(
    tokenizer=TokenizerConfig(
        height=8,
        width=16,
        patch=4,
        decoder_patch=4,
        codebook_size=16,
        codebook_dim=4,
        encoder=_SIDE,
        decoder=_SIDE,
    ),
    lam=ConvLamConfig(num_actions=4, width=4),
    dynamics=DynamicsConfig(transformer=_SIDE, num_actions=4, merge=2, embedding_dim=8),
)
"""The preset "tiny" of the fixture `tiny_preset`. Four latent actions, so that the data's three differ."""

ACTIONS = ("left", "right", "stay")
_SPLITS: tuple[Split, ...] = ("train", "train", "heldout")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRuns:
    """A clip store and the folders of what was trained on it, two steps each.

    Attributes:
        logged: dynamics on the store's actions, with averaged weights too.
        latent: dynamics on the actions of `lam`.
    """

    store: Path
    tokenizer: Path
    lam: Path
    logged: Path
    latent: Path


def tiny_loop(**changes: Any) -> LoopConfig:
    """Two steps in full precision."""
    settings: dict[str, Any] = {"steps": 2, "batch": 4, "learning_rate": 1e-2, "warmup": 0.5}
    return LoopConfig(**(settings | {"precision": "fp32", "log_every": 1} | changes))


def write_store(path: Path, *, height: int = 8, width: int = 16, actions: tuple[str, ...] = ACTIONS) -> Path:
    """A clip store of noise that scrolls as the actions say; without actions where `actions` is empty."""
    random = np.random.default_rng(0)
    with ClipStoreWriter(path, source="noise", height=height, width=width, action_names=actions) as writer:
        for split in _SPLITS:
            steps = random.integers(0, len(ACTIONS), 12)
            steps[0] = -1
            ground = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            shifts = np.cumsum(np.select([steps == 0, steps == 1], [-1, 1], 0))
            frames = np.stack([np.roll(ground, shift, axis=1) for shift in shifts])
            writer.append(frames, steps if actions else None, split=split)
    return path


def train_all(root: Path) -> TinyRuns:
    """Runs every training command once; the preset "tiny" has to be there."""
    runs = TinyRuns(
        store=write_store(root / "store"),
        tokenizer=root / "tokenizer",
        lam=root / "lam",
        logged=root / "logged",
        latent=root / "latent",
    )
    shared: dict[str, Any] = {"data": runs.store, "preset": "tiny"}
    dynamics = shared | {"tokenizer": runs.tokenizer}
    commands = (
        TokenizerCommand(out=runs.tokenizer, loop=tiny_loop(), **shared),
        LamCommand(out=runs.lam, min_delta=0.0, loop=tiny_loop(), **shared),
        DynamicsCommand(out=runs.logged, actions="logged", loop=tiny_loop(ema_decay=0.5), **dynamics),
        DynamicsCommand(out=runs.latent, lam=runs.lam, loop=tiny_loop(), **dynamics),
    )
    for command in commands:
        assert command.run() == 0
    return runs
