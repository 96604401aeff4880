"""The measurement itself: clips and a model in, figures out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.runtime.plan import Plan
from genie_rt.training.data.store import Actions, Frames
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.intervals import (
    Interval,
    bootstrap,
    mean_interval,
    ratio_interval,
)
from genie_rt.training.evaluation.metrics import (
    MAX_DB,
    Floats,
    Psnr,
    changed_pixels,
    decibels,
    mean_change,
    mean_gradient,
    psnr,
    ratio,
    squared_errors,
    ssim,
)
from genie_rt.training.evaluation.rollout import Rollouts

MOVING = 1.0
"""A frame moves if its mean absolute difference to the one before is above this, of 255.

CoinRun's frames divide there: where nothing scrolls the difference is mostly below 0.5, else above 2.
"""

DELTA_T = 4
"""The step at which the paper measures controllability (Bruce et al. 2024, section 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of an evaluation.

    Attributes:
        window: W of the dynamics.
        num_actions: A of the dynamics.
        plan: of the rollouts; next frames are predicted with its passes changed.
        passes: the K of the next-frame predictions.
        prompt_frames: real frames before a rollout.
        seed: of the sampling and of the random actions.
        batch: clips that are evaluated together.
    """

    window: int
    num_actions: int
    plan: Plan
    passes: tuple[int, ...] = (1, 2, 4, 16)
    prompt_frames: int
    seed: int = 0
    batch: int = 16

    def __post_init__(self) -> None:
        if self.prompt_frames < 1 or self.batch < 1 or not 0 <= self.seed < 2**31:
            raise InputError(
                "expected at least 1 prompt frame, a batch of at least 1, a seed from 0 to 2**31 - 1, found "
                f"{self.prompt_frames}, {self.batch} and {self.seed}"
            )

    @property
    def seen(self) -> tuple[int, int]:
        """Real frames before a next-frame prediction: the full window is history, once and twice over."""
        return self.window, 2 * self.window

    @property
    def rollout_steps(self) -> tuple[int, ...]:
        """Steps after the prompt at which rollouts are measured."""
        return tuple(
            sorted({DELTA_T, max(1, self.window - 1), self.window, 2 * self.window, 4 * self.window})
        )

    @property
    def num_steps(self) -> int:
        return self.rollout_steps[-1]

    @property
    def clip_length(self) -> int:
        """Frames that every clip needs."""
        return max(self.prompt_frames + self.num_steps, self.seen[-1] + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFigures:
    """Real frames, encoded and decoded; beside them the real frame before."""

    whole: Psnr
    whole_copy: Psnr
    changed: Psnr
    changed_copy: Psnr
    changed_share: float
    ssim: float
    ssim_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextFrame:
    """Figures of one next-frame predictor: all frames, and those that move. Baselines: `passes` is None."""

    name: str
    passes: int | None
    all: Psnr
    moving: Psnr


@dataclass(frozen=True, slots=True, kw_only=True)
class Controllability:
    """Delta_t PSNR: how much closer the true actions come to the truth than random ones."""

    t: int
    true_actions: Psnr
    random_actions: Psnr
    delta_pooled_db: float
    delta_pooled_db_interval: Interval | None
    delta_mean_db: float
    delta_mean_db_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """A rollout after `t` steps, beside the last real frame of the prompt.

    `sharpness` and `motion` are ratios generated / real, of the mean gradient and of the mean change since
    the step before: below 1 is blur and freezing, which PSNR rewards.
    """

    t: int
    model: Psnr
    copy: Psnr
    model_ssim: float
    model_ssim_interval: Interval | None
    copy_ssim: float
    copy_ssim_interval: Interval | None
    sharpness: float | None
    sharpness_interval: Interval | None
    motion: float | None
    motion_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures of one world."""

    num_clips: int
    max_db: float
    moving_threshold: float
    tokenizer: TokenizerFigures
    next_frame: tuple[NextFrame, ...]
    controllability: Controllability
    rollout: tuple[RolloutStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """Model outputs for the clips; entry `i` of each belongs to clip `i`.

    Attributes:
        restored: `[M, 2W + 1, ...]` uint8, real frames through the tokenizer: tokens that the definition
            finds, as the back end decodes them.
        shown: `[M, ...]`, the last prompt frame as the model sees it.
        next: by K, `[M, 2, ...]`, the predictions after each of `Settings.seen`.
        rollout: `[M, 4W, ...]` with the true actions. random: `[M, 4, ...]` with random ones.
    """

    restored: Frames
    shown: Frames
    next: dict[int, Frames]
    rollout: Frames
    random: Frames


def evaluate(
    rollouts: Rollouts,
    clips: TrueClips,
    settings: Settings,
    advance: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Measure a model on clips.

    Args:
        rollouts: the model.
        clips: at least `settings.clip_length` frames each; actions index the model's.
        settings: what to measure.
        advance: called with the number of clips done after each batch.

    Raises:
        InputError: the clips are too short.
        DeviceError: the model gave NaN or Inf.
    """
    return judge(generate(rollouts, clips, settings, advance), clips.frames, settings)


def judge(made: Generated, true: Frames, settings: Settings) -> Evaluation:
    """Compare what a model made of clips with the clips themselves, `[M, T, H, W, 3]` uint8."""
    return Evaluation(
        num_clips=len(true),
        max_db=MAX_DB,
        moving_threshold=MOVING,
        tokenizer=tokenizer_figures(made.restored, true[:, : made.restored.shape[1]]),
        next_frame=_next_frame(made, true, settings),
        controllability=_controllability(made, true, settings),
        rollout=tuple(_rollout_step(made, true, settings, t) for t in settings.rollout_steps),
    )


def generate(
    rollouts: Rollouts,
    clips: TrueClips,
    settings: Settings,
    advance: Callable[[int], None] = lambda count: None,
) -> Generated:
    """Run the model on all clips, batch by batch. Clip `i` has seed `(settings.seed << 32) + i`.

    Args, Raises: as of `evaluate`.
    """
    if clips.frames.shape[1] < settings.clip_length:
        raise InputError(
            f"expected clips of {settings.clip_length} frames or more, found {clips.frames.shape[1]}"
        )
    random = np.random.default_rng(settings.seed)
    drawn = random.integers(0, settings.num_actions, size=(len(clips.frames), DELTA_T))
    parts = []
    for begin in range(0, len(clips.frames), settings.batch):
        chosen = slice(begin, min(begin + settings.batch, len(clips.frames)))
        seeds = [(settings.seed << 32) + index for index in range(chosen.start, chosen.stop)]
        parts.append(
            _batch(rollouts, clips.frames[chosen], clips.actions[chosen], drawn[chosen], seeds, settings)
        )
        advance(len(seeds))
    return Generated(
        restored=np.concatenate([part.restored for part in parts]),
        shown=np.concatenate([part.shown for part in parts]),
        next={K: np.concatenate([part.next[K] for part in parts]) for K in settings.passes},
        rollout=np.concatenate([part.rollout for part in parts]),
        random=np.concatenate([part.random for part in parts]),
    )


def _batch(
    rollouts: Rollouts,
    frames: Frames,
    actions: Actions,
    drawn: Actions,
    seeds: Sequence[int],
    settings: Settings,
) -> Generated:
    start, seen = settings.prompt_frames, settings.seen
    length = seen[-1] + 1
    prompted = rollouts.prompt(frames[:, :length], actions[:, :length], seen, seeds)
    predicted: dict[int, Frames] = {}
    for K in settings.passes:
        plan = settings.plan.replace(passes=K)
        following = [
            rollouts.play(prompted.rows[count], actions[:, count : count + 1], plan) for count in seen
        ]
        predicted[K] = np.concatenate(following, axis=1)
    rows, shown = rollouts.start(frames[:, :start], actions[:, :start], seeds)
    true_actions = actions[:, start : start + settings.num_steps]
    return Generated(
        restored=prompted.frames,
        shown=shown,
        next=predicted,
        rollout=rollouts.play(rows, true_actions, settings.plan),
        random=rollouts.play(rows, drawn, settings.plan),
    )


def _flat(frames: Frames) -> Frames:
    """`[M, T, H, W, 3]` to `[M * T, H, W, 3]`."""
    return frames.reshape(-1, *frames.shape[2:])


def _clip_of(frames: Frames) -> NDArray[np.int64]:
    """The clip that each frame of `_flat` is of: `[M * T]`."""
    return np.repeat(np.arange(len(frames)), frames.shape[1])


def tokenizer_figures(restored: Frames, real: Frames) -> TokenizerFigures:
    """Compare clips that went through a tokenizer with the real ones, `[M, T, H, W, 3]` uint8 each."""
    later, before = _flat(real[:, 1:]), _flat(real[:, :-1])
    clip = _clip_of(real[:, 1:])
    changed = changed_pixels(later, before)
    similarity = ssim(_flat(restored), _flat(real))
    return TokenizerFigures(
        whole=psnr(squared_errors(_flat(restored), _flat(real), clip=_clip_of(real))),
        whole_copy=psnr(squared_errors(before, later, clip=clip)),
        changed=psnr(squared_errors(_flat(restored[:, 1:]), later, changed, clip=clip)),
        changed_copy=psnr(squared_errors(before, later, changed, clip=clip)),
        changed_share=float(changed.mean()),
        ssim=float(similarity.mean()),
        ssim_interval=mean_interval(similarity.reshape(real.shape[:2]).mean(1)),
    )


def _next_frame(made: Generated, true: Frames, settings: Settings) -> tuple[NextFrame, ...]:
    seen = list(settings.seen)
    real, last = _flat(true[:, seen]), _flat(true[:, [count - 1 for count in seen]])
    clip = _clip_of(true[:, seen])
    moving = mean_change(real, last) > MOVING

    def row(name: str, passes: int | None, frames: Frames) -> NextFrame:
        errors = squared_errors(frames, real, clip=clip)
        return NextFrame(name=name, passes=passes, all=psnr(errors), moving=psnr(errors.of(moving)))

    rows = [row("copy of last frame", None, last)]
    rows += [row(f"K = {K}", K, _flat(made.next[K])) for K in settings.passes]
    return (*rows, row("true frame, tokenized", None, _flat(made.restored[:, seen])))


def _controllability(made: Generated, true: Frames, settings: Settings) -> Controllability:
    real = true[:, settings.prompt_frames + DELTA_T - 1]
    errors = squared_errors(made.rollout[:, DELTA_T - 1], real)
    random_errors = squared_errors(made.random[:, DELTA_T - 1], real)
    with_true, with_random = psnr(errors), psnr(random_errors)
    delta: Floats = errors.decibels - random_errors.decibels

    def pooled(weights: Floats) -> Floats:
        # frames are of one size, so the sums stand in the ratio of the means
        return decibels(weights @ errors.mean / len(real)) - decibels(
            weights @ random_errors.mean / len(real)
        )

    return Controllability(
        t=DELTA_T,
        true_actions=with_true,
        random_actions=with_random,
        delta_pooled_db=(with_true.pooled_db or 0.0) - (with_random.pooled_db or 0.0),
        delta_pooled_db_interval=bootstrap(len(real), pooled),
        delta_mean_db=float(delta.mean()),
        delta_mean_db_interval=mean_interval(delta),
    )


def _rollout_step(made: Generated, true: Frames, settings: Settings, t: int) -> RolloutStep:
    start = settings.prompt_frames
    real, real_before, last = true[:, start + t - 1], true[:, start + t - 2], true[:, start - 1]
    shown = made.rollout[:, t - 1]
    shown_before = made.rollout[:, t - 2] if t > 1 else made.shown
    similarity, copy_similarity = ssim(shown, real), ssim(last, real)
    gradients = mean_gradient(shown), mean_gradient(real)
    changes = mean_change(shown, shown_before), mean_change(real, real_before)
    return RolloutStep(
        t=t,
        model=psnr(squared_errors(shown, real)),
        copy=psnr(squared_errors(last, real)),
        model_ssim=float(similarity.mean()),
        model_ssim_interval=mean_interval(similarity),
        copy_ssim=float(copy_similarity.mean()),
        copy_ssim_interval=mean_interval(copy_similarity),
        sharpness=ratio(*gradients),
        sharpness_interval=ratio_interval(*gradients),
        motion=ratio(*changes),
        motion_interval=ratio_interval(*changes),
    )
