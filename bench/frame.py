"""How long a frame takes, from the action to the picture, beside the paper's recipe.

All that is compared is timed in one process, interleaved: a session that commits within its step, one that
commits in idle time, and the recipe of the paper, with the same weights, plan, dtype, device and threads, and
with full windows. Other numbers of passes and other plans are compared with each other afterwards.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genie_rt.bench.baseline import RecomputedRollout
from genie_rt.bench.frame_record import (
    IDLE_COMMIT,
    PLAN,
    RECOMPUTED,
    STEP,
    SWEEP,
    ColdStart,
    FrameBody,
    Memory,
)
from genie_rt.bench.quiet import Counters, disturbances
from genie_rt.bench.record import Record, Subject, peak_rss_bytes
from genie_rt.bench.series import Series
from genie_rt.bench.timer import Candidate, Times, measure, paired_ratio, synchronise
from genie_rt.errors import InputError, UnsupportedError
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.images import Picture
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World

SWEEP_ITERATIONS = 15
SWEEP_WARM_UP_S = 0.3
HELD_FRAMES = 8
"""How long each action is held, in frames, before the next one's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBench:
    """What to measure.

    Attributes:
        source: a bundle's name or folder.
        plan: a plan of the bundle, by name.
        passes: `K`, passes per frame, None for those of the plan; the rest is the plan's.
        iterations, duration_s: rounds that count go on until there are so many and they took so long.
        warm_up_s: how long rounds go on before them.
        sweep: other `K` to time briefly, each with the commit within the step.
        compare_plans: whether all plans of the bundle are timed beside each other too.
        baseline: whether the paper's recipe is timed too.
    """

    source: str
    plan: str = "default"
    passes: int | None = None
    iterations: int
    duration_s: float
    warm_up_s: float
    sweep: tuple[int, ...] = ()
    compare_plans: bool = False
    baseline: bool = True
    backend: str = "auto"
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.duration_s < 0 or self.warm_up_s < 0:
            raise InputError(
                "expected 1 or more iterations, and 0 or more seconds to measure and to warm up, "
                f"found {self.iterations}, {self.duration_s:g} and {self.warm_up_s:g}"
            )


