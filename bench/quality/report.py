"""Report of a measurement of plans: rows, CSV, table and record."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie_rt.bench.quality.computation import Computation
from genie_rt.bench.quality.measure import Decibels, Protocol, Quality, Truth, copying, plan_name
from genie_rt.bench.record import Software, now
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.config import to_dict
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.tables import figure_table
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clip_distance import BLOCKS, COMPONENTS, Reference
from genie_rt.training.evaluation.measure import DELTA_T, MOVING
from genie_rt.training.evaluation.report import device_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SCHEMA = "genie-rt/quality"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """A plan and all that is known of it.

    Attributes:
        same_as: name of the plan whose figures these are, where both are the same function; else empty.
        ms: of a step at batch 1, its commit included, median. p95_ms: the 95th percentile. idle_ms: the
            median where the commit was done in idle time. None where nothing was timed.
    """

    plan: Plan
    same_as: str
    quality: Quality
    ms: float | None = None
    p95_ms: float | None = None
    idle_ms: float | None = None

    @property
    def name(self) -> str:
        return plan_name(self.plan)

    @classmethod
    def of(
        cls, plan: Plan, measured: Plan, quality: Quality, times: Mapping[str, float] | None
    ) -> QualityRow:
        """A row of a plan whose figures were measured with another one, or with itself."""
        known = times or {}
        return cls(
            plan=plan,
            same_as="" if plan == measured else plan_name(measured),
            quality=quality,
            ms=known.get("p50_ms"),
            p95_ms=known.get("p95_ms"),
            idle_ms=known.get("idle_p50_ms"),
        )

    def columns(self, protocol: Protocol) -> dict[str, object]:
        """The row as the CSV has it: None is an empty field."""
        plan, q = self.plan, self.quality
        first, second = protocol.seen
        psnr: dict[str, object] = {}
        for item in q.psnr:
            psnr |= {f"psnr_t{item.t}_pooled_db": item.pooled, f"psnr_t{item.t}_mean_db": item.mean}
        return {
            "plan": self.name,
            "order": plan.order,
            "passes": plan.passes,
            "reuse": plan.reuse,
            "same_as": self.same_as,
            "ms_p50": self.ms,
            "ms_p95": self.p95_ms,
            "ms_p50_idle_commit": self.idle_ms,
            **psnr,
            f"sharpness_t{protocol.num_steps}": q.sharpness,
            f"motion_t{protocol.num_steps}": q.motion,
            f"delta_{q.delta.t}_pooled_db": q.delta.pooled,
            f"delta_{q.delta.t}_mean_db": q.delta.mean,
            f"delta_{q.delta.t}_mean_standard_error_db": q.delta_error,
            "next_psnr_pooled_db": q.next_psnr,
            "next_moving_psnr_pooled_db": q.next_moving_psnr,
            f"nll_after_{first}_nats": None if q.nll is None else q.nll[0],
            f"nll_after_{second}_nats": None if q.nll is None else q.nll[1],
            "nll_standard_error_nats": q.nll_error,
            "clip_distance": q.distance,
            "clip_distance_noise": q.distance_noise,
            "passes_used": q.passes,
            "passes_used_static": q.passes_static,
            "passes_used_moving": q.passes_moving,
            "passes_used_rollout": q.rollout_passes,
            "tokens_computed": q.tokens,
            "temperature": plan.temperature,
            "noise": plan.noise,
            "threshold": plan.threshold if plan.adapts else None,
            "fresh": plan.fresh if plan.reuse == "frames" else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """Figures that the rows are compared with.

    Attributes:
        floor, floor_noise: clip distance of the true continuations, and its spread.
        tokenized: of these through the tokenizer: what a perfect dynamics model would reach.
        frozen: of the last prompt frame, repeated. copy: its PSNR.
        explained: share of the reference's variance that the distance looks at.
        reference_windows: windows of the reference.
        moving_share: share of the judged next frames that move.
    """

    floor: float
    floor_noise: float
    tokenized: float
    frozen: float
    copy: tuple[Decibels, ...]
    explained: float
    reference_windows: int
    moving_share: float

    @classmethod
    def of(cls, truth: Truth, reference: Reference, protocol: Protocol) -> Baselines:
        return cls(
            floor=reference.distance(truth.descriptors),
            floor_noise=reference.noise(truth.descriptors),
            tokenized=reference.distance(truth.tokenized),
            frozen=reference.distance(truth.frozen),
            copy=copying(truth, protocol),
            explained=reference.explained,
            reference_windows=reference.num_windows,
            moving_share=float(truth.moving.mean()),
        )

    def copy_at(self, t: int) -> float:
        """Pooled dB of the last prompt frame at step `t`."""
        return next(item.pooled for item in self.copy if item.t == t)

    def values(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def write_csv(path: Path, table: Sequence[Mapping[str, object]]) -> None:
    """Write a header and one line per row, atomically.

    Args:
        table: columns by name; the first row has all of them.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    for columns in table:
        writer.writerow({key: _field(value) for key, value in columns.items()})
    with atomic_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _field(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def quality_table(rows: Sequence[QualityRow], protocol: Protocol) -> Table:
    """The figures that one compares plans by."""
    last = protocol.num_steps
    table = figure_table(
        "plan", "ms\np50", "PSNR\nt=4", f"PSNR\nt={last}", "Δ4\ndB", "NLL\nnats", "clip\ndistance", "±",
        "sharp", "motion", "passes\nstatic", "passes\nmoving", "tokens\na frame",
    )  # fmt: skip
    for row in rows:
        q = row.quality
        table.add_row(
            row.name + (" =" if row.same_as else ""),
            _number(row.ms, 1),
            _number(q.psnr_at(4), 2),
            _number(q.psnr_at(last), 2),
            _number(q.delta.pooled, 2),
            _number(None if q.nll is None else sum(q.nll) / 2, 3),
            _number(q.distance, 2),
            _number(q.distance_noise, 2),
            _number(q.sharpness, 2),
            _number(q.motion, 2),
            _number(q.passes_static, 1),
            _number(q.passes_moving, 1),
            _number(q.tokens, 0),
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_quality(
    console: Console,
    rows: Sequence[QualityRow],
    baselines: Baselines,
    protocol: Protocol,
    chosen: Mapping[str, Plan],
) -> None:
    """Print the table, the baselines, and the recommended plans."""
    console.print()
    console.print(quality_table(rows, protocol))
    last = protocol.num_steps
    console.print(
        f"\nPSNR in dB, pooled over pixels. Copying the last prompt frame: {baselines.copy_at(4):.2f} at t = "
        f"4, {baselines.copy_at(last):.2f} at t = {last}.\n"
        f"Clip distance: real clips {baselines.floor:.2f} ± {baselines.floor_noise:.2f}, real clips through "
        f"the tokenizer {baselines.tokenized:.2f}, frozen {baselines.frozen:.2f}.\n"
        f"Passes and NLL are of next frames after {protocol.seen[0]} and {protocol.seen[1]} real ones, of "
        f"which {baselines.moving_share:.0%} move. Rows with = were measured as another plan, the same "
        "function.\n",
        soft_wrap=True,
    )
    for name, plan in chosen.items():
        console.print(f"{name:9} {plan_name(plan)}")


def quality_record(
    world: World,
    computation: Computation,
    origin: dict[str, Any],
    protocol: Protocol,
    rows: Sequence[QualityRow],
    baselines: Baselines,
    chosen: Mapping[str, Plan],
    rule: str,
    command: str,
) -> dict[str, Any]:
    """Everything about a measurement as JSON values, but for the rows' figures, which the CSV has."""
    bundle = world.bundle
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "date": now(),
        "command": command,
        "bundle": {"name": bundle.name, "preset": bundle.preset, "digest": bundle.digest},
        "device": device_name(world),
        "backend": computation.backend,
        "emulated": computation.emulated,
        "dtype": world.dtype,
        "software": dataclasses.asdict(Software.current()),
        "clips": origin,
        "protocol": dataclasses.asdict(protocol)
        | {"steps": protocol.steps, "seen": protocol.seen, "delta_t": DELTA_T, "moving_above": MOVING},
        "clip_distance": {"blocks": BLOCKS, "components": COMPONENTS, "window": protocol.descriptor_window},
        "baselines": baselines.values(),
        "num_rows": len(rows),
        "rule": rule,
        "recommended": {name: to_dict(plan) for name, plan in chosen.items()},
    }
