"""Rows of `bench quality` whose figures were made up by hand."""

from typing import Any

from genie_rt.bench.quality.measure import Decibels, Quality
from genie_rt.bench.quality.report import Baselines, QualityRow
from genie_rt.runtime.plan import Plan

STEPS = (1, 4, 7, 16, 32)


def make_quality(*, distance: float = 10.0, psnr: float = 20.0, **changes: Any) -> Quality:
    """Figures of a plan; `psnr` is that of step 4, later steps lose a decibel each."""
    values: dict[str, Any] = {
        "psnr": tuple(Decibels(t=t, pooled=psnr + 1 - i, mean=psnr + 2 - i) for i, t in enumerate(STEPS)),
        "sharpness": 0.9,
        "motion": 0.8,
        "delta": Decibels(t=4, pooled=1.5, mean=2.0),
        "delta_error": 0.25,
        "next_psnr": psnr + 0.5,
        "next_moving_psnr": psnr - 0.5,
        "nll": (3.0, 2.5),
        "nll_error": 0.1,
        "distance": distance,
        "distance_noise": 0.5,
        "passes": 2.0,
        "passes_static": 1.5,
        "passes_moving": 2.5,
        "tokens": 512.0,
        "rollout_passes": 2.0,
    }
    return Quality(**values | changes)


def make_row(plan: Plan, *, ms: float | None = 10.0, same_as: str = "", **quality: Any) -> QualityRow:
    times = {} if ms is None else {"p95_ms": 1.2 * ms, "idle_ms": 0.8 * ms}
    return QualityRow(plan=plan, same_as=same_as, quality=make_quality(**quality), ms=ms, **times)


def make_baselines(**changes: Any) -> Baselines:
    values: dict[str, Any] = {
        "floor": 4.0,
        "floor_noise": 0.3,
        "tokenized": 5.0,
        "frozen": 60.0,
        "copy": tuple(Decibels(t=t, pooled=15.0 - i, mean=16.0 - i) for i, t in enumerate(STEPS)),
        "explained": 0.85,
        "reference_windows": 1600,
        "moving_share": 0.8,
    }
    return Baselines(**values | changes)
