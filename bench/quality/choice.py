"""Choice of the plans to recommend, by a rule fixed before the figures are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from genie_rt.bench.quality.report import Baselines, QualityRow
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.measure import DELTA_T

NEARLY = 0.25
"""Largest excess of a "balanced" plan's distance from the floor over the best one's, as a fraction."""

LEAST_DB = 0.2
"""Largest loss of PSNR at step 4, in dB, of a "balanced" plan against "quality"."""


def recommend(rows: Sequence[QualityRow], baselines: Baselines) -> dict[str, Plan]:
    """Three plans: "quality", "balanced" and "fast".

    Clip distance leads, for PSNR rewards blur. A row's *excess* is its clip distance above that of real
    clips. *Cost* is the median of a step's milliseconds, or the passes where nothing was timed.

    - "quality": of the rows whose distance is within the noise of the smallest (its own bootstrap standard
      deviation), the cheapest.
    - "balanced": the cheapest row whose excess is at most 1.25 times that of "quality", or within the noise
      of it, and whose PSNR at step 4 is at most 0.2 dB less.
    - "fast": the cheapest row that still beats copying the last frame, in clip distance and in PSNR at step
      4, and whose actions matter (Delta_4 PSNR above 0 by two standard errors); "balanced" where none does.

    A tie in cost goes to the smaller distance. Rows that are the same function as another stand for it.

    Returns:
        The plans by name; empty without rows whose distance is a finite number.
    """
    rows = [row for row in rows if not row.same_as] or list(rows)
    # NaN compares as neither larger nor smaller, so `min` may take it for the smallest
    rows = [row for row in rows if math.isfinite(row.quality.distance + row.quality.distance_noise)]
    if not rows:
        return {}
    timed = all(row.ms is not None for row in rows)

    def cost(row: QualityRow) -> tuple[float, float]:
        ms = row.ms if timed and row.ms is not None else row.quality.passes
        return ms, row.quality.distance

    def cheapest(good: Callable[[QualityRow], bool]) -> QualityRow | None:
        return min(filter(good, rows), key=cost, default=None)

    best = min(rows, key=lambda row: row.quality.distance)
    limit = best.quality.distance + best.quality.distance_noise
    quality = cheapest(lambda row: row.quality.distance <= limit) or best
    top = quality.quality

    def is_balanced(row: QualityRow) -> bool:
        slack = max(NEARLY * (top.distance - baselines.floor), top.distance_noise)
        near = row.quality.distance <= top.distance + slack
        return near and row.quality.psnr_at(DELTA_T) >= top.psnr_at(DELTA_T) - LEAST_DB

    def beats_copying(row: QualityRow) -> bool:
        q = row.quality
        return (
            q.distance < baselines.frozen
            and q.psnr_at(DELTA_T) > baselines.copy_at(DELTA_T)
            and q.delta.mean > 2 * q.delta_error
        )

    balanced = cheapest(is_balanced) or quality
    fast = cheapest(beats_copying) or balanced
    return {"quality": quality.plan, "balanced": balanced.plan, "fast": fast.plan}
