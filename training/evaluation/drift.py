"""Whether a world lasts: long rollouts of random actions, looked at now and then.

There is no truth to compare with after hundreds of random steps, so what is shown is compared with real clips
as a set: how real it looks (clip distance), how sharp it is, how varied its pixels are, how much it moves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rich.table import Table

from genie_rt.errors import InputError
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.plan import Plan
from genie_rt.training.data.store import Actions, Frames
from genie_rt.training.evaluation.clip_distance import (
    COMPONENTS,
    WINDOWS_PER_COMPONENT,
    Descriptors,
    FrameFeatures,
    Reference,
    describe,
)
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.intervals import Floats, Interval, mean_interval
from genie_rt.training.evaluation.metrics import mean_change, mean_gradient
from genie_rt.training.evaluation.scripts import sticky
from genie_rt.training.evaluation.tables import make_table, plus_minus

LOOKS = (32, 256, 1000)
"""Steps that are looked at, beside the last."""

MAX_SPAN = 32
"""A look takes in the last so many frames, or as many as the real clips have."""

WITHIN = 2.0
"""A figure holds if it is within this factor of the first look's."""

MAX_FLOOR_SETS = 4


class LongRollouts(Protocol):
    """What a drift needs of a model; `ModelRollouts` has it."""

    def start(self, frames: Frames, actions: Actions, seeds: Sequence[int]) -> tuple[list[Row], Frames]:
        """See `Rollouts.start`."""
        ...

    def steps(self, rows: Sequence[Row], actions: Actions, plan: Plan) -> Iterator[tuple[Frames, Any]]:
        """The frames `[B, H, W, 3]` uint8 of one step after the other, each with anything beside it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """Settings of a drift.

    Attributes:
        steps: S of each rollout.
        sessions: B rollouts, in one batch.
        prompt_frames: real frames that each begins with.
        window: W of the dynamics; a window of the clip distance has as many frames, or 2.
        num_actions: A of the world.
        seed: of the sampling and of the actions.

    Raises:
        InputError: fewer steps than a window, or no session.
    """

    steps: int = 2000
    sessions: int = 8
    prompt_frames: int
    window: int
    num_actions: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < self.clip_window or self.sessions < 1:
            raise InputError(
                f"expected --drift-steps of at least {self.clip_window} and --drift-sessions of at least 1, "
                f"found {self.steps} and {self.sessions}"
            )

    @property
    def clip_window(self) -> int:
        """Frames of a window of the clip distance."""
        return max(2, self.window)

    @property
    def looks(self) -> tuple[int, ...]:
        """Steps that are looked at."""
        return (*(t for t in LOOKS if t < self.steps), self.steps)

    def span(self, real_frames: int) -> int:
        """Frames of a look, whole windows, where real clips have so many after the prompt."""
        return min(MAX_SPAN, real_frames, self.looks[0]) // self.clip_window * self.clip_window

    def floor_sets(self, num_clips: int) -> int:
        """Sets of real clips, as many as sessions each, that the floor is measured on."""
        return max(1, min(MAX_FLOOR_SETS, (num_clips - self.sessions) // (4 * self.sessions)))

    def check(self, num_clips: int, clip_frames: int) -> None:
        """Raise `InputError` where there are too few real clips, or too short ones."""
        span = self.span(clip_frames - self.prompt_frames)
        if not span:
            raise InputError(
                f"--drift: expected clips of {self.prompt_frames + self.clip_window} frames or more, found "
                f"{clip_frames}"
            )
        windows = span // self.clip_window
        reference = -(-2 * WINDOWS_PER_COMPONENT // windows)
        needed = (1 + self.floor_sets(num_clips)) * self.sessions + reference
        if num_clips < needed:
            raise InputError(
                f"--drift: expected at least {needed} real clips for {self.sessions} sessions, found "
                f"{num_clips}; raise --clips or lower --drift-sessions"
            )
        if self.sessions * windows < 2:
            raise InputError("--drift-sessions: expected at least 2 for looks of one window, found 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStep:
    """The last frames up to step `t`, of all sessions.

    Attributes:
        clip_distance, clip_distance_noise: from real clips, and its standard deviation when sessions are
            drawn anew; None of one session.
        sharpness, motion: generated / real, of the mean gradient and of the mean change from frame to frame;
            with 95% intervals over sessions.
        spread: standard deviation of a frame's pixels, of 255. A world that has collapsed shows one colour.
        distance_ratio, sharpness_ratio, spread_ratio, motion_ratio: to the first look; None where that is 0.
        holds: whether clip distance and sharpness are within a factor of `WITHIN` of the first look's, where
            a smaller distance is no fault.
    """

    t: int
    clip_distance: float
    clip_distance_noise: float | None
    distance_ratio: float | None
    sharpness: float
    sharpness_interval: Interval | None
    sharpness_ratio: float | None
    spread: float
    spread_interval: Interval | None
    spread_ratio: float | None
    motion: float
    motion_interval: Interval | None
    motion_ratio: float | None
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All looks, beside real clips.

    Attributes:
        num_steps, num_sessions: S and B.
        num_frames: of a look.
        floor: mean clip distance of sets of as many real clips.
        floor_spread: standard deviation of these, where there are several.
        real_spread: of the real clips' pixels.
        steps: the looks.
    """

    num_steps: int
    num_sessions: int
    num_frames: int
    floor: float
    floor_spread: float | None
    real_spread: float
    steps: tuple[DriftStep, ...]