def bench_frames(
    bench: FrameBench, *, import_ms: float, command: str, on_round: Callable[[], object] | None = None
) -> Record[FrameBody]:
    """Takes the measurement.

    Args:
        import_ms: what importing this module took, which only the caller can know.
        command: for the record.
        on_round: called between rounds, untimed.

    Raises:
        BundleError, UnsupportedError, InputError, ConfigError: as `World.load` and `World.session` do.
    """
    before = Counters.read()
    clock = [time.perf_counter_ns()]
    world = World.load(bench.source, backend=bench.backend, dtype=bench.dtype, device=bench.device)
    clock.append(time.perf_counter_ns())
    changes = {} if bench.passes is None else {"passes": bench.passes}
    plan = world.plan(bench.plan, **changes)
    sweep = {f"{SWEEP}{k}": world.plan(_with_passes(plan, k)) for k in bench.sweep}
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    clock.append(time.perf_counter_ns())
    session.step(0)
    clock.append(time.perf_counter_ns())
    load_ms, reset_ms, first_step_ms = ((b - a) / 1e6 for a, b in itertools.pairwise(clock))

    past = Past.fill(session)
    memory = _memory(reference_of(world))
    compared = [
        Player.of(STEP, session),
        Player.of(IDLE_COMMIT, past.session(plan), idle_commit=True),
    ]
    if bench.baseline:
        compared.append(past.recomputed(plan))
    times, series = _time(
        compared, bench.iterations, duration_s=bench.duration_s, warm_up_s=bench.warm_up_s, on_round=on_round
    )
    others = [sweep]
    if bench.compare_plans:
        others.append({f"{PLAN}{name}": other for name, other in world.bundle.plans.items()})
    for plans in others:
        players = [Player.of(name, past.session(other)) for name, other in plans.items()]
        if players:
            warm_up_s = min(bench.warm_up_s, SWEEP_WARM_UP_S)
            rounds = min(bench.iterations, SWEEP_ITERATIONS)
            series += _time(players, rounds, warm_up_s=warm_up_s, on_round=on_round)[1]

    body = FrameBody(
        subject=Subject.of(world),
        cold_start=ColdStart(
            import_ms=import_ms, load_ms=load_ms, reset_ms=reset_ms, first_step_ms=first_step_ms
        ),
        memory=memory,
        series=tuple(series),
        times_faster=paired_ratio(times[RECOMPUTED], times[STEP]) if bench.baseline else None,
    )
    warnings = disturbances(before, Counters.read(), times)
    return Record.take(body, command=command, device=bench.device, warnings=warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Something that makes frames and is timed at it.

    Attributes:
        stats: what each frame took, in order; a run appends to it.
    """

    candidate: Candidate
    plan: Plan
    stats: list[FrameStats]

    @classmethod
    def of(cls, name: str, session: Session, *, idle_commit: bool = False) -> Player:
        """A session that plays on; its commits are fused into the step, or made in idle time."""
        actions, stats = held_actions(session.world), list[FrameStats]()
        device = reference_of(session.world).device

        def run() -> None:
            session.step(next(actions))
            assert session.stats is not None  # a step sets it
            stats.append(session.stats)

        def commit() -> None:
            session.commit()
            synchronise(device)

        if idle_commit:
            commit()
        return cls(
            candidate=Candidate(name=name, run=run, after=commit if idle_commit else None),
            plan=session.plan,
            stats=stats,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A played session whose windows are full: where everything that is timed goes on from.

    Attributes:
        tokens: `[T, N]` int64, all its frames' tokens. actions: the one that led to each of them.
    """

    snapshot: Snapshot
    tokens: torch.Tensor
    actions: tuple[int, ...]

    @classmethod
    def fill(cls, session: Session) -> Past:
        """Plays on until the oldest frame has left every window."""
        config = session.world.bundle.config
        window = max(config.dynamics.transformer.window, config.tokenizer.decoder.window)
        rows = [session.row]
        for action in itertools.islice(held_actions(session.world), window):
            session.step(action)
            rows.append(session.row)
        return cls(
            snapshot=session.snapshot(),
            tokens=torch.stack([row.tokens for row in rows]),
            actions=tuple(row.action for row in rows),
        )

    def session(self, plan: Plan) -> Session:
        """A session that goes on from here; it shares the pages of all others that do."""
        session = self.snapshot.world.session(plan=plan)
        session.restore(self.snapshot)
        return session

    def recomputed(self, plan: Plan) -> Player:
        """The paper's recipe, going on from here."""
        row, world = self.snapshot.row, self.snapshot.world
        rollout = RecomputedRollout(
            reference_of(world), self.tokens, self.actions, row.frame_index, plan=plan, seed=row.seed
        )
        actions, stats = held_actions(world), list[FrameStats]()

        def run() -> None:
            rollout.step(next(actions))
            assert rollout.stats is not None  # a step sets it
            stats.append(rollout.stats)

        return Player(candidate=Candidate(name=RECOMPUTED, run=run), plan=plan, stats=stats)


def held_actions(world: World) -> Iterator[int]:
    """All actions in turn, each held for a while, for ever; the same for everything that is timed."""
    held = [[index] * HELD_FRAMES for index in range(len(world.action_names))]
    return itertools.cycle(itertools.chain.from_iterable(held))


def first_picture(world: World) -> Picture:
    """The bundle's first, or plain grey: what is on it changes no time."""
    if world.prompts:
        return world.prompt(0)
    tokenizer = world.bundle.config.tokenizer
    return np.full((tokenizer.height, tokenizer.width, 3), 127, np.uint8)


def reference_of(world: World) -> ReferenceBackend:
    """The world's back end, if it is the one that can be measured so far.

    Raises:
        UnsupportedError: it is another one.
    """
    if not isinstance(world.backend, ReferenceBackend):
        raise UnsupportedError("only the reference back end can be measured so far; say --backend reference")
    return world.backend


def _with_passes(plan: Plan, passes: int) -> Plan:
    """A plan with other passes, and without the reuse that so few would not allow."""
    fits = plan.reuse != "frames" or passes > 1
    return plan.replace(passes=passes, reuse=plan.reuse if fits else "none")


def _time(
    players: Sequence[Player],
    iterations: int,
    *,
    duration_s: float = 0.0,
    warm_up_s: float,
    on_round: Callable[[], object] | None,
) -> tuple[Mapping[str, Times], list[Series]]:
    """Times of some players, interleaved, by name and as series."""
    times = measure(
        [player.candidate for player in players],
        iterations=iterations, duration_s=duration_s, warm_up_s=warm_up_s, on_round=on_round,
    )  # fmt: skip
    series = []
    for player in players:
        taken = times[player.candidate.name]
        counted = player.stats[-len(taken.run_ns) :]
        series.append(Series.of(player.candidate.name, player.plan, taken, counted))
    return times, series


def _memory(backend: ReferenceBackend) -> Memory:
    pools = (backend.dynamics_pages, backend.encoder_pages, backend.decoder_pages)
    return Memory(
        peak_rss_bytes=peak_rss_bytes(),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in backend.model.parameters()),
        page_bytes=sum(pool.num_used * pool.page_bytes for pool in pools),
        pool_bytes=sum(pool.num_pages * pool.page_bytes for pool in pools),
    )
