"""One stage of training, from its command: data in the model's size, header, loop, and what comes next."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie_rt.environment import is_first_process
from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.config import ModelConfig, to_dict
from genie_rt.runtime.presets import preset
from genie_rt.runtime.units import counted, plural
from genie_rt.training.loop_config import LoopConfig

if TYPE_CHECKING:
    from torch import nn

    from genie_rt.training.data.store import ClipStore
    from genie_rt.training.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is trained, on what, and what is recorded of it in each checkpoint.

    Attributes:
        kind: "tokenizer", "lam" or "dynamics".
        objective: the module that is trained.
        store: where the clips come from.
        length: frames of a clip.
        config: of the whole model.
        watch: see `training.watch`; None where the data has no held-out clips.
        recipe: further facts for the checkpoint; a run is resumed only with the same.
        action_names: of logged actions.
        next_command: what a user would type when this stage is done.
    """

    kind: str
    objective: nn.Module
    store: ClipStore
    length: int
    config: ModelConfig
    watch: Watch | None
    recipe: dict[str, Any] = field(default_factory=dict)
    action_names: tuple[str, ...] = ()
    next_command: str

    def run(self, loop: LoopConfig, out: Path) -> int:
        """Train, report in the first process, and return the exit code: 128 + signal where one stopped it."""
        from genie_rt.training.loop import train

        describe = {
            "kind": self.kind,
            "config": to_dict(self.config),
            "clip": self.length,
            "data": {
                "source": self.store.source,
                "frames": self.store.num_frames,
                "provenance": self.store.provenance,
            },
            "action_names": list(self.action_names),
            **self.recipe,
        }
        clips = self.store.clips(length=self.length, split="train")
        first = is_first_process()
        if first:
            print(self._header(loop), flush=True)
        result = train(self.objective, clips, loop, out, describe=describe, watch=self.watch)
        if result.interrupted is not None:
            if first:
                print(f"stopped at step {result.step}; the same command resumes from {result.checkpoint}")
            return 128 + result.interrupted
        if first:
            print(f"{self.kind}: {plural(result.step, 'step')} done, weights in {result.checkpoint}")
            print(f"next: {self.next_command}")
        return 0

    def _header(self, loop: LoopConfig) -> str:
        """What is about to happen, in two lines."""
        trained = sum(p.numel() for p in self.objective.parameters() if p.requires_grad)
        count = {split: 0 for split in ("train", "heldout")}
        for episode in self.store.episodes:
            count[episode.split] += episode.length
        short = count["heldout"] > 0 and self.watch is None
        held = f", too short for clips of {plural(self.length, 'frame')}" if short else ""
        return (
            f"{self.kind}: {counted(trained)} parameters to train on {count['train']:,} frames of "
            f"{self.store.width}x{self.store.height} ({count['heldout']:,} held out{held})\n"
            f"{plural(loop.steps, 'step')} of {plural(loop.batch, 'clip')} of "
            f"{plural(self.length, 'frame')}, {loop.optimizer}, learning rate {loop.learning_rate:g}, "
            f"seed {loop.seed}"
        )


def open_data(data: Path, name: str) -> tuple[ClipStore, ModelConfig]:
    """Open a clip store, and give a preset the size of its pictures.

    Args:
        data: folder of the store.
        name: of the preset, or the path of a JSON file that holds a config.

    Raises:
        InputError: the model cannot have pictures of that size.
        ConfigError: there is no such preset.
        BundleError: the store is broken.
    """
    from genie_rt.training.data.store import ClipStore

    config = preset(name)
    store = ClipStore.open(data)
    tokenizer = dataclasses.replace(config.tokenizer, height=store.height, width=store.width)
    try:
        return store, dataclasses.replace(config, tokenizer=tokenizer)
    except ConfigError as error:
        side = config.tokenizer.patch * config.dynamics.merge
        raise InputError(
            f"{data}: expected sides that are multiples of {side} pixels for the preset {name!r}, found "
            f"{store.width}x{store.height} ({error}); record or import the data again at such a size"
        ) from error


def clip_length(asked: int | None, default: int, *, least: int = 2) -> int:
    """Return the frames per clip: as asked, or the default.

    Raises:
        InputError: that is less than the model learns from.
    """
    if asked is not None and asked < least:
        raise InputError(f"--clip: expected {least} frames or more, found {asked}")
    return default if asked is None else asked


def seed_weights(seed: int) -> None:
    """Seed torch, so that initial weights depend on the seed alone."""
    import torch

    torch.manual_seed(seed)