def measure_drift(
    rollouts: LongRollouts,
    clips: TrueClips,
    plan: Plan,
    settings: DriftSettings,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Drift, Frames]:
    """Play all sessions in one batch and look at them.

    Sessions begin with the first clips; the floor is of the next ones, the reference of the rest.

    Args:
        rollouts: the model.
        clips: real ones; their actions index the model's.
        plan: to decode with.
        settings: what to play.
        advance: called with 1 after each step.

    Returns:
        The figures, and the first session's frames at its start and at each look: `[1 + looks, H, W, 3]`.

    Raises:
        InputError: there are too few real clips, or they do not differ.
        UnsupportedError: packages of the clip distance are missing.
        DeviceError: the model gave NaN or Inf.
    """
    num, start = settings.sessions, settings.prompt_frames
    settings.check(*clips.frames.shape[:2])
    span = settings.span(clips.frames.shape[1] - start)
    real = clips.frames[num:, start : start + span]
    ruler = _Ruler(real, settings)
    looks, first = _play(rollouts, clips, plan, settings, span, advance)
    steps: list[DriftStep] = []
    for t, frames in looks.items():
        steps.append(ruler.look(t, frames, steps[0] if steps else None))
    drift = Drift(
        num_steps=settings.steps,
        num_sessions=num,
        num_frames=span,
        floor=ruler.floor,
        floor_spread=ruler.floor_spread,
        real_spread=ruler.spread,
        steps=tuple(steps),
    )
    return drift, np.stack([first, *(frames[0, -1] for frames in looks.values())])


def _play(
    rollouts: LongRollouts,
    clips: TrueClips,
    plan: Plan,
    settings: DriftSettings,
    span: int,
    advance: Callable[[int], None],
) -> tuple[dict[int, Frames], Frames]:
    """The last `span` frames up to each look, `[B, span, ...]` by t, and the first session's start."""
    num, start = settings.sessions, settings.prompt_frames
    random = np.random.default_rng(settings.seed)
    script = sticky(np.arange(settings.num_actions), num, settings.steps, random)
    seeds = [(settings.seed << 32) + index for index in range(num)]
    rows, shown = rollouts.start(clips.frames[:num, :start], clips.actions[:num, :start], seeds)
    looks = {t: np.empty((num, span, *shown.shape[1:]), dtype=np.uint8) for t in settings.looks}
    for step, (frames, _) in enumerate(rollouts.steps(rows, script, plan), 1):
        for t, kept in looks.items():
            if t - span < step <= t:
                kept[:, step - t - 1] = frames
        advance(1)
    return looks, shown[0]


