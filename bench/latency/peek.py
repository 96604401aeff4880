"""Cost of the next frame of all actions: `Session.peek` against stepping each action alone.

A peek evaluates one row with each of its `A` actions as one batch over one past, and commits the last frame
once. Whoever steps each action alone from a snapshot decodes as many frames, and commits as often. Counted in
passes of the dynamics, with a commit of one pass and a decoder of `d`, the work is

    (A K + A d + 1) / (A (K + 1 + d))

of theirs. What a batch gains besides, or loses, is what the measured ratio says beside this one. The step
that follows a peek finds its frame decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from genie_rt.bench.latency.workloads import Past, first_picture, held_actions, remarks
from genie_rt.bench.noise_check import Counters, disturbances
from genie_rt.bench.record import Record, Subject
from genie_rt.bench.series import Series
from genie_rt.bench.timer import Candidate, measure, paired_ratio, percentile, synchronise
from genie_rt.runtime.cost import DECODER, DYNAMICS, model_cost
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

PEEK = "peek"
ALONE = "one_by_one"
DECODED = "frame"
UNDECODED = "frame_without_picture"

FREE_STEP_MS = 1.0
"""A step after a peek takes at most so long: it copies a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeekBody:
    """Cost of a peek.

    Attributes:
        num_actions: `A`.
        series: of a peek (`after_ns` is the step that follows), of all actions one by one, and of one frame
            with and without its picture, which gives the decoder.
        decoder_passes: `d` by the operations of the model, measured_decoder_passes: by these times.
        expected_ratio: the formula with the first of them, measured_expected_ratio: with the second.
        ratio: median over rounds of peek / one by one.
        following_step_ms: median of the step after a peek.
    """

    KIND: ClassVar[str] = "peek"

    subject: Subject
    num_actions: int
    series: tuple[Series, ...]
    decoder_passes: float
    measured_decoder_passes: float
    expected_ratio: float
    measured_expected_ratio: float
    ratio: float
    following_step_ms: float

    def find(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)


def work_ratio(num_actions: int, passes: int, decoder_passes: float) -> float:
    """Ratio of a peek's work to that of stepping each action alone; see the module."""
    peek = num_actions * passes + num_actions * decoder_passes + 1
    return peek / (num_actions * (passes + 1 + decoder_passes))


def bench_peek(
    world: World,
    plan: Plan,
    *,
    command: str,
    iterations: int,
    duration_s: float = 0.0,
    warm_up_s: float = 0.0,
    on_round: Callable[[], object] | None = None,
) -> Record[PeekBody]:
    """Measure a peek, from a full window and with a pending frame.

    Args:
        plan: what frames are decoded with.
        command: for the record.
        iterations, duration_s, warm_up_s, on_round: as `measure` takes them.
    """
    before = Counters.read()
    world.warm_up(plan, peek=len(world.action_names))
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    snapshot = Past.fill(session).snapshot
    actions, count = held_actions(world), len(world.action_names)
    backend, torch_device = world.backend, world.backend.device
    (committed,) = backend.commit([snapshot.row])

    def peek() -> None:
        session.restore(snapshot)
        session.peek()

    def one_by_one() -> None:
        for index in range(count):
            session.restore(snapshot)
            session.step(index)

    def frame(decode: bool) -> None:
        _, pictures, _ = backend.frame([committed], [0], plan, decode=decode)
        if pictures is not None:
            pictures.cpu()
        synchronise(torch_device)

    frame(False)  # no session asks for it, so nothing has made it ready
    candidates = [
        Candidate(name=PEEK, run=peek, after=lambda: session.step(next(actions))),
        Candidate(name=ALONE, run=one_by_one),
        Candidate(name=DECODED, run=lambda: frame(True)),
        Candidate(name=UNDECODED, run=lambda: frame(False)),
    ]
    times = measure(
        candidates, iterations=iterations, duration_s=duration_s, warm_up_s=warm_up_s, on_round=on_round
    )
    cost = model_cost(world.bundle.config)
    by_operations = cost.part(DECODER).pass_flops / cost.part(DYNAMICS).pass_flops
    pass_ms = times[UNDECODED].percentile_ms(50) / plan.passes
    by_times = max(times[DECODED].percentile_ms(50) - times[UNDECODED].percentile_ms(50), 0.0) / pass_ms
    body = PeekBody(
        subject=Subject.of(world, backend=world.backend.name),
        num_actions=count,
        series=tuple(Series.of(name, plan, taken) for name, taken in times.items()),
        decoder_passes=by_operations,
        measured_decoder_passes=by_times,
        expected_ratio=work_ratio(count, plan.passes, by_operations),
        measured_expected_ratio=work_ratio(count, plan.passes, by_times),
        ratio=paired_ratio(times[PEEK], times[ALONE]),
        following_step_ms=percentile(times[PEEK].after_ns, 50) / 1e6,
    )
    warnings = remarks(world) + disturbances(before, Counters.read(), times)
    return Record.take(body, command=command, device=str(torch_device), warnings=warnings)
