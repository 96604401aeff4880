"""How long a frame takes, from the action to the picture, beside the paper's recipe and beside torch.compile.

All that is compared is timed in one process, interleaved: a session that commits within its step, one that
commits in idle time, the recipe of the paper, and the same model under `torch.compile`, with the same
weights, plan, device and threads, and with full windows. Other numbers of passes and other plans are compared
with each other afterwards.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch

from genie_rt.bench.baseline import RecomputedRollout
from genie_rt.bench.compiled import COMPILER, WARM_UP_FRAMES, CompiledRollout, check_plan
from genie_rt.bench.frame_record import (
    COMPILED,
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
from genie_rt.errors import DeviceError, InputError, UnsupportedError
from genie_rt.runtime.backends.choose import BACKENDS
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.images import Picture
from genie_rt.runtime.model.world_model import WorldModel
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
        source: a bundle's name or folder; None where `preset` is given.
        preset: a preset whose sizes a world of random weights is made of, in place of a bundle.
        plan: a plan of the bundle, by name.
        passes: `K`, passes per frame, None for those of the plan; the rest is the plan's.
        iterations, duration_s: rounds that count go on until there are so many and they took so long.
        warm_up_s: how long rounds go on before them.
        sweep: other `K` to time briefly, each with the commit within the step.
        compare_plans: whether all plans of the bundle are timed beside each other too.
        baseline: whether the paper's recipe is timed too.
        compiled: whether the model under `torch.compile` is; None: on a GPU, where it can decode the plan.
        backend, dtype, device: as `World.load` takes them.
    """

    source: str | None = None
    preset: str | None = None
    plan: str = "default"
    passes: int | None = None
    iterations: int
    duration_s: float
    warm_up_s: float
    sweep: tuple[int, ...] = ()
    compare_plans: bool = False
    baseline: bool = True
    compiled: bool | None = None
    backend: str = "auto"
    dtype: str = "float32"
    device: str | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.preset is None):
            raise InputError(
                f"expected a bundle or a preset, found source={self.source!r} and preset={self.preset!r}"
            )
        if self.iterations < 1 or self.duration_s < 0 or self.warm_up_s < 0:
            raise InputError(
                "expected 1 or more iterations, and 0 or more seconds to measure and to warm up, "
                f"found {self.iterations}, {self.duration_s:g} and {self.warm_up_s:g}"
            )

    def load(self, **changes: str) -> World:
        """The world to measure, or with changes of `backend`, `dtype` or `device` one of the same weights."""
        how: dict[str, str | None] = {"backend": self.backend, "dtype": self.dtype, "device": self.device}
        if self.preset is not None:
            return World.random(self.preset, **(how | changes))  # type: ignore[arg-type]
        assert self.source is not None  # one of the two is given
        return World.load(self.source, **(how | changes))  # type: ignore[arg-type]


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
    world = bench.load()
    clock.append(time.perf_counter_ns())
    changes = {} if bench.passes is None else {"passes": bench.passes}
    plan = world.plan(bench.plan, **changes)
    if bench.compiled:
        check_plan(plan)
    sweep = {f"{SWEEP}{k}": world.plan(_with_passes(plan, k)) for k in bench.sweep}
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    clock.append(time.perf_counter_ns())
    first = session.row
    session.step(0)
    clock.append(time.perf_counter_ns())
    load_ms, reset_ms, first_step_ms = ((b - a) / 1e6 for a, b in itertools.pairwise(clock))

    past = Past.fill(session, before=[first])
    memory = _memory(measured(world))
    baselines, notes = _baselines(bench, past, plan)
    compared = [
        Player.of(STEP, session),
        Player.of(IDLE_COMMIT, past.session(plan), idle_commit=True),
        *baselines,
    ]
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
        subject=Subject.of(world, backend=_backend_name(world)),
        cold_start=ColdStart(
            import_ms=import_ms, load_ms=load_ms, reset_ms=reset_ms, first_step_ms=first_step_ms
        ),
        memory=memory,
        series=tuple(series),
        times_faster=_times_faster(times, RECOMPUTED),
        times_faster_than_compiled=_times_faster(times, COMPILED),
    )
    warnings = notes + disturbances(before, Counters.read(), times)
    return Record.take(body, command=command, device=str(measured(world).device), warnings=warnings)


class Measured(Protocol):
    """What a back end tells about itself, besides `Backend`, so that it can be measured."""

    @property
    def device(self) -> torch.device: ...

    @property
    def weight_bytes(self) -> int:
        """Of the weights as they are kept."""
        ...

    @property
    def page_bytes(self) -> int:
        """Of the pages that somebody holds."""
        ...

    @property
    def pool_bytes(self) -> int:
        """Of all pages that memory is held for."""
        ...


