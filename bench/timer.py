"""Times several things against each other in one process, interleaved, so that a disturbance hits all alike.

Every round runs each candidate once, and the next round begins with the next candidate: a machine that slows
down slows all of them, and nobody always runs after the same neighbour. Ratios are taken within rounds, so
they stand on a disturbed machine where the times themselves do not.

A percentile is the nearest rank: the `q`-th is the smallest of the recorded times that at least `q` percent
of them do not exceed. It is always a time that was really taken; with fewer than 100 of them the 99th is the
longest.

On a GPU a call returns before its work is done. Whatever is timed here has to wait for the device itself, in
`run` and in `after`: copying the result to the host does, and so does `synchronise`.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from genie_rt.errors import InputError

PERCENTILES = (50, 90, 95, 99)

SETTLE_S = 0.02
"""How long an engine runs untimed before each timed run, so that it is found as it is when it plays alone:
its caches warm, its threads and the processors awake, and the threads of the engine before asleep. Those of
OpenMP look for more work for some milliseconds. A processor that idled is slow for about as long, which is
much of a short frame and little of a long one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something to time.

    Attributes:
        name: unique among those timed together.
        run: what is timed. It returns once the work is done; on a GPU it has to synchronise.
        after: runs after each `run`: work that somebody has to do before the next one, but that nobody waits
            for. Its time is taken apart; it has to synchronise too, or the next candidate would pay for it.
    """

    name: str
    run: Callable[[], object]
    after: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of one candidate, in nanoseconds: entry `i` is of round `i`.

    Attributes:
        run_ns: of the timed work: what a player waits for.
        after_ns: of the work after it, 0 where there is none.
    """

    run_ns: tuple[int, ...]
    after_ns: tuple[int, ...]

    def percentile_ms(self, q: float) -> float:
        return percentile(self.run_ns, q) / 1e6

    @property
    def max_ms(self) -> float:
        return max(self.run_ns) / 1e6

    @property
    def per_second(self) -> float:
        """Rate of runs that follow each other, per second, with the work after each run included."""
        return len(self.run_ns) * 1e9 / (sum(self.run_ns) + sum(self.after_ns))

    def missed(self, rate_hz: float) -> float:
        """Share of the runs that, with what comes after them, take longer than one period of `rate_hz`."""
        period_ns = 1e9 / rate_hz
        late = sum(run + after > period_ns for run, after in zip(self.run_ns, self.after_ns, strict=True))
        return late / len(self.run_ns)

    @property
    def drift(self) -> float:
        """Slowdown of the second half against the first, by their medians; negative if faster."""
        half = len(self.run_ns) // 2
        if half == 0:
            return 0.0
        return statistics.median(self.run_ns[half:]) / statistics.median(self.run_ns[:half]) - 1


def percentile(values: Sequence[int], q: float) -> int:
    """The nearest-rank percentile of at least one value, `0 < q <= 100`; see the module's docstring.

    Raises:
        InputError: there is no such percentile.
    """
    if not values or not 0 < q <= 100:
        raise InputError(f"expected a percentile from 0 to 100 of some values, found {q} of {len(values)}")
    return sorted(values)[math.ceil(q / 100 * len(values)) - 1]


def measure(
    candidates: Sequence[Candidate],
    *,
    iterations: int,
    duration_s: float = 0.0,
    warm_up_s: float = 0.0,
    settle_s: float = 0.0,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    on_round: Callable[[], object] | None = None,
) -> dict[str, Times]:
    """Time the candidates, interleaved.

    Args:
        candidates: at least one.
        iterations: rounds that count, at least; 1 or more.
        duration_s: how long the rounds that count go on, at least.
        warm_up_s: how long rounds go on before them, at least; 0 for none.
        settle_s: how long each candidate runs untimed before it is timed, at least; see `SETTLE_S`.
        on_round: called after each round, untimed; for a progress bar.

    Returns:
        Times by the candidates' names.
    """
    if not candidates or iterations < 1 or not 0 <= duration_s < math.inf or not 0 <= warm_up_s < math.inf:
        raise InputError(
            "expected something to time, 1 or more iterations, and 0 or more seconds to measure and to warm "
            f"up, found {len(candidates)}, {iterations}, {duration_s:g} and {warm_up_s:g}"
        )
    taken: dict[str, list[tuple[int, int]]] = {candidate.name: [] for candidate in candidates}

    def rounds(least: int, least_s: float, *, counted: bool) -> None:
        start_ns, index = clock_ns(), 0
        while index < least or clock_ns() - start_ns < least_s * 1e9:
            first = index % len(candidates)
            for candidate in (*candidates[first:], *candidates[:first]):
                if settle_s and len(candidates) > 1:
                    settled_ns = clock_ns() + settle_s * 1e9
                    while clock_ns() < settled_ns:
                        _run(candidate, clock_ns)
                times = _run(candidate, clock_ns)
                if counted:
                    taken[candidate.name].append(times)
            index += 1
            if on_round is not None:
                on_round()

    rounds(0, warm_up_s, counted=False)
    rounds(iterations, duration_s, counted=True)
    return {
        name: Times(run_ns=tuple(run for run, _ in times), after_ns=tuple(after for _, after in times))
        for name, times in taken.items()
    }


def _run(candidate: Candidate, clock_ns: Callable[[], int]) -> tuple[int, int]:
    start = clock_ns()
    candidate.run()
    end = clock_ns()
    if candidate.after is None:
        return end - start, 0
    candidate.after()
    return end - start, clock_ns() - end


def paired_ratio(slow: Times, fast: Times) -> float:
    """Return the median over rounds of the ratio of `slow` to `fast`."""
    pairs = zip(slow.run_ns, fast.run_ns, strict=True)
    return statistics.median(a / b for a, b in pairs)


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
