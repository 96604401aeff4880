"""Fewer passes where frames come late, more where there is time: a controller for a session's `K`."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from statistics import median_low

from genie_rt.errors import ConfigError
from genie_rt.runtime.arguments import real_number, whole_number
from genie_rt.runtime.plan import MAX_PASSES

WINDOW = 5
"""Frames that the cost is estimated from, by their median: two outliers among them change nothing."""

LATE_AMONG = 3
"""Two late frames among so many of the last ones lower K; a single one never does."""

HEADROOM = 0.9
"""A raise must promise to stay below this share of the target."""

PATIENCE = 15
"""Frames in a row that must promise so before K is raised; doubled whenever that K had to be left again."""

MAX_PATIENCE = 32 * PATIENCE
MAX_FIXED = 50.0


class Deadline:
    """Picks the passes of every frame so that frames stay within a target time.

    The cost of a frame is taken to be `unit * (fixed + K)`: `fixed` is what does not depend on K (decoder,
    commit, copies), counted in passes; it is learned from the medians on both sides of a change of K, so a
    machine that becomes slower altogether does not disturb it. `unit` is the median over the last `WINDOW`
    frames since the last change of K.

    - *Lower*: two of the last three frames were late. K falls to the largest that promises to meet the
      target, by at least 1 and at most to half, so that a burst of outliers does not cost everything; soon
      after a raise only by 1.
    - *Raise*: for `PATIENCE` frames in a row K + 1 promised to stay within `HEADROOM` of the target. K rises
      by 1.
    - *Back off*: a K that had to be left is raised to again only after twice as many frames as the last time,
      up to `MAX_PATIENCE`, so on a plateau between two K the changes become rare. A K that stood for
      `MAX_PATIENCE` frames is trusted anew.

    Starts at the most passes: it is from above that cost is learned quickly. Deterministic, given the times.

    Args:
        target_ms: what a frame may take, above 0.
        most: of passes, at least 1: where the plan's quality ends.
        least: of passes, at least 1 and at most `most`; kept even where it does not meet the target.
        clock_ns: monotonic nanoseconds; for whoever takes the times.

    Attributes:
        passes: `K` of the next frame.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        target_ms: float,
        most: int,
        least: int = 1,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        least_ms, most_ms = math.ulp(0.0), sys.float_info.max  # so 0 and infinity are none
        asked = "target_ms: expected a number of milliseconds above 0"
        self.target_ms = real_number(target_ms, least_ms, most_ms, asked)
        self.clock_ns = clock_ns
        self.passes = most
        self._fixed = 0.0  # the cautious guess: it makes a raise look dear
        self._knows_fixed = False
        self._patience: dict[int, int] = {}  # of raises to a K, where it is not `PATIENCE`
        # Since the last change of K:
        self._raised = False  # whether that was a raise
        self._before: tuple[float, float] | None = None  # passes and ms of before it
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # passes and ms
        self._num_frames = 0
        self._num_promising = 0
        self.limit(most, least)

    def limit(self, most: int, least: int = 1) -> None:
        """Other bounds from the next frame on, as when the plan changes.

        Raises:
            ConfigError: they are no bounds; nothing is changed.
        """
        asked = f"most passes: expected a whole number from the least to {MAX_PASSES}"
        most = whole_number(most, 1, MAX_PASSES, asked, error=ConfigError)
        asked = f"least passes: expected a whole number from 1 to the most, {most}"
        least = whole_number(least, 1, most, asked, error=ConfigError)
        self.most, self.least = most, least
        self._move_to(min(most, max(least, self.passes)), before=None)

    def copy(self) -> Deadline:
        """A controller of its own that knows what this one knows."""
        other = copy.copy(self)
        other._patience = dict(self._patience)
        other._recent = self._recent.copy()
        return other

    def feed(self, passes: int, ms: float) -> None:
        """What a frame took.

        Args:
            passes: that it used; under an "adaptive" plan these may be fewer than were allowed.
            ms: from the action to the picture.
        """
        self._recent.append((passes, ms))
        self._num_frames += 1
        if self._num_frames == LATE_AMONG:
            self._learn_fixed()
        last = sorted(ms for _, ms in [*self._recent][-LATE_AMONG:])
        if len(last) > 1 and last[-2] > self.target_ms:
            if self.passes > self.least:
                self._lower()
            return
        if self._num_frames == MAX_PATIENCE:
            self._patience.pop(self.passes, None)
        if self.passes < self.most:
            promising = self._promise(self.passes + 1, WINDOW) <= HEADROOM * self.target_ms
            self._num_promising = self._num_promising + 1 if promising else 0
            if self._num_promising >= self._patience.get(self.passes + 1, PATIENCE):
                self._move_to(self.passes + 1, before=self._typical(WINDOW), raised=True)

    def _lower(self) -> None:
        if self._num_frames < LATE_AMONG:
            self._learn_fixed()
        self._patience[self.passes] = min(2 * self._patience.get(self.passes, PATIENCE), MAX_PATIENCE)
        passes = self.passes - 1
        just_raised = self._raised and self._num_frames < PATIENCE  # then the K before is known to be good
        lowest = passes if just_raised else max(self.least, self.passes // 2)
        while passes > lowest and self._promise(passes, LATE_AMONG) > self.target_ms:
            passes -= 1
        self._move_to(passes, before=self._typical(LATE_AMONG))

    def _promise(self, passes: int, frames: int) -> float:
        """Milliseconds of a frame of so many passes, from the last frames."""
        unit = median_low(ms / (self._fixed + used) for used, ms in [*self._recent][-frames:])
        return unit * (self._fixed + passes)

    def _typical(self, frames: int) -> tuple[float, float]:
        """Median passes and milliseconds of the last frames."""
        recent = [*self._recent][-frames:]
        return median_low(used for used, _ in recent), median_low(ms for _, ms in recent)

    def _learn_fixed(self) -> None:
        """From the last change of K, once there are frames on its other side.

        `ms1 / ms0 = (fixed + k1) / (fixed + k0)`. Where more passes seem to take less time it was the machine
        that changed, and nothing is learned.
        """
        if self._before is None:
            return
        (k0, ms0), (k1, ms1) = self._before, self._typical(LATE_AMONG)
        self._before = None
        if (k1 - k0) * (ms1 - ms0) <= 0:
            return
        found = min(MAX_FIXED, max(0.0, (k0 * ms1 - k1 * ms0) / (ms0 - ms1)))
        self._fixed = (self._fixed + found) / 2 if self._knows_fixed else found
        self._knows_fixed = True

    def _move_to(self, passes: int, *, before: tuple[float, float] | None, raised: bool = False) -> None:
        """Frames of another K say nothing about this one, but for what both say about the fixed part."""
        self.passes = passes
        self._raised = raised
        self._before = before
        self._recent.clear()
        self._num_frames = self._num_promising = 0