def measured(world: World) -> Measured:
    """The world's back end, if it tells what a measurement needs.

    Raises:
        UnsupportedError: it does not.
    """
    needed = ("device", "weight_bytes", "page_bytes", "pool_bytes")
    missing = [name for name in needed if not hasattr(world.backend, name)]
    if missing:
        raise UnsupportedError(
            f"the back end {_backend_name(world)!r} cannot be measured: it does not tell its "
            f"{', '.join(missing)}; take another one with --backend"
        )
    return cast(Measured, world.backend)


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
        device = measured(session.world).device

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
        tokens: `[T, N]` int64, its frames' tokens. actions: the one that led to each of them. Of all frames
            since the reset if `fill` knew them all.
    """

    snapshot: Snapshot
    tokens: torch.Tensor
    actions: tuple[int, ...]

    @classmethod
    def fill(cls, session: Session, *, before: Sequence[Row] = ()) -> Past:
        """Plays on until the oldest frame has left every window.

        Args:
            before: the rows of the frames before the session's last one, in order.
        """
        config = session.world.bundle.config
        window = max(config.dynamics.transformer.window, config.tokenizer.decoder.window)
        rows = [*before, session.row]
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

    def recomputed(self, plan: Plan, model: WorldModel) -> Player:
        """The paper's recipe, going on from here."""
        return self._baseline(RECOMPUTED, RecomputedRollout, plan, model)

    def compiled(self, plan: Plan, model: WorldModel) -> Player:
        """The same model under `torch.compile`, going on from here. Its first frames compile it."""
        return self._baseline(COMPILED, partial(CompiledRollout, compiler=COMPILER), plan, model)

    def _baseline(
        self,
        name: str,
        kind: Callable[..., RecomputedRollout | CompiledRollout],
        plan: Plan,
        model: WorldModel,
    ) -> Player:
        row = self.snapshot.row
        rollout = kind(model, self.tokens, self.actions, row.frame_index, plan=plan, seed=row.seed)
        actions, stats = held_actions(self.snapshot.world), list[FrameStats]()

        def run() -> None:
            rollout.step(next(actions))
            assert rollout.stats is not None  # a step sets it
            stats.append(rollout.stats)

        return Player(candidate=Candidate(name=name, run=run), plan=plan, stats=stats)


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


def _baselines(bench: FrameBench, past: Past, plan: Plan) -> tuple[list[Player], list[str]]:
    """The baselines that were asked for, warmed up, and a line for each that cannot run here."""
    world, notes = past.snapshot.world, list[str]()
    wanted: list[tuple[str, Callable[[Plan, WorldModel], Player], int]] = []
    if bench.baseline:
        wanted.append(("the paper's recipe", past.recomputed, 1))
    compiled = measured(world).device.type == "cuda" if bench.compiled is None else bench.compiled
    if compiled and plan.order != "maskgit":
        notes.append(f'torch.compile was left out: it decodes plans of order "maskgit", not {plan.order!r}')
    elif compiled:
        wanted.append(("torch.compile", past.compiled, WARM_UP_FRAMES))
    found: list[Player] = []
    model: WorldModel | None = None
    for name, make, warm_up in wanted:
        try:
            if model is None:
                model, told = _torch_model(bench, world)
                notes += told
            player = make(plan, model)
            for _ in range(warm_up):
                player.candidate.run()
            found.append(player)
        except (DeviceError, UnsupportedError, torch.OutOfMemoryError) as error:
            notes.append(f"{name} was left out: {str(error).splitlines()[0]}")
    return found, notes


def _torch_model(bench: FrameBench, world: World) -> tuple[WorldModel, list[str]]:
    """The world's weights as a plain torch model, and what has to be said about it.

    Where the back end keeps them in another form, they are loaded, or drawn, once more.
    """
    model = getattr(world.backend, "model", None)
    if isinstance(model, WorldModel):
        return model, []
    dtype = bench.dtype if bench.dtype in BACKENDS["reference"] else "bfloat16"
    other = bench.load(backend="reference", dtype=dtype, device=str(measured(world).device))
    notes = [] if dtype == bench.dtype else [f"the baselines compute in {dtype}, not in {bench.dtype}"]
    return cast(WorldModel, other.backend.model), notes  # type: ignore[attr-defined]


def _backend_name(world: World) -> str:
    """As `World.load` knows it: "reference" for a `ReferenceBackend`."""
    return type(world.backend).__name__.removesuffix("Backend").lower()


def _times_faster(times: Mapping[str, Times], baseline: str) -> float | None:
    return paired_ratio(times[baseline], times[STEP]) if baseline in times else None


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


def _memory(backend: Measured) -> Memory:
    return Memory(
        peak_rss_bytes=peak_rss_bytes(),
        weight_bytes=backend.weight_bytes,
        page_bytes=backend.page_bytes,
        pool_bytes=backend.pool_bytes,
    )
