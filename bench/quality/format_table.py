"""The record of kind "precision" on the terminal: a table for each plan, differences below the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie_rt.bench.quality.format_cost import PrecisionBody, PrecisionRow
from genie_rt.runtime.tables import figure_table
from genie_rt.runtime.units import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_precisions(console: Console, body: PrecisionBody) -> None:
    """Print all plans, the baselines that they are compared with, and the computations that stopped."""
    protocol, baselines = body.protocol, body.baselines
    for name, plan in body.plans.items():
        console.print(
            f"\nplan {name}: {plan.order}, {plural(plan.passes, 'pass', 'passes')}, "
            f"temperature {plan.temperature:g}" + ("" if plan.reuse == "none" else f", reuse of {plan.reuse}")
        )
        console.print(precision_table(body, name))
    console.print(
        f"\nBelow each figure its difference to the first row, ± the noise of that when clips are drawn "
        f"anew. PSNR in dB against what really happened, pooled over pixels; copying the last prompt frame: "
        f"{', '.join(f'{item.pooled:.2f}' for item in baselines.copy)}.\n"
        f"Within: PSNR {body.most_db:g} dB of the first row's at every t; the clip distance no larger than "
        f"the first row's but for its noise. Real clips: {baselines.floor:.2f} ± "
        f"{baselines.floor_noise:.2f}.\n"
        f"NLL in nats per token, after {protocol.seen[0]} and {protocol.seen[1]} real frames.",
        soft_wrap=True,
    )
    for row in body.rows:
        if row.failure is not None:
            console.print(f"{row.computation.name}: {row.failure}", style="bold red", soft_wrap=True)
    for remark in body.remarks():
        console.print(f"note: {remark}", soft_wrap=True)


def precision_table(body: PrecisionBody, plan: str) -> Table:
    """The rows of one plan."""
    rows = body.of(plan)
    steps = [f"PSNR\nt={t}" for t in body.protocol.steps]
    table = figure_table(
        "computed by", "ms\np50", *steps, f"within\n{body.most_db:g} dB", "clip\ndistance", "within\nnoise",
        "NLL\nnats",
    )  # fmt: skip
    for row in rows:
        table.add_row(*_cells(row, rows[0], len(steps)))
    return table


def _cells(row: PrecisionRow, baseline: PrecisionRow, num_steps: int) -> list[str]:
    q, cost = row.quality, row.cost
    if q is None or cost is None:
        return [row.computation.name, "-", *["-"] * num_steps, "no", "-", "no", "-"]
    first = row is baseline
    psnr = [
        _cell(f"{item.pooled:.2f}", difference, noise, first)
        for item, difference, noise in zip(q.psnr, cost.psnr_db, cost.psnr_noise_db, strict=True)
    ]
    faster = "" if first or not row.ms or not baseline.ms else f"\n{baseline.ms / row.ms:.2f}x"
    nll = None if q.nll is None else sum(q.nll) / 2
    return [
        row.computation.name,
        "-" if row.ms is None else f"{row.ms:.1f}{faster}",
        *psnr,
        "" if first else _yes(row.psnr_within),
        _cell(f"{q.distance:.2f}", cost.distance, cost.distance_noise, first, own=q.distance_noise),
        "" if first else _yes(row.distance_within),
        "-" if nll is None else _cell(f"{nll:.4f}", cost.nll, cost.nll_error, first, digits=4),
    ]


def _cell(
    figure: str,
    difference: float | None,
    noise: float | None,
    first: bool,
    *,
    digits: int = 2,
    own: float | None = None,
) -> str:
    """The figure, and below it the difference to the baseline with the noise of that.

    Args:
        own: noise of the figure itself, shown in the first row, where it is what others are allowed.
    """
    if first:
        return figure if own is None else f"{figure}\n±{own:.2f}"
    if difference is None or noise is None:
        return figure
    return f"{figure}\n{difference:+.{digits}f}\n±{noise:.{digits}f}"


def _yes(within: bool) -> str:
    return "yes" if within else "no"
