"""Time: when the next step is due, and how long steps took."""

import time
from collections import deque
from collections.abc import Callable, Iterable

Clock = Callable[[], float]


class Pacer:
    """Steps at a target rate. A late step delays the next ones; they never come in a burst to catch up.

    Args:
        fps: steps per second.
        clock: seconds, monotonic.
    """

    def __init__(self, fps: float, clock: Clock = time.perf_counter) -> None:
        self._period = 1 / fps
        self._clock = clock
        self._due = clock()

    def wait_s(self) -> float:
        """Seconds until the next step is due; 0 if it is."""
        return max(0.0, self._due - self._clock())

    def start_step(self) -> None:
        """A step begins now: the next is due one period after this one was, or half a period from now."""
        self._due = max(self._due + self._period, self._clock() + self._period / 2)


class StepTimes:
    """The last 120 step times and the rate at which steps came."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._times_ms: deque[float] = deque(maxlen=120)
        self._ends: deque[float] = deque(maxlen=31)

    def add(self, step_ms: float) -> None:
        now = self._clock()
        if self._ends and now - self._ends[-1] > 1:  # a pause is no slow frame
            self._ends.clear()
        self._times_ms.append(step_ms)
        self._ends.append(now)

    def percentile_ms(self, percent: float) -> float | None:
        """Percentile of `step_ms` over the last steps; None before the first."""
        return percentile(self._times_ms, percent) if self._times_ms else None

    @property
    def fps(self) -> float | None:
        """Steps per second over the last 30 of them; None until two have come without a pause between."""
        if len(self._ends) < 2:
            return None
        return (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]
