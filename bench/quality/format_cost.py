"""Quality loss of a precision or back end: same plans, clips and seed, computed differently.

All are held against the first, the baseline. Rollouts start as a session does, so that a format's own
tokenizer is in the figures; the likelihood is of the definition's tokens after the definition's tokens, so
that all are asked the same. One token that falls otherwise makes another rollout, as good a guess at what
happens: single clips part, what they come to together should not. So beside every difference stands its
noise, from the clips drawn anew, the same ones for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from genie_rt.bench.quality.computation import Computation
from genie_rt.bench.quality.measure import Outcome, Protocol, Quality, Truth, judge
from genie_rt.bench.quality.report import Baselines, QualityRow
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clip_distance import DRAWS, Reference
from genie_rt.training.evaluation.metrics import decibels

MOST_DB = 0.5
"""Largest allowed PSNR difference from the baseline at any step, up or down: blur raises PSNR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Figures less the baseline's.

    Attributes:
        psnr_db: of the pooled PSNR with the true actions, at each of `Protocol.steps`. psnr_noise_db: the
            standard deviation of these when the clips are drawn anew.
        distance: of the clip distance; above 0 is worse. distance_noise: likewise.
        nll: in nats per token, the mean after W and 2W frames; above 0 is worse. nll_error: its standard
            error over the clips. None under reuse.
    """

    psnr_db: tuple[float, ...]
    psnr_noise_db: tuple[float, ...]
    distance: float
    distance_noise: float
    nll: float | None
    nll_error: float | None

    @classmethod
    def of(cls, outcome: Outcome, baseline: Outcome, reference: Reference) -> Cost:
        """Quality loss of an outcome; exactly 0 in all figures for the baseline."""
        ours, theirs = outcome.squared, baseline.squared  # [M, S]
        drawn = np.random.default_rng(0).integers(0, len(ours), size=(DRAWS, len(ours)))
        redrawn = decibels(ours[drawn].mean(1)) - decibels(theirs[drawn].mean(1))  # [DRAWS, S]
        nats = (outcome.nll - baseline.nll).mean(1)
        scored = bool(np.isfinite(nats).all())
        error = float(nats.std(ddof=1)) / len(nats) ** 0.5 if len(nats) > 1 else 0.0
        return cls(
            psnr_db=tuple((decibels(ours.mean(0)) - decibels(theirs.mean(0))).tolist()),
            psnr_noise_db=tuple(redrawn.std(0, ddof=1).tolist()),
            distance=reference.distance(outcome.descriptors) - reference.distance(baseline.descriptors),
            distance_noise=reference.noise_of_difference(outcome.descriptors, baseline.descriptors),
            nll=float(nats.mean()) if scored else None,
            nll_error=error if scored else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRow:
    """Figures of one computation of one plan.

    Attributes:
        plan: its name in the bundle.
        quality, cost: None where it failed.
        allowed_distance: how much larger than the baseline's the clip distance may be: the noise of that.
        ms, p95_ms, idle_ms: as of a `QualityRow`; never of what is emulated.
        failure: what stopped the measurement.
    """

    computation: Computation
    plan: str
    quality: Quality | None
    cost: Cost | None
    allowed_distance: float
    ms: float | None = None
    p95_ms: float | None = None
    idle_ms: float | None = None
    failure: str | None = None

    @property
    def psnr_within(self) -> bool:
        """Whether PSNR is within `MOST_DB` of the baseline's at every step."""
        return self.cost is not None and all(abs(off) <= MOST_DB for off in self.cost.psnr_db)

    @property
    def distance_within(self) -> bool:
        """Whether the clip distance is no larger than the baseline's but for noise."""
        return self.cost is not None and self.cost.distance <= self.allowed_distance

    @property
    def passed(self) -> bool:
        return self.psnr_within and self.distance_within

    def columns(self, plan: Plan, protocol: Protocol) -> dict[str, object]:
        """The row as the CSV has it: None is an empty field."""
        how = self.computation
        found: dict[str, object] = {
            "computation": how.name, "backend": how.backend, "dtype": how.dtype, "device": how.device,
            "emulated": how.emulated, "plan_name": self.plan, "failure": self.failure,
        }  # fmt: skip
        if self.quality is None or self.cost is None:
            return found
        found |= {"psnr_within": self.psnr_within, "distance_within": self.distance_within}
        steps = zip(protocol.steps, self.cost.psnr_db, self.cost.psnr_noise_db, strict=True)
        for t, difference, noise in steps:
            found |= {f"psnr_t{t}_difference_db": difference, f"psnr_t{t}_difference_noise_db": noise}
        found |= {
            "clip_distance_difference": self.cost.distance,
            "clip_distance_difference_noise": self.cost.distance_noise,
            "nll_difference_nats": self.cost.nll,
            "nll_difference_error_nats": self.cost.nll_error,
        }
        figures = QualityRow(
            plan=plan, same_as="", quality=self.quality, ms=self.ms, p95_ms=self.p95_ms, idle_ms=self.idle_ms
        )
        return found | figures.columns(protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionBody:
    """All computations of all plans.

    Attributes:
        clips: where they come from. reference_clips: that the clip distance is measured against.
        plans: by name. baselines: what the clips are, and copying.
        rows: plan by plan, the baseline first.
    """

    KIND: ClassVar[str] = "precision"

    bundle: str
    digest: str
    clips: dict[str, Any]
    reference_clips: int
    protocol: Protocol
    plans: dict[str, Plan]
    baselines: Baselines
    most_db: float = MOST_DB
    rows: tuple[PrecisionRow, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def of(self, plan: str) -> list[PrecisionRow]:
        return [row for row in self.rows if row.plan == plan]

    def remarks(self) -> list[str]:
        """List caveats about the figures."""
        if not any(row.computation.emulated for row in self.rows):
            return []
        return [
            "what is emulated was computed by the references of the cuda back end's operators, on a CPU: it "
            "rounds where the kernels round, and has no speed"
        ]


def precision_rows(
    plan: str,
    outcomes: Mapping[Computation, Outcome | str],
    truth: Truth,
    reference: Reference,
    protocol: Protocol,
    times: Mapping[Computation, Mapping[str, float]],
) -> list[PrecisionRow]:
    """The rows of one plan, held against its first outcome.

    Args:
        outcomes: of each computation, or what stopped it; the first is the baseline's and stopped by nothing.
        times: as of `time_worlds`, where something was timed.
    """
    (_, baseline), *_ = outcomes.items()
    assert isinstance(baseline, Outcome)  # the caller raises what stops it
    allowed = reference.noise(baseline.descriptors)
    rows = []
    for computation, outcome in outcomes.items():
        known, stopped = times.get(computation, {}), isinstance(outcome, str)
        rows.append(
            PrecisionRow(
                computation=computation,
                plan=plan,
                quality=None if isinstance(outcome, str) else judge(outcome, truth, reference, protocol),
                cost=None if isinstance(outcome, str) else Cost.of(outcome, baseline, reference),
                allowed_distance=allowed,
                ms=known.get("p50_ms"),
                p95_ms=known.get("p95_ms"),
                idle_ms=known.get("idle_p50_ms"),
                failure=str(outcome) if stopped else None,
            )
        )
    return rows


def precision_columns(body: PrecisionBody) -> Sequence[dict[str, object]]:
    """The rows as the CSV has them."""
    return [row.columns(body.plans[row.plan], body.protocol) for row in body.rows]
