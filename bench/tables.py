"""A record as a person reads it: a table of the rows that were compared, one line of what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genie_rt.bench.record import IDLE_COMMIT, RECOMPUTED, STEP
from genie_rt.runtime.tables import figure_table
from genie_rt.runtime.units import scaled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from genie_rt.bench.record import Record, Series

_ROWS = {
    IDLE_COMMIT: "commit in idle time",
    STEP: "commit in the step",
    RECOMPUTED: "paper's recipe, {window} frames",
}


def print_record(console: Console, record: Record, percentiles: Sequence[float]) -> None:
    """Prints a record of kind "frame".

    Args:
        percentiles: to show; the record knows all times.
    """
    subject, device = record.subject, record.device
    passes = record.find(STEP).plan.passes
    where = f"{device.model} ({device.num_threads} of {device.num_cores} cores)"
    console.print(f"{subject.bundle}, {_passes(passes)} a frame, {subject.dtype} on {where}\n")
    console.print(_latency(record, percentiles))
    if record.times_faster is not None:
        console.print(
            f"\n{record.times_faster:.1f} times faster than the paper's recipe at the same {_passes(passes)}",
            style="bold green",
        )
    swept = [series for series in record.series if series.name not in _ROWS]
    if swept:
        console.print()
        console.print(_sweep(swept))
    console.print(f"\n{_start(record)}\n{_memory(record)}")
    for warning in record.warnings:
        console.print(f"note: {warning}", style="yellow", soft_wrap=True)


def _latency(record: Record, percentiles: Sequence[float]) -> Table:
    names = [f"p{q:g}" for q in percentiles]
    table = figure_table(
        "ms from action to picture", *names, "max", "FPS", "late at\n30 Hz", "late at\n60 Hz"
    )
    for name, label in _ROWS.items():
        for series in record.series:
            if series.name == name:
                times = [_ms(series.times.percentile_ms(q)) for q in percentiles]
                shares = [f"{share:.0%}" for share in (series.missed_30_hz, series.missed_60_hz)]
                label = label.format(window=record.subject.window)
                table.add_row(label, *times, _ms(series.max_ms), f"{series.per_second:.1f}", *shares)
    return table


def _sweep(swept: Sequence[Series]) -> Table:
    table = figure_table("passes a frame", *(str(series.plan.passes) for series in swept))
    table.add_row("p50 ms", *(_ms(series.p50_ms) for series in swept))
    table.add_row("FPS", *(f"{series.per_second:.1f}" for series in swept))
    return table


def _start(record: Record) -> str:
    start = record.cold_start
    first_ms = start.reset_ms + start.first_step_ms
    parts = {"imports": start.import_ms, "load": start.load_ms, "first frame": first_ms}
    listed = ", ".join(f"{name} {ms / 1e3:.1f}" for name, ms in parts.items())
    return f"cold start  {start.total_ms / 1e3:.1f} s: {listed}"


def _memory(record: Record) -> str:
    memory = record.memory
    peak = "unknown here" if memory.peak_rss_bytes is None else scaled(memory.peak_rss_bytes, "B")
    weights, pages = scaled(memory.weight_bytes, "B"), scaled(memory.page_bytes, "B")
    return f"memory      {peak} peak of the whole process; weights {weights}, session {pages}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 999.5 else f"{value:.0f}"


def _passes(count: int) -> str:
    return f"{count} pass" if count == 1 else f"{count} passes"
