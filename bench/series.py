"""The times of one thing that makes frames, as a record keeps them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genie_rt.bench.record import write_json
from genie_rt.bench.timer import PERCENTILES, Times
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The times of one thing.

    Attributes:
        name: what was timed.
        plan: how its frames were decoded.
        passes_per_frame, tokens_per_frame: evaluations of the dynamics and tokens that these computed, the
            mean over the frames, commits not counted; None where nobody counted them.
        run_ns, after_ns: as in `Times`, one entry per round.
        p50_ms ... max_ms: of `run_ns`, by nearest rank; for readers who do not want to count.
        per_second: frames per second with `after_ns` included.
        missed_30_hz, missed_60_hz: share of frames longer than the period, `after_ns` included.
    """

    name: str
    plan: Plan
    passes_per_frame: float | None
    tokens_per_frame: float | None
    run_ns: tuple[int, ...]
    after_ns: tuple[int, ...]
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    per_second: float
    missed_30_hz: float
    missed_60_hz: float

    @classmethod
    def of(cls, name: str, plan: Plan, times: Times, stats: Sequence[FrameStats] = ()) -> Series:
        """Names and counts what was timed.

        Args:
            stats: of the frames that count.
        """
        p50, p90, p95, p99 = (times.percentile_ms(q) for q in PERCENTILES)
        return cls(
            name=name,
            plan=plan,
            passes_per_frame=statistics.fmean(item.passes for item in stats) if stats else None,
            tokens_per_frame=statistics.fmean(item.tokens for item in stats) if stats else None,
            run_ns=times.run_ns,
            after_ns=times.after_ns,
            p50_ms=p50,
            p90_ms=p90,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=times.max_ms,
            per_second=times.per_second,
            missed_30_hz=times.missed(30),
            missed_60_hz=times.missed(60),
        )

    @property
    def times(self) -> Times:
        return Times(run_ns=self.run_ns, after_ns=self.after_ns)


def write_times(path: Path, series: Sequence[Series]) -> None:
    """Write one JSON object per round: its number and the milliseconds of every series.

    Raises:
        InputError: the file cannot be written.
    """
    rounds = zip(*(item.run_ns for item in series), strict=True)
    names = [f"{item.name}_ms" for item in series]
    rows = [
        {"round": index, **{name: ns / 1e6 for name, ns in zip(names, row, strict=True)}}
        for index, row in enumerate(rounds)
    ]
    write_json(path, rows)
