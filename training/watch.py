"""Held-out figures of a run, measured while it trains: in every log line, in TensorBoard, in checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genie_rt.errors import InputError, StateError
from genie_rt.runtime.action_health import ActionHealth
from genie_rt.training.data.store import ClipStore
from genie_rt.training.dynamics import DynamicsObjective
from genie_rt.training.lam import LamObjective
from genie_rt.training.lam_health import action_health
from genie_rt.training.tokenizer import TokenizerObjective

LOG_CLIPS, SAVE_CLIPS = 64, 512
"""Held-out clips that a log line and a checkpoint are measured on, where there are so many."""

EARLY = 0.1
"""Share of the steps before which nobody is warned."""

HALF = 0.5
"""Share of the steps from which on a run below its least Δ is stopped."""


class Watch(Protocol):
    """What the loop asks while it trains, in the first process only."""

    def figures(self, *, saving: bool) -> dict[str, float]:
        """Measure. `saving`: for a checkpoint, on more clips."""
        ...

    def line(self, figures: Mapping[str, float]) -> str:
        """The figures as they stand in a log line."""
        ...

    def check(self, figures: Mapping[str, float], done: float) -> str | None:
        """A warning, or None. `done`: share of the steps that are finished.

        Raises:
            StateError: to go on makes no sense.
        """
        ...

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Pictures `[h, w, 3]` by name, for TensorBoard."""
        ...


def heldout_clips(store: ClipStore, length: int, count: int) -> tuple[Tensor, Tensor] | None:
    """Frames `[B, T, H, W, 3]` uint8 and actions `[B, T]` int64, spread over the held-out split.

    None where it has no two clips of the length.
    """
    try:
        clips = store.clips(length=length, split="heldout")
    except InputError:
        return None
    if len(clips) < 2:
        return None
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).astype(np.int64)
    # neighbours in the batch come from far apart, since a step is shuffled by taking the next one's code
    order = np.random.default_rng(0).permutation(len(chosen))
    frames, actions = clips.batch(chosen[order])
    return torch.from_numpy(frames), torch.from_numpy(actions)


@contextmanager
def _evaluating(objective: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block, training mode after it."""
    objective.eval()
    try:
        yield
    finally:
        objective.train()


class LossWatch:
    """The objective's own figures on held-out clips: of a tokenizer, or of the dynamics.

    Args:
        objective: measured in evaluation mode, with the same random numbers each time.
        clips: frames `[B, T, H, W, 3]` uint8 and actions `[B, T]`.
    """

    def __init__(
        self, objective: TokenizerObjective | DynamicsObjective, clips: tuple[Tensor, Tensor]
    ) -> None:
        self.objective, self.clips = objective, clips

    @torch.inference_mode()
    def figures(self, *, saving: bool) -> dict[str, float]:
        """See `Watch.figures`."""
        device = next(self.objective.parameters()).device
        frames, actions = (part.to(device) for part in self.clips)
        with _evaluating(self.objective):
            outputs = self.objective(frames, actions, torch.Generator(device).manual_seed(0))
        return {name: value.float().item() for name, value in outputs.items()}

    def line(self, figures: Mapping[str, float]) -> str:
        """See `Watch.line`."""
        return "held out: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items())

    def check(self, figures: Mapping[str, float], done: float) -> str | None:
        """Never warns."""
        return None

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """What the objective draws of the first held-out clips."""
        with _evaluating(self.objective):
            return {"held out": self.objective.pictures(self.clips[0][:4])}


class LamWatch:
    """Health of the latent action model, with a warning where the decoder ignores the codes.

    Args:
        frames: held-out clips, `[B, T, H, W, 3]` uint8.
        batch: clips that are computed together.
        min_delta_db: from half of the steps on the run is stopped where shuffled codes cost less than this;
            0 for never.
    """

    def __init__(
        self, objective: LamObjective, frames: Tensor, *, min_delta_db: float, batch: int = 64
    ) -> None:
        self.objective, self.frames, self.batch = objective, frames, batch
        self.min_delta_db = min_delta_db

    def figures(self, *, saving: bool) -> dict[str, float]:
        """See `Watch.figures`."""
        chosen = self.frames[: SAVE_CLIPS if saving else LOG_CLIPS]
        with _evaluating(self.objective):
            return action_health(self.objective, chosen, self.batch).as_figures()

    def line(self, figures: Mapping[str, float]) -> str:
        """See `Watch.line`."""
        return f"held out: {ActionHealth.from_figures(figures)}"

    def check(self, figures: Mapping[str, float], done: float) -> str | None:
        """See `Watch.check`."""
        health = ActionHealth.from_figures(figures)
        problem = None if health is None else health.problem()
        if health is None or done < EARLY:
            return None
        if self.min_delta_db > 0 and done >= HALF and health.delta_db < self.min_delta_db:
            raise StateError(
                f"stopped after {done:.0%} of the steps: shuffled codes cost {health.delta_db:.2f} dB, "
                f"expected at least --min-delta {self.min_delta_db:g}: the codes say nothing about what "
                "happens. Check that the clips move (genie-rt data video has --fps and --static-threshold), "
                "train longer, or use a larger --changed-weight; --min-delta 0 goes on all the same"
            )
        return None if problem is None else f"warning: {problem}"

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """One row a clip: the last two frames, then the next one as every code predicts it."""
        with _evaluating(self.objective):
            return {"codes": self.objective.pictures(self.frames[:6])}
