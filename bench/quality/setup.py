"""Shared setup of `bench quality`: clips, real clips to compare with, decoded plans, times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from typing import Protocol as TypingProtocol

import numpy as np
import torch
from rich.console import Console

from genie_rt.bench.quality.measure import (
    Protocol,
    Truth,
    measure_plan,
    plan_name,
    prepare,
    same_function,
    true_figures,
)
from genie_rt.bench.quality.options import QualityOptions
from genie_rt.bench.quality.work_folder import Work
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.evaluation.clip_distance import FrameFeatures, Reference, describe
from genie_rt.training.evaluation.clips import TrueClips, from_game, from_store
from genie_rt.training.evaluation.game_worlds import game_visuals
from genie_rt.training.evaluation.latent import with_latent_actions
from genie_rt.training.evaluation.rollout import ModelRollouts

OTHER_PASSES = 2
"""Approximate cost of a frame besides its passes, in passes. For the progress bar only."""

Times = dict[str, dict[str, float]]
"""Milliseconds, as `time_worlds` gives them."""


class QualityBench:
    """A command's clips and settings.

    Args:
        asked: the command, its settings checked.
    """

    def __init__(self, asked: QualityOptions) -> None:
        self.asked = asked
        self.console = Console(highlight=False, markup=False)
        if not self.console.is_terminal:
            self.console.width = 120  # a file has room for the table

    @property
    def folder(self) -> Path:
        """The work folder, of all keys."""
        return self.asked.out.with_suffix(".work")

    def protocol(self, config: ModelConfig) -> Protocol:
        """Return the measurement protocol for a model."""
        asked, window = self.asked, config.dynamics.transformer.window
        return Protocol(
            window=window,
            num_actions=config.dynamics.num_actions,
            prompt_frames=max(1, window // 2) if asked.prompt_frames is None else asked.prompt_frames,
            seed=asked.seed,
        )

    def changes(self) -> dict[str, float]:
        """Fields of all plans that are set."""
        values = {name: getattr(self.asked, name) for name in ("temperature", "noise", "threshold")}
        return {name: value for name, value in values.items() if value is not None}

    def clips(self, bundle: Bundle, model: WorldModel, protocol: Protocol) -> TrueClips:
        """Held-out clips with the world's actions.

        Args:
            model: the definition, where actions are latent.
        """
        asked, config, length = self.asked, bundle.config, protocol.clip_length
        if asked.data is not None:
            size = config.tokenizer.output_size
            clips = from_store(asked.data, num_clips=asked.clips, length=length, size=size, seed=asked.seed)
        else:
            visuals = asked.visuals or game_visuals(bundle)
            clips = from_game(num_clips=asked.clips, length=length, visuals=visuals, seed=asked.seed)
        if config.lam is None:
            return clips.renamed(bundle.action_names, bundle.action_codes)
        return with_latent_actions(clips, bundle, asked.lam, model, asked.batch)

    def reference(self, bundle: Bundle, protocol: Protocol, work: Work, features: FrameFeatures) -> Reference:
        """Other real clips: of a store's training split, or of other plays of the real game."""
        asked, num = self.asked, self.asked.reference_clips
        descriptors = work.reference(num)
        if descriptors is None:
            length, size = protocol.num_steps, bundle.config.tokenizer.output_size
            if asked.data is not None:
                clips = from_store(
                    asked.data, num_clips=num, length=length, size=size, seed=asked.seed, split="train"
                )
            else:
                visuals = asked.visuals or game_visuals(bundle)
                clips = from_game(num_clips=num, length=length, visuals=visuals, seed=asked.seed + 1)
            with bar("Describing real clips", num) as advance:
                parts = []
                for begin in range(0, num, asked.batch):
                    chunk = clips.frames[begin : begin + asked.batch]
                    parts.append(describe(chunk, features, protocol.descriptor_window))
                    advance(len(chunk))
            descriptors = np.concatenate(parts)
            work.keep_reference(num, descriptors)
        return Reference.fit(descriptors)

    def truth(
        self, model: WorldModel, clips: TrueClips, protocol: Protocol, work: Work, features: FrameFeatures
    ) -> Truth:
        """The clips' own figures; `model` is the definition."""
        truth = work.truth()
        if truth is None:
            with bar("Describing the truth", self.asked.clips) as advance:
                truth = true_figures(
                    model, clips, protocol, features, batch=self.asked.batch, advance=advance
                )
            work.keep_truth(truth)
        return truth

    def decode(
        self,
        rollouts: ModelRollouts,
        clips: TrueClips,
        protocol: Protocol,
        work: Work,
        features: FrameFeatures,
        plans: Sequence[Plan],
        on_plan: Callable[[], None] = lambda: None,
    ) -> None:
        """Decode the clips with every plan whose outcome is not known yet, and store the outcomes.

        Args:
            on_plan: called after each plan.
        """
        batch, num_clips = self.asked.batch, self.asked.clips
        distinct = dict.fromkeys(same_function(plan) for plan in plans)
        missing = [plan for plan in distinct if work.outcome(plan) is None]
        if not missing:
            return
        with bar("Showing the clips", num_clips) as advance:
            batches = prepare(rollouts, clips, protocol, batch=batch, advance=advance)
        cost = {plan: plan.passes + OTHER_PASSES for plan in missing}
        with bar("Decoding", num_clips * sum(cost.values())) as advance:
            for plan in missing:
                advance(0, plan_name(plan))
                step = partial(_weighted, advance, cost[plan])
                if work.outcome(plan) is None:  # another process may share the work
                    work.keep(plan, measure_plan(rollouts, batches, plan, protocol, features, step))
                else:
                    step(num_clips)
                on_plan()

    def times(self, work: Work, settings: dict[str, Any], take: Callable[..., Times]) -> Times:
        """Times that were taken under these settings; taken now where there are none and they are wanted.

        Args:
            take: takes them; called with `iterations` and `on_round`, as `time_worlds` has them.
        """
        asked = self.asked
        settings |= {"threads": torch.get_num_threads(), "iterations": asked.iterations}
        known = None if asked.times == "again" else work.times(settings)
        if known is not None or asked.times == "none":
            return known or {}
        with bar("Timing", 0) as advance:
            taken = take(iterations=asked.iterations, on_round=lambda: advance(1))
        work.keep_times(settings, taken)
        return taken


def _weighted(advance: Callable[[int], None], weight: int, count: int) -> None:
    advance(weight * count)


class _Advance(TypingProtocol):
    def __call__(self, count: int, detail: str | None = None, /) -> None: ...


@contextmanager
def bar(description: str, total: int) -> Iterator[_Advance]:
    """A progress bar with an estimate; total 0 for an unknown one."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=total or None)

        def advance(count: int, detail: str | None = None, /) -> None:
            text = None if detail is None else f"{description} {detail}"
            progress.update(task, advance=count, description=text)

        yield advance
