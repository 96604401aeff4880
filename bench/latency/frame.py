"""Frame latency from action to picture, next to the paper's recipe and torch.compile.

All that is compared is timed in one process, interleaved: a session that commits within its step, one that
commits in idle time, the recipe of the paper, and the same model under `torch.compile`, with the same
weights, plan, device and threads, and with full windows. Other numbers of passes and other plans are compared
with each other afterwards.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from genie_rt.bench.latency.compiled import WARM_UP_FRAMES, check_plan
from genie_rt.bench.latency.frame_record import (
    COMPILED,
    IDLE_COMMIT,
    PLAN,
    RECOMPUTED,
    STEP,
    SWEEP,
    VERSUS,
    ColdStart,
    FrameBody,
    Memory,
    described,
)
from genie_rt.bench.latency.workloads import Past, Workload, first_picture, remarks
from genie_rt.bench.noise_check import Counters, disturbances
from genie_rt.bench.record import Record, Subject, peak_rss_bytes
from genie_rt.bench.series import Series
from genie_rt.bench.timer import SETTLE_S, Times, measure, paired_ratio
from genie_rt.errors import DeviceError, InputError, UnsupportedError
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.runtime.world import World

SWEEP_ITERATIONS = 15
SWEEP_WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBench:
    """Settings of a latency measurement.

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
        versus: other back ends with the same weights and plan, as "BACKEND:DTYPE", or "BACKEND" in the dtype
            of what is measured; None: `reference`, where that is another.
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
    versus: tuple[str, ...] | None = None
    backend: str = "auto"
    dtype: str = "auto"
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
        for other in self.versus or ():
            backend, _, dtype = other.partition(":")
            if backend not in BACKENDS or dtype not in ("", *BACKENDS[backend].dtypes):
                known = ", ".join(f"{name}:{each}" for name in BACKENDS for each in BACKENDS[name].dtypes)
                raise InputError(f"--versus: expected some of {known}, found {other!r}")

    def load(self, **changes: str) -> World:
        """Load the world to measure, or the same weights on another `backend`, `dtype` or `device`."""
        how: dict[str, Any] = {"backend": self.backend, "dtype": self.dtype, "device": self.device}
        if self.preset is not None:
            return World.random(self.preset, **(how | changes))
        assert self.source is not None  # one of the two is given
        return World.load(self.source, **(how | changes))


def bench_frames(
    bench: FrameBench, *, import_ms: float, command: str, on_round: Callable[[], object] | None = None
) -> Record[FrameBody]:
    """Measure the latency of a frame.

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
    world.warm_up(plan)
    clock.append(time.perf_counter_ns())
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    clock.append(time.perf_counter_ns())
    first = session.row
    session.step(0)
    clock.append(time.perf_counter_ns())
    load_ms, warm_up_ms, reset_ms, first_step_ms = ((b - a) / 1e6 for a, b in itertools.pairwise(clock))

    past = Past.fill(session, before=[first])
    memory = _memory(world.backend)
    worlds = _Worlds(bench, world)
    versus, notes = _versus(worlds, plan)
    baselines, told = _baselines(worlds, past, plan)
    notes += told
    compared = [
        Workload.of(STEP, session),
        Workload.of(IDLE_COMMIT, past.session(plan), idle_commit=True),
        *versus,
        *baselines,
    ]
    times, series, told = _time(
        compared, bench.iterations, duration_s=bench.duration_s, warm_up_s=bench.warm_up_s, on_round=on_round
    )
    notes += told
    others = [sweep]
    if bench.compare_plans:
        others.append({f"{PLAN}{name}": other for name, other in world.bundle.plans.items()})
    for plans in others:
        for other in plans.values():
            world.warm_up(other)
        players = [Workload.of(name, past.session(other)) for name, other in plans.items()]
        if players:
            warm_up_s = min(bench.warm_up_s, SWEEP_WARM_UP_S)
            rounds = min(bench.iterations, SWEEP_ITERATIONS)
            _, more, told = _time(players, rounds, warm_up_s=warm_up_s, on_round=on_round)
            series += more
            notes += told

    body = FrameBody(
        subject=Subject.of(world, backend=world.backend.name),
        cold_start=ColdStart(
            import_ms=import_ms,
            load_ms=load_ms,
            warm_up_ms=warm_up_ms,
            reset_ms=reset_ms,
            first_step_ms=first_step_ms,
        ),
        memory=memory,
        series=tuple(series),
        times_faster=_times_faster(times, RECOMPUTED),
        times_faster_than_compiled=_times_faster(times, COMPILED),
        times_faster_than={
            name.removeprefix(VERSUS): paired_ratio(taken, times[STEP])
            for name, taken in times.items()
            if name.startswith(VERSUS)
        },
    )
    named = {described(name): own for name, own in times.items()}
    warnings = remarks(world) + notes + disturbances(before, Counters.read(), named)
    return Record.take(body, command=command, device=str(world.backend.device), warnings=warnings)


@dataclass(frozen=True, slots=True, kw_only=False, eq=False)
class _Worlds:
    """World that is measured, and others with the same weights, each loaded once."""

    bench: FrameBench
    world: World
    others: dict[tuple[str, str], World] = field(default_factory=dict)

    @property
    def dtype_in_torch(self) -> str:
        """World's dtype if `reference` computes in it, else the usual one on its device."""
        if self.world.dtype in BACKENDS["reference"].dtypes:
            return self.world.dtype
        return "bfloat16" if self.world.backend.device.type == "cuda" else "float32"

    def asked(self) -> list[tuple[str, str]]:
        """List the back ends and dtypes to compare with."""
        own = self.world.dtype
        if self.bench.versus is None:
            is_reference = self.world.backend.name == "reference"
            return [] if is_reference else [("reference", self.dtype_in_torch)]
        pairs = (other.partition(":")[::2] for other in self.bench.versus)
        return [
            (name, dtype or (own if own in BACKENDS[name].dtypes else self.dtype_in_torch))
            for name, dtype in pairs
        ]

    def other(self, backend: str, dtype: str) -> World:
        """Load the world with another back end, on the same device."""
        if (backend, dtype) == (self.world.backend.name, self.world.dtype):
            return self.world
        if (backend, dtype) not in self.others:
            device = str(self.world.backend.device)
            self.others[backend, dtype] = self.bench.load(backend=backend, dtype=dtype, device=device)
        return self.others[backend, dtype]

    def model(self) -> tuple[WorldModel, list[str]]:
        """Return the weights as a plain torch model, and a note about it.

        Where the back end keeps them in another form, they are loaded, or drawn, once more.
        """
        if (model := self.world.backend.definition) is not None:
            return model, []
        dtype = self.dtype_in_torch
        other = self.other("reference", dtype)
        notes = []
        if dtype != self.world.dtype:
            notes.append(f"the baselines compute in {dtype}, not in {self.world.dtype}")
        model = other.backend.definition
        assert model is not None  # `reference` computes it
        return model, notes


