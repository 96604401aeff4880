"""Quality of decoding plans: each runs the same clips with the same model and the same seed.

What a plan makes of the clips is an `Outcome`, numbers per clip that are worth keeping; what they come to
beside the truth is a `Quality`. The first takes hours, the second seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import REUSES, Plan
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.clip_distance import Descriptors, FrameFeatures, Reference, describe
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.definition import restored
from genie_rt.training.evaluation.likelihood import negative_log_likelihood
from genie_rt.training.evaluation.measure import DELTA_T, MOVING
from genie_rt.training.evaluation.metrics import (
    Floats,
    decibels,
    mean_change,
    mean_gradient,
    ratio,
    squared_errors,
)
from genie_rt.training.evaluation.rollout import ModelRollouts

PASSES = (1, 2, 4, 8, 16, 25)


def plan_grid(
    base: Plan,
    config: ModelConfig,
    *,
    orders: Sequence[str] = tuple(ORDERS),
    passes: Sequence[int] = PASSES,
    reuses: Sequence[str] = tuple(REUSES),
) -> list[Plan]:
    """All plans that make sense, in the order of their cost: few passes of all orders come first.

    There is reuse with the orders that it goes with, from two passes on: with one there is nothing to reuse.

    Args:
        base: its temperature, noise, threshold and fresh hold for all.

    Raises:
        ConfigError: a name is unknown, or the model has too few tokens for so many passes.
    """
    plans = []
    for K in sorted(set(passes)):
        for reuse in dict.fromkeys(reuses):
            for order in dict.fromkeys(orders):
                plan = base.replace(order=order, passes=K, reuse="none").check(config)
                if reuse == "none":
                    plans.append(plan)
                elif reuse not in REUSES:
                    raise ConfigError(f"reuse: expected some of {', '.join(REUSES)}, found {reuse!r}")
                elif K > 1 and order in REUSES[reuse]:
                    plans.append(plan.replace(reuse=reuse).check(config))
    return plans


def same_function(plan: Plan) -> Plan:
    """A plan that makes the same frames: with one pass every token is sampled in it, whatever the order."""
    return plan.replace(order="maskgit") if plan.passes == 1 else plan


def plan_name(plan: Plan) -> str:
    """Name a plan, such as "halton-k4" or "halton-k4-passes"."""
    return f"{plan.order}-k{plan.passes}" + ("" if plan.reuse == "none" else f"-{plan.reuse}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Measurement protocol, the same for every plan.

    Attributes:
        window: W of the dynamics.
        num_actions: A of the dynamics.
        prompt_frames: real frames before a rollout.
        seed: of the sampling and of the random actions.
    """

    window: int
    num_actions: int
    prompt_frames: int
    seed: int = 0

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of a rollout whose frames are compared with the truth."""
        return tuple(sorted({1, DELTA_T, max(1, self.window - 1), 2 * self.window, 4 * self.window}))

    @property
    def num_steps(self) -> int:
        return self.steps[-1]

    @property
    def seen(self) -> tuple[int, int]:
        """Real frames before a next frame that is judged alone: once and twice the window."""
        return self.window, 2 * self.window

    @property
    def rollout_end(self) -> int:
        """Real frames that prompt and rollout span."""
        return self.prompt_frames + self.num_steps

    @property
    def clip_length(self) -> int:
        """Frames that every clip needs."""
        return max(self.rollout_end, self.seen[-1] + 1)

    @property
    def descriptor_window(self) -> int:
        return max(2, self.window)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Clips, and the states that every plan starts from.

    Attributes:
        start, seen: rows after the prompt, and after `Protocol.seen` real frames, teacher-forced.
        tokens: `[B, T, N]` int64, of the real frames.
    """

    frames: Frames
    actions: NDArray[np.int64]
    drawn: NDArray[np.int64]
    start: list[Row]
    seen: tuple[list[Row], list[Row]]
    tokens: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """The clips' own figures, and what others are held against.

    Attributes:
        copied: `[M, S]`, squared errors of the last prompt frame at `Protocol.steps`.
        moving: `[M, 2]` bool, whether the frames after `Protocol.seen` move.
        gradient, change: `[M]`, of the last frame of the rollouts' span.
        descriptors: of the true continuations. tokenized, frozen: of these encoded and decoded by the
            definition, and of the last prompt frame repeated.
    """

    copied: Floats
    moving: NDArray[np.bool_]
    gradient: Floats
    change: Floats
    descriptors: Descriptors
    tokenized: Descriptors
    frozen: Descriptors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """Results of one plan on `M` clips.

    Attributes:
        squared: `[M, S]`, mean squared errors of the rollouts with the true actions at `Protocol.steps`.
        random: `[M]`, of those with random actions at step 4.
        gradient, change: `[M]`, of the rollouts' last frame; `change` since the one before.
        next_squared: `[M, 2]`, of the frames after `Protocol.seen` real ones.
        nll: `[M, 2]`, negative log-likelihood of these in nats per token, NaN under reuse.
        passes, tokens: `[M, 2]`, what these took; `tokens` under `reuse="frames"` the mean over the rollout,
            for a frame right after real ones has nothing to reuse yet.
        rollout_passes: `[M]`, the mean over the rollout's frames.
        descriptors: `[M, 4, 3F]` float32, of the rollouts.
    """

    squared: Floats
    random: Floats
    gradient: Floats
    change: Floats
    next_squared: Floats
    nll: Floats
    passes: Floats
    tokens: Floats
    rollout_passes: Floats
    descriptors: Descriptors


