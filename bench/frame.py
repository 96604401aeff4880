"""How long a frame takes, from the action to the picture, beside the paper's recipe.

All that is compared is timed in one process, interleaved: a session that commits within its step, one that
commits in idle time, and the recipe of the paper, with the same weights, plan, dtype, device and threads, and
with full windows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from genie_rt.bench.baseline import RecomputedRollout
from genie_rt.bench.record import (
    IDLE_COMMIT,
    RECOMPUTED,
    STEP,
    ColdStart,
    Device,
    Memory,
    Record,
    Series,
    Software,
    Subject,
    now,
    peak_rss_bytes,
)
from genie_rt.bench.timer import Candidate, disturbances, load_per_core, measure, paired_ratio
from genie_rt.errors import InputError, UnsupportedError
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.images import Picture
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World

SWEEP_ITERATIONS = 15
SWEEP_WARM_UP = 2
HELD_FRAMES = 8
"""How long each action is held, in frames, before the next one's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBench:
    """What to measure.

    Attributes:
        source: a bundle's name or folder.
        passes: `K`, passes per frame, None for those of the bundle's default plan; the rest is that plan's.
        iterations, warm_up: rounds that count, and rounds before them.
        sweep: other `K` to time briefly, each with the commit within the step.
        baseline: whether the paper's recipe is timed too.
    """

    source: str
    passes: int | None
    iterations: int
    warm_up: int
    sweep: tuple[int, ...]
    baseline: bool
    backend: str
    dtype: str
    device: str

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.warm_up < 0:
            raise InputError(
                "expected 1 or more iterations and 0 or more to warm up, "
                f"found {self.iterations} and {self.warm_up}"
            )

    @property
    def sweep_iterations(self) -> int:
        return min(self.iterations, SWEEP_ITERATIONS)

    @property
    def num_rounds(self) -> int:
        """Rounds in all, for a progress bar."""
        sweep = self.sweep_iterations + SWEEP_WARM_UP if self.sweep else 0
        return self.warm_up + self.iterations + sweep


def bench_frames(
    bench: FrameBench, *, import_ms: float, command: str, on_round: Callable[[], object] | None = None
) -> Record:
    """Takes the measurement.

    Args:
        import_ms: what importing this module took, which only the caller can know.
        command: for the record.
        on_round: called between rounds, untimed.

    Raises:
        BundleError, UnsupportedError, ConfigError: as `World.load` and `World.session` do.
    """
    busy = load_per_core()
    clock = [time.perf_counter_ns()]
    world = World.load(bench.source, backend=bench.backend, dtype=bench.dtype, device=bench.device)
    plan = world.bundle.plans["default"]
    if bench.passes is not None:
        plan = plan.replace(passes=bench.passes)
    sweep = {k: plan.replace(passes=k) for k in bench.sweep}
    clock.append(time.perf_counter_ns())
    session = world.session(plan=plan)
    session.reset(_first_picture(world))
    clock.append(time.perf_counter_ns())
    session.step(0)
    clock.append(time.perf_counter_ns())
    load_ms, reset_ms, first_step_ms = ((b - a) / 1e6 for a, b in itertools.pairwise(clock))

    past = Past.fill(session)
    memory = _memory(_reference(world))
    candidates = [_step(STEP, session), _step(IDLE_COMMIT, past.session(plan), idle_commit=True)]
    if bench.baseline:
        candidates.append(past.recomputed(plan))
    times = measure(candidates, iterations=bench.iterations, warm_up=bench.warm_up, on_round=on_round)
    series = [Series.of(name, plan, taken) for name, taken in times.items()]
    if sweep:
        steps = [_step(f"sweep_{k}", past.session(other)) for k, other in sweep.items()]
        swept = measure(steps, iterations=bench.sweep_iterations, warm_up=SWEEP_WARM_UP, on_round=on_round)
        series += [Series.of(f"sweep_{k}", other, swept[f"sweep_{k}"]) for k, other in sweep.items()]

    return Record(
        kind="frame",
        created=now(),
        command=command,
        software=Software.current(),
        device=Device.current(bench.device),
        subject=Subject(
            bundle=world.bundle.name,
            digest=world.bundle.digest,
            window=world.bundle.config.dynamics.transformer.window,
            backend="reference",
            dtype=bench.dtype,
        ),
        cold_start=ColdStart(
            import_ms=import_ms, load_ms=load_ms, reset_ms=reset_ms, first_step_ms=first_step_ms
        ),
        memory=memory,
        series=tuple(series),
        times_faster=paired_ratio(times[RECOMPUTED], times[STEP]) if bench.baseline else None,
        warnings=tuple(disturbances(busy, times)),
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
        rows = [session.snapshot().row]
        for action in itertools.islice(_actions(session.world), window):
            session.step(action)
            rows.append(session.snapshot().row)
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

    def recomputed(self, plan: Plan) -> Candidate:
        """The paper's recipe, going on from here."""
        row, world = self.snapshot.row, self.snapshot.world
        rollout = RecomputedRollout(
            _reference(world), self.tokens, self.actions, row.frame_index, plan=plan, seed=row.seed
        )
        actions = _actions(world)
        return Candidate(name=RECOMPUTED, run=lambda: rollout.step(next(actions)))


def _step(name: str, session: Session, *, idle_commit: bool = False) -> Candidate:
    actions = _actions(session.world)
    if idle_commit:
        session.commit()
    return Candidate(
        name=name,
        run=lambda: session.step(next(actions)),
        after=session.commit if idle_commit else None,
    )


def _actions(world: World) -> Iterator[int]:
    """All actions in turn, each held for a while, for ever; the same for everything that is timed."""
    held = [[index] * HELD_FRAMES for index in range(len(world.action_names))]
    return itertools.cycle(itertools.chain.from_iterable(held))


def _first_picture(world: World) -> Picture:
    """The bundle's first, or plain grey: what is on it changes no time."""
    if world.prompts:
        return world.prompt(0)
    tokenizer = world.bundle.config.tokenizer
    return np.full((tokenizer.height, tokenizer.width, 3), 127, np.uint8)


def _reference(world: World) -> ReferenceBackend:
    if not isinstance(world.backend, ReferenceBackend):
        raise UnsupportedError("only the reference back end can be measured so far; say --backend reference")
    return world.backend


def _memory(backend: ReferenceBackend) -> Memory:
    pools = (backend.dynamics_pages, backend.encoder_pages, backend.decoder_pages)
    return Memory(
        peak_rss_bytes=peak_rss_bytes(),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in backend.model.parameters()),
        page_bytes=sum(pool.num_used * pool.page_bytes for pool in pools),
        pool_bytes=sum(pool.num_pages * pool.page_bytes for pool in pools),
    )