class _Ruler:
    """Real clips `[M, span, ...]` that looks are measured against."""

    def __init__(self, real: Frames, settings: DriftSettings) -> None:
        num, self._window = settings.sessions, settings.clip_window
        self._features = FrameFeatures(*real.shape[2:4])
        described = self._describe(real)
        floor = num * settings.floor_sets(num + len(real))
        # no more dimensions than the few windows of a look can fill
        dimensions = max(2, min(COMPONENTS, num * described.shape[1] // 2))
        self._reference = Reference.fit(described[floor:], dimensions)
        distances = np.array(
            [self._reference.distance(described[begin : begin + num]) for begin in range(0, floor, num)]
        )
        self.floor = float(distances.mean())
        self.floor_spread = float(distances.std(ddof=1)) if len(distances) > 1 else None
        self._gradient, self._change, spread = (float(each.mean()) for each in _looks_of(real))
        self.spread = spread

    def look(self, t: int, frames: Frames, first: DriftStep | None) -> DriftStep:
        """Measure frames `[B, span, ...]` up to step t, in proportion to the first look."""
        gradient, change, spread = _looks_of(frames)
        sharpness, motion = gradient / max(self._gradient, 1e-9), change / max(self._change, 1e-9)
        described = self._describe(frames)
        distance = self._reference.distance(described)
        found = {
            "clip_distance": distance,
            "sharpness": float(sharpness.mean()),
            "spread": float(spread.mean()),
            "motion": float(motion.mean()),
        }
        ratios = {
            name: 1.0 if first is None else _ratio(value, getattr(first, name))
            for name, value in found.items()
        }
        sharp, apart = ratios["sharpness"], ratios["clip_distance"]
        return DriftStep(
            t=t,
            **found,
            clip_distance_noise=self._reference.noise(described) if len(frames) > 1 else None,
            distance_ratio=apart,
            sharpness_interval=mean_interval(sharpness),
            sharpness_ratio=sharp,
            spread_interval=mean_interval(spread),
            spread_ratio=ratios["spread"],
            motion_interval=mean_interval(motion),
            motion_ratio=ratios["motion"],
            holds=apart is not None
            and apart <= WITHIN
            and sharp is not None
            and 1 / WITHIN <= sharp <= WITHIN,
        )

    def _describe(self, frames: Frames) -> Descriptors:
        return describe(frames, self._features, self._window)


def _looks_of(frames: Frames) -> tuple[Floats, Floats, Floats]:
    """Mean gradient, mean change from frame to frame and spread of pixels of clips: `[M]` each."""
    gradient = np.array([mean_gradient(clip).mean() for clip in frames])
    change = np.array([mean_change(clip[1:], clip[:-1]).mean() for clip in frames])
    spread = np.array([np.mean([frame.std() for frame in clip]) for clip in frames])
    return gradient, change, spread


def _ratio(value: float, first: float) -> float | None:
    return value / first if first > 0 else None


def drift_table(drift: Drift) -> Table:
    """Make the table of the report."""
    first = drift.steps[0].t
    table = make_table(
        f"Drift: {drift.num_sessions} sessions of {drift.num_steps:,} random steps",
        ("t", "clip distance", "sharpness", "spread", "motion", f"within {WITHIN:g}x"),
        f"Over the last {drift.num_frames} frames up to t, in brackets the ratio to t = {first}. Clip "
        "distance: ± its standard deviation when sessions are drawn anew; as many real clips have "
        f"{_floor(drift)}, the floor. Sharpness and motion are generated / real. Spread: standard deviation "
        "of the pixels, of 255; "
        f"real clips have {drift.real_spread:.0f}. Within {WITHIN:g}x of t = {first}: clip distance and "
        "sharpness.",
    )
    for step in drift.steps:
        noise = "" if step.clip_distance_noise is None else f" ±{step.clip_distance_noise:.1f}"
        table.add_row(
            str(step.t),
            f"{step.clip_distance:.1f}{noise}{_times(step.distance_ratio)}",
            plus_minus(step.sharpness, step.sharpness_interval, 2) + _times(step.sharpness_ratio),
            f"{step.spread:.0f}",
            plus_minus(step.motion, step.motion_interval, 2),
            "yes" if step.holds else "no",
        )
    return table


def _floor(drift: Drift) -> str:
    spread = "" if drift.floor_spread is None else f" ±{drift.floor_spread:.1f}"
    return f"{drift.floor:.1f}{spread}"


def _times(ratio: float | None) -> str:
    return " (-)" if ratio is None else f" ({ratio:.1f})"