def prepare(
    rollouts: ModelRollouts,
    clips: TrueClips,
    protocol: Protocol,
    *,
    batch: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Batch]:
    """Show the clips to the model, once for all plans: rows are immutable, so all start from the same ones.

    Args:
        clips: at least `protocol.clip_length` frames each; actions index the model's.
        batch: clips that are evaluated together. What a clip becomes does not depend on it, but for rounding.
        advance: called with the number of clips done after each batch.

    Raises:
        InputError: the clips are too short.
    """
    if clips.frames.shape[1] < protocol.clip_length:
        raise InputError(
            f"expected clips of {protocol.clip_length} frames or more, found {clips.frames.shape[1]}"
        )
    num_clips, (first, second) = len(clips.frames), protocol.seen
    draw = np.random.default_rng(protocol.seed)
    drawn = draw.integers(0, protocol.num_actions, size=(num_clips, DELTA_T))
    length, start = second + 1, protocol.prompt_frames
    batches = []
    for begin in range(0, num_clips, batch):
        chosen = slice(begin, min(begin + batch, num_clips))
        seeds = [(protocol.seed << 32) + index for index in range(chosen.start, chosen.stop)]
        frames, actions = clips.frames[chosen], clips.actions[chosen]
        prompted = rollouts.prompt(frames[:, :length], actions[:, :length], protocol.seen, seeds)
        assert prompted.tokens is not None  # a model has them
        batches.append(
            Batch(
                frames=frames,
                actions=actions,
                drawn=drawn[chosen],
                start=rollouts.start(frames[:, :start], actions[:, :start], seeds)[0],
                seen=(prompted.rows[first], prompted.rows[second]),
                tokens=prompted.tokens,
            )
        )
        advance(len(seeds))
    return batches


