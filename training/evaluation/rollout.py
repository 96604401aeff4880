"""Runs a world on many clips at once: what a session does, with batches of rows.

All of it goes through `Backend`, so any back end can be measured in any number format. Rollouts start as a
session does, with the prompt through the back end's own tokenizer. What is teacher-forced has a history of
given tokens, those that the definition finds: so all back ends are asked the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row, blank_row
from genie_rt.runtime.model.dynamics import NULL_ACTION
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.data.store import Actions, Frames
from genie_rt.training.evaluation.definition import definition_of, encoded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompted:
    """Clips that the model has seen.

    Attributes:
        frames: `[B, T, H, W, 3]` uint8, every frame as the tokenizer gives it back.
        rows: by number of frames seen, the state of each clip after so many: committed, with all that any
            plan may keep.
        tokens: `[B, T, N]` int64, of the frames; None where the model has none.
    """

    frames: Frames
    rows: dict[int, list[Row]]
    tokens: Tensor | None = None


class Rollouts(Protocol):
    """Interface of a model under evaluation. `ModelRollouts` is a world; tests have simpler ones."""

    def start(self, frames: Frames, actions: Actions, seeds: Sequence[int]) -> tuple[list[Row], Frames]:
        """Start sessions.

        Args:
            frames: `[B, T, H, W, 3]` uint8, the prompts. actions: `[B, T]`, which led to them; the first is
                not looked at.
            seeds: `B` 64-bit seeds, one a clip.

        Returns:
            Committed rows, and the last frames as the model sees them, `[B, H, W, 3]` uint8.
        """
        ...

    def prompt(self, frames: Frames, actions: Actions, seen: Sequence[int], seeds: Sequence[int]) -> Prompted:
        """Show clips to the model, teacher-forced.

        Args:
            frames, actions, seeds: as of `start`.
            seen: after how many frames a state is wanted, 1 to T each.
        """
        ...

    def play(self, rows: Sequence[Row], actions: Actions, plan: Plan) -> Frames:
        """The frames that actions `[B, S]` lead to: `[B, S, H, W, 3]` uint8."""
        ...


class ModelRollouts:
    """A world on its back end.

    Args:
        model: whose tokenizer says what tokens real frames have; `definition_of` the world unless given.

    Raises:
        UnsupportedError: the world's output differs in size from its input.
    """

    def __init__(self, world: World, model: WorldModel | None = None) -> None:
        self.config = world.bundle.config
        height, width = self.config.tokenizer.height, self.config.tokenizer.width
        if world.output_size != (height, width):
            raise UnsupportedError(
                f"expected a world whose frames have its pictures' size, {height}x{width}, "
                f"found {world.output_size[0]}x{world.output_size[1]}: there is no truth of that size"
            )
        self.backend = world.backend
        self.model = definition_of(world) if model is None else model

    def start(self, frames: Frames, actions: Actions, seeds: Sequence[int]) -> tuple[list[Row], Frames]:
        """See `Rollouts.start`."""
        rows, shown = [], []
        for clip, led_by, seed in zip(frames, _led_by(actions), seeds, strict=True):
            row, picture = self.backend.prefill(seed, torch.from_numpy(clip), led_by.tolist())
            rows.append(row)
            shown.append(picture.cpu().numpy())
        return self.backend.commit(rows), np.stack(shown)

    def prompt(self, frames: Frames, actions: Actions, seen: Sequence[int], seeds: Sequence[int]) -> Prompted:
        """See `Rollouts.prompt`. Frame after frame, all clips at once."""
        tokens = encoded(self.model, frames)  # [B, T, N]
        rows = [blank_row(self.config, seed, self.backend.device) for seed in seeds]
        shown, kept = [], dict[int, list[Row]]()
        for t, led_by in enumerate(_led_by(actions).T.tolist()):
            given = tokens[:, t].to(rows[0].tokens.device)
            rows, pictures = self.backend.show(rows, led_by, given)
            rows = self.backend.commit(rows)
            shown.append(pictures.cpu().numpy())
            if t + 1 in seen:
                kept[t + 1] = rows
        return Prompted(frames=np.stack(shown, axis=1), rows=kept, tokens=tokens)

    def play(self, rows: Sequence[Row], actions: Actions, plan: Plan) -> Frames:
        """See `Rollouts.play`."""
        return np.stack([shown for shown, _ in self.steps(rows, actions, plan)], axis=1)

    def steps(
        self, rows: Sequence[Row], actions: Actions, plan: Plan
    ) -> Iterator[tuple[Frames, list[FrameStats]]]:
        """Play as `play` does, step by step: `[B, H, W, 3]` uint8, and what each clip's frame took."""
        current = list(rows)
        for led_by in actions.T.tolist():
            current, pictures, stats = self.backend.frame(current, led_by, plan)
            assert pictures is not None  # none were declined
            yield pictures.cpu().numpy(), stats
        self.backend.commit(rows)  # they are; but a back end may tell of a NaN in the next call alone


def play_scripts(
    rollouts: Rollouts,
    frames: Frames,
    actions: Actions,
    scripts: Actions,
    plan: Plan,
    *,
    seed: int = 0,
    batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> Frames:
    """Play several scripts from each of several prompts, batch by batch.

    Args:
        rollouts: the model.
        frames, actions: of the prompts, as of `Rollouts.start`: `[M, T, H, W, 3]` and `[M, T]`.
        scripts: `[M, K, S]`, K scripts for each prompt.
        plan: to decode with.
        seed: prompt `i` has seed `(seed << 32) + i` in all its scripts.
        batch: prompts that are played together.
        advance: called with the number of prompts done after each batch.

    Returns:
        `[M, K, S + 1, H, W, 3]` uint8; the first frame is the prompt's last as the model sees it.
    """
    parts = []
    for begin in range(0, len(frames), batch):
        chosen = slice(begin, min(begin + batch, len(frames)))
        seeds = [(seed << 32) + index for index in range(chosen.start, chosen.stop)]
        rows, shown = rollouts.start(frames[chosen], actions[chosen], seeds)
        played = [
            np.concatenate([shown[:, None], rollouts.play(rows, script, plan)], axis=1)
            for script in np.moveaxis(scripts[chosen], 1, 0)
        ]
        parts.append(np.stack(played, axis=1))
        advance(len(seeds))
    return np.concatenate(parts)


def _led_by(actions: Actions) -> Actions:
    """A copy in which no action led to the first frames."""
    led_by = actions.copy()
    led_by[:, 0] = NULL_ACTION
    return led_by