def _versus(worlds: _Worlds, plan: Plan) -> tuple[list[Workload], list[str]]:
    """Open sessions of other back ends, their windows full, and note each that does not fit here."""
    found, notes = list[Workload](), list[str]()
    for backend, dtype in dict.fromkeys(worlds.asked()):
        name = f"{backend} {dtype}"
        try:
            world = worlds.other(backend, dtype)
            world.warm_up(plan)
            session = world.session(plan=plan)
            session.reset(first_picture(world))
            Past.fill(session)
            found.append(Workload.of(f"{VERSUS}{name}", session))
        except (DeviceError, torch.OutOfMemoryError) as error:
            notes.append(f"{name} was left out: {str(error).splitlines()[0]}")
    return found, notes


def _baselines(worlds: _Worlds, past: Past, plan: Plan) -> tuple[list[Workload], list[str]]:
    """Warm up the requested baselines, and note each that cannot run here."""
    bench, notes = worlds.bench, list[str]()
    wanted: list[tuple[str, Callable[[Plan, WorldModel], Workload], int]] = []
    if bench.baseline:
        wanted.append(("the paper's recipe", past.recomputed, 1))
    compiled = worlds.world.backend.device.type == "cuda" if bench.compiled is None else bench.compiled
    if compiled and plan.order != "maskgit":
        notes.append(f'torch.compile was left out: it decodes plans of order "maskgit", not {plan.order!r}')
    elif compiled:
        wanted.append(("torch.compile", past.compiled, WARM_UP_FRAMES))
    found: list[Workload] = []
    model: WorldModel | None = None
    for name, make, warm_up in wanted:
        try:
            if model is None:
                model, told = worlds.model()
                notes += told
            player = make(plan, model)
            for _ in range(warm_up):
                player.candidate.run()
            found.append(player)
        except (DeviceError, UnsupportedError, torch.OutOfMemoryError) as error:
            notes.append(f"{name} was left out: {str(error).splitlines()[0]}")
    return found, notes


def _times_faster(times: Mapping[str, Times], baseline: str) -> float | None:
    return paired_ratio(times[baseline], times[STEP]) if baseline in times else None


def _with_passes(plan: Plan, passes: int) -> Plan:
    """Change a plan's passes, and drop reuse where so few passes do not allow it."""
    fits = plan.reuse != "frames" or passes > 1
    return plan.replace(passes=passes, reuse=plan.reuse if fits else "none")


def _time(
    players: Sequence[Workload],
    iterations: int,
    *,
    duration_s: float = 0.0,
    warm_up_s: float,
    on_round: Callable[[], object] | None,
) -> tuple[Mapping[str, Times], list[Series], list[str]]:
    """Time players in turn; returns times by name, series, and notes that cast doubt on them."""
    times = measure(
        [player.candidate for player in players],
        iterations=iterations, duration_s=duration_s, warm_up_s=warm_up_s, settle_s=SETTLE_S,
        on_round=on_round,
    )  # fmt: skip
    series, notes = [], []
    for player in players:
        taken = times[player.candidate.name]
        counted = player.stats[-len(taken.run_ns) :]
        series.append(Series.of(player.candidate.name, player.plan, taken, counted))
        if num_cold := sum(item.cold for item in counted):
            notes.append(
                f"{described(player.candidate.name)}: {num_cold} of {plural(len(counted), 'measured frame')} "
                "included one-time preparation"
            )
    return times, series, notes


def _memory(backend: Backend) -> Memory:
    use, peak_device_bytes = backend.memory_use, None
    if backend.device.type == "cuda":
        peak_device_bytes = torch.cuda.max_memory_reserved(backend.device)
    return Memory(
        peak_rss_bytes=peak_rss_bytes(),
        peak_device_bytes=peak_device_bytes,
        weight_bytes=use.weight_bytes,
        page_bytes=use.page_bytes,
        pool_bytes=use.pool_bytes,
    )