def true_figures(
    model: WorldModel,
    clips: TrueClips,
    protocol: Protocol,
    features: FrameFeatures,
    *,
    batch: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Truth:
    """Describe the clips themselves, with arguments as in `prepare`; `model` is the reference model."""
    start, end, window = protocol.prompt_frames, protocol.rollout_end, protocol.descriptor_window
    true, last = clips.frames, clips.frames[:, start - 1]
    tokenized = []
    for begin in range(0, len(true), batch):
        chosen = slice(begin, begin + batch)
        tokenized.append(describe(restored(model, true[chosen, :end])[:, start:], features, window))
        advance(len(true[chosen]))
    steps = [start + t - 1 for t in protocol.steps]
    moving = [mean_change(true[:, count], true[:, count - 1]) > MOVING for count in protocol.seen]
    return Truth(
        copied=np.stack([squared_errors(last, true[:, t]).mean for t in steps], axis=1),
        moving=np.stack(moving, axis=1),
        gradient=mean_gradient(true[:, end - 1]),
        change=mean_change(true[:, end - 1], true[:, end - 2]),
        descriptors=describe(true[:, start:end], features, window),
        tokenized=np.concatenate(tokenized),
        frozen=np.repeat(
            describe(np.repeat(last[:, None], window, axis=1), features, window),
            protocol.num_steps // window,
            axis=1,
        ),
    )


def measure_plan(
    rollouts: ModelRollouts,
    batches: Sequence[Batch],
    plan: Plan,
    protocol: Protocol,
    features: FrameFeatures,
    advance: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Decode all clips with a plan.

    Args:
        batches: from `prepare`.
        advance: called with the number of clips done after each batch.

    Raises:
        DeviceError: the model gave NaN or Inf.
    """
    parts = []
    for batch in batches:
        parts.append(_measure_batch(rollouts, batch, plan, protocol, features))
        advance(len(batch.frames))
    fields = [field.name for field in dataclasses.fields(Outcome)]
    return Outcome(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})


def _measure_batch(
    rollouts: ModelRollouts, batch: Batch, plan: Plan, protocol: Protocol, features: FrameFeatures
) -> Outcome:
    start, end = protocol.prompt_frames, protocol.rollout_end
    true, num_clips = batch.frames, len(batch.frames)
    shown, taken, computed = [], [], []
    for frames, stats in rollouts.steps(batch.start, batch.actions[:, start:end], plan):
        shown.append(frames)
        taken.append([item.passes for item in stats])
        computed.append([item.tokens for item in stats])
    squared = [squared_errors(shown[t - 1], true[:, start + t - 1]).mean for t in protocol.steps]
    random = rollouts.play(batch.start, batch.drawn, plan)[:, -1]
    next_squared, nll, passes, tokens = (np.full((num_clips, 2), np.nan) for _ in range(4))
    for column, (count, rows) in enumerate(zip(protocol.seen, batch.seen, strict=True)):
        ((frames, stats),) = rollouts.steps(rows, batch.actions[:, count : count + 1], plan)
        next_squared[:, column] = squared_errors(frames, true[:, count]).mean
        passes[:, column] = [item.passes for item in stats]
        tokens[:, column] = [item.tokens for item in stats]
        if plan.reuse == "none":
            led_by = batch.actions[:, count].tolist()
            nats = negative_log_likelihood(
                rollouts.backend, rollouts.config, rows, led_by, batch.tokens[:, count], plan
            )
            nll[:, column] = nats.numpy()
    if plan.reuse == "frames":  # a frame right after a prompt has nothing to reuse yet
        tokens[:] = np.mean(computed[1:], axis=0, dtype=np.float64)[:, None]
    return Outcome(
        squared=np.stack(squared, axis=1),
        random=squared_errors(random, true[:, start + DELTA_T - 1]).mean,
        gradient=mean_gradient(shown[-1]),
        change=mean_change(shown[-1], shown[-2]),
        next_squared=next_squared,
        nll=nll,
        passes=passes,
        tokens=tokens,
        rollout_passes=np.mean(taken, axis=0, dtype=np.float64),
        descriptors=describe(np.stack(shown, axis=1), features, protocol.descriptor_window),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decibels:
    """PSNR against the truth at one step of the rollouts, pooled over pixels and the mean over clips."""

    t: int
    pooled: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The figures of one plan.

    Attributes:
        psnr: of the rollouts, by step.
        sharpness, motion: generated / real at the last step: mean gradient, and mean change since the step
            before; below 1 is blur and freezing. None where the real clips have none.
        delta: Delta_4 PSNR, how much closer true actions come than random ones; `t` is 4.
        delta_error: standard error of `delta.mean`.
        next_psnr, next_moving_psnr: PSNR pooled of the next frames after W and 2W real ones, and of those
            among them that move.
        nll: nats per token after W and after 2W real frames, at temperature 1; None under reuse.
        nll_error: standard error of their mean, over clips.
        distance, distance_noise: clip distance of the rollouts, and its spread over draws of clips.
        passes, passes_static, passes_moving: mean passes of a next frame, in all, where the true one is like
            the one before, and where it moves; None where no frame is of that kind.
        tokens: that were computed for a next frame, all passes together.
        rollout_passes: mean passes of a frame of the rollouts.
    """

    psnr: tuple[Decibels, ...]
    sharpness: float | None
    motion: float | None
    delta: Decibels
    delta_error: float
    next_psnr: float
    next_moving_psnr: float | None
    nll: tuple[float, float] | None
    nll_error: float | None
    distance: float
    distance_noise: float
    passes: float
    passes_static: float | None
    passes_moving: float | None
    tokens: float
    rollout_passes: float

    def psnr_at(self, t: int) -> float:
        """Pooled dB at step `t`."""
        return next(item.pooled for item in self.psnr if item.t == t)


def judge(outcome: Outcome, truth: Truth, reference: Reference, protocol: Protocol) -> Quality:
    """Compute the quality figures of an outcome."""
    at_4 = outcome.squared[:, protocol.steps.index(DELTA_T)]
    delta = decibels(at_4) - decibels(outcome.random)
    scored = bool(np.isfinite(outcome.nll).all())
    after = outcome.nll.mean(0)
    return Quality(
        psnr=tuple(_decibels(t, errors) for t, errors in zip(protocol.steps, outcome.squared.T, strict=True)),
        sharpness=ratio(outcome.gradient, truth.gradient),
        motion=ratio(outcome.change, truth.change),
        delta=Decibels(
            t=DELTA_T,
            pooled=float(decibels(at_4.mean()) - decibels(outcome.random.mean())),
            mean=float(delta.mean()),
        ),
        delta_error=_standard_error(delta),
        next_psnr=float(decibels(outcome.next_squared.mean())),
        next_moving_psnr=_mean_db(outcome.next_squared[truth.moving]),
        nll=(float(after[0]), float(after[1])) if scored else None,
        nll_error=_standard_error(outcome.nll.mean(1)) if scored else None,
        distance=reference.distance(outcome.descriptors),
        distance_noise=reference.noise(outcome.descriptors),
        passes=float(outcome.passes.mean()),
        passes_static=_mean(outcome.passes[~truth.moving]),
        passes_moving=_mean(outcome.passes[truth.moving]),
        tokens=float(outcome.tokens.mean()),
        rollout_passes=float(outcome.rollout_passes.mean()),
    )


def copying(truth: Truth, protocol: Protocol) -> tuple[Decibels, ...]:
    """PSNR of the last prompt frame, repeated: what a plan has to beat."""
    return tuple(_decibels(t, errors) for t, errors in zip(protocol.steps, truth.copied.T, strict=True))


def _decibels(t: int, squared: Floats) -> Decibels:
    return Decibels(t=t, pooled=float(decibels(squared.mean())), mean=float(decibels(squared).mean()))


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if values.size else None


def _mean_db(squared: Floats) -> float | None:
    return float(decibels(squared.mean())) if squared.size else None


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
