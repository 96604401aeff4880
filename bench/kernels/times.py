"""Time every kernel on this GPU next to the fastest library calls for the same operation.

Before each timed call the L2 cache is overwritten, as the rest of a frame would. Candidates of one case run
interleaved. What a kernel gives is compared with its reference first: a wrong kernel has no time.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genie_rt.bench.kernels.ceilings import CeilingsBody, measure_ceilings
from genie_rt.bench.timer import synchronise
from genie_rt.errors import UnsupportedError
from genie_rt.kernels.case import Case
from genie_rt.kernels.catalogue import OPS, all_cases
from genie_rt.kernels.closeness import TOLERANCE, closeness
from genie_rt.kernels.cost import Cost
from genie_rt.runtime.backends.select import find_device

FLUSH_BYTES = 256 * 2**20
"""More than the L2 cache of any GPU there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Time of a library call. `median_us` is None where it failed, and `failure` says why."""

    name: str
    median_us: float | None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Times of one case.

    Attributes:
        error: relative error of the worst output against the reference; 0 where all have to be equal and are;
            None where there is no such number.
        failure: why there are no times: it raised, or its result is wrong.
        percent: of the roofline from the ceilings that were measured just before.
        bound_by: "flops" or "bytes".
    """

    op: str
    case: str
    dtype: str
    cost: Cost
    error: float | None = None
    failure: str | None = None
    median_us: float | None = None
    p95_us: float | None = None
    percent: float | None = None
    bound_by: str | None = None
    baselines: tuple[Baseline, ...] = ()

    @property
    def strongest(self) -> Baseline | None:
        """The fastest library call that ran."""
        ran = [item for item in self.baselines if item.median_us is not None]
        return min(ran, key=lambda item: item.median_us or 0.0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsBody:
    """Times of all cases, and the ceilings that they are compared with."""

    KIND: ClassVar[str] = "kernels"

    triton: str
    ceilings: CeilingsBody
    rows: tuple[Timed, ...]

    @property
    def passed(self) -> bool:
        return all(row.failure is None for row in self.rows)


def find_gpu(name: str) -> torch.device:
    """Return the CUDA device of that name.

    Raises:
        UnsupportedError: there is none; the message says what needs none.
    """
    with suppress(UnsupportedError):  # it proposes a CPU, on which there is nothing to time
        device = find_device(name)
        if device.type == "cuda":
            return device
    raise UnsupportedError(
        f"--device: expected a CUDA device that torch {torch.__version__} finds here, found {name!r}; "
        "without one use --compile-only or --roofline"
    )


def measure_kernels(
    name: str,
    *,
    ops: Sequence[str] = OPS,
    dtypes: Sequence[torch.dtype] = (torch.bfloat16,),
    repeats: int = 30,
    on_row: Callable[[Timed], object] = lambda row: None,
) -> KernelsBody:
    """Check and time all cases of the operators.

    Args:
        name: of a CUDA device.
        repeats: timed calls of each candidate.
        on_row: called with each row once it is there.

    Raises:
        UnsupportedError: there is no such device, or no Triton.
    """
    device = find_gpu(name)
    import triton

    ceilings = measure_ceilings(str(device), command="").body
    clock = EventClock(device, repeats)
    rows = []
    for dtype in dtypes:
        for case in all_cases(ops, dtype, device):
            rows.append(measure_case(case, ceilings, clock, device))
            on_row(rows[-1])
            del case
            torch.cuda.empty_cache()
    return KernelsBody(triton=triton.__version__, ceilings=ceilings, rows=tuple(rows))


Clock = Callable[[Mapping[str, Callable[[], object]]], Mapping[str, Sequence[float]]]
"""Times callables against each other: microseconds of each repeat, by name."""


def measure_case(case: Case, ceilings: CeilingsBody, clock: Clock, device: torch.device) -> Timed:
    """Check one case, and time it if its result is right."""
    row = Timed(op=case.op, case=case.name, dtype=str(case.dtype).removeprefix("torch."), cost=case.cost)
    try:
        error, wrong = judge_case(case)
    except Exception as raised:  # by the compiler, the driver or the kernel: it belongs into the table
        return dataclasses.replace(row, failure=_reason(raised))
    if wrong is not None:
        return dataclasses.replace(row, error=error if math.isfinite(error) else None, failure=wrong)
    usable: dict[str, Callable[[], object]] = {"ours": case.run}
    failed = []
    for name, call in case.baselines.items():
        try:
            call()
            synchronise(device)
        except Exception as raised:
            failed.append(Baseline(name=name, median_us=None, failure=_reason(raised)))
        else:
            usable[name] = call
    times = clock(usable)
    median_us = statistics.median(times["ours"])
    rates = _rates(ceilings, row.dtype)
    return dataclasses.replace(
        row,
        error=error,
        median_us=median_us,
        p95_us=sorted(times["ours"])[int(0.95 * len(times["ours"]))],
        percent=100 * case.cost.seconds(**rates) / (median_us * 1e-6),
        bound_by=case.cost.bound_by(**rates),
        baselines=(
            *(
                Baseline(name=name, median_us=statistics.median(taken))
                for name, taken in times.items()
                if name != "ours"
            ),
            *failed,
        ),
    )


def judge_case(case: Case) -> tuple[float, str | None]:
    """Return the largest relative error of a case's outputs, and what is wrong with them, or None."""
    expected = [x.clone() for x in case.reference()]  # first: the kernel may write to what it reads
    actual = case.run()
    if len(actual) != len(expected):
        return float("nan"), f"expected {len(expected)} outputs, found {len(actual)}"
    exact = case.exact or (False,) * len(expected)
    worst = 0.0
    for index, (found, wanted, equal) in enumerate(zip(actual, expected, exact, strict=True)):
        error, wrong = _compare(found, wanted, case.dtype, equal)
        worst = max(worst, error)
        if wrong is not None:
            return error, f"output {index}: {wrong}"
    return worst, None


def _compare(found: Tensor, wanted: Tensor, dtype: torch.dtype, equal: bool) -> tuple[float, str | None]:
    if found.shape != wanted.shape:
        return float("nan"), f"expected shape {list(wanted.shape)}, found {list(found.shape)}"
    if equal:
        differ = int((found != wanted).sum())
        return float(differ), f"{differ} of {wanted.numel()} differ" if differ else None
    if not torch.isfinite(found.float()).all():
        return float("nan"), "NaN or Inf"
    near = closeness(found, wanted)
    return near.whole, None if near.within(TOLERANCE[dtype]) else f"relative error {near.whole:.3g}"


def _rates(ceilings: CeilingsBody, dtype: str) -> dict[str, float]:
    return {
        "flops_per_second": ceilings.matrix(dtype).best or float("inf"),
        "bytes_per_second": ceilings.copy.best or float("inf"),
    }


class EventClock:
    """Time single calls with CUDA events; the L2 cache is overwritten before each."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)

    def __call__(self, calls: Mapping[str, Callable[[], object]]) -> Mapping[str, Sequence[float]]:
        events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in calls}
        with torch.cuda.device(self.device):
            for call in calls.values():
                for _ in range(3):
                    call()
            torch.cuda.synchronize()
            for _ in range(self.repeats):
                for name, call in calls.items():
                    self.flush.zero_()  # takes longer than a launch, so the host stays ahead
                    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                    begin.record()
                    call()
                    end.record()
                    events[name].append((begin, end))
            torch.cuda.synchronize()
        return {
            name: [begin.elapsed_time(end) * 1e3 for begin, end in pairs] for name, pairs in events.items()
        }


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
