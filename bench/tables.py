"""Records for the terminal: a table of what was compared, and a line that sums it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from genie_rt.bench.latency.frame_record import COMPILED, IDLE_COMMIT, PLAN, RECOMPUTED, STEP, SWEEP, VERSUS
from genie_rt.runtime.tables import figure_table
from genie_rt.runtime.units import plural, scaled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from genie_rt.bench.kernels.ceilings import Ceiling, CeilingsBody
    from genie_rt.bench.latency.frame_record import FrameBody
    from genie_rt.bench.latency.long import LongBody
    from genie_rt.bench.latency.peek import PeekBody
    from genie_rt.bench.parity.verify import Parity, VerifyBody
    from genie_rt.bench.record import BodyT, Device, Record, Subject
    from genie_rt.bench.series import Series
    from genie_rt.runtime.plan import Plan

COLUMNS = 4
"""Candidates per table, so that it fits a terminal."""

_ROWS = {
    IDLE_COMMIT: "commit in idle time",
    STEP: "commit in the step",
    VERSUS: "{name}",
    COMPILED: "torch.compile and SDPA",
    RECOMPUTED: "paper's recipe, {window} frames",
}


def print_frames(console: Console, record: Record[FrameBody], percentiles: Sequence[float]) -> None:
    """Print a record of kind "frame".

    Args:
        percentiles: to show; the record knows all times.
    """
    body = record.body
    plan = body.find(STEP).plan
    console.print(f"{body.subject.bundle}, {_how(plan)}, {_backend(body.subject)} on {_where(record)}\n")
    console.print(_latency(body, percentiles))
    if body.times_faster is not None:
        faster = f"{body.times_faster:.1f} times faster than the paper's recipe at the same"
        console.print(f"\n{faster} {passes(plan.passes)}", style="bold green")
        ours, theirs = (body.find(name).tokens_per_frame for name in (STEP, RECOMPUTED))
        if ours is not None and theirs is not None:
            console.print(
                f"tokens computed per frame: {_count(ours)}, by the paper's recipe {_count(theirs)}"
            )
    if body.times_faster_than_compiled is not None:
        ratio = f"{body.times_faster_than_compiled:.2f}"
        console.print(f"{ratio} times the speed of the same model under torch.compile", style="bold")
    for name, ratio_to in body.times_faster_than.items():
        console.print(f"{ratio_to:.2f} times the speed of {name}", style="bold")
    for title, prefix in (("passes per frame", SWEEP), ("plan", PLAN)):
        compared = [series for series in body.series if series.name.startswith(prefix)]
        if compared:
            console.print()
            console.print(_compared(title, prefix, compared))
    console.print(f"\n{_start(body)}\n{_memory(body)}")
    print_warnings(console, record.header.warnings)


def print_ceilings(console: Console, record: Record[CeilingsBody]) -> None:
    """Print a record of kind "ceilings"."""
    body = record.body
    console.print(f"{_where(record)}\n")
    table = figure_table("ceiling", "best", "at", "all sizes")
    table.add_row("copy", *_ceiling(body.copy, "B", "B/s"))
    for matrix in body.matrices:
        table.add_row(f"matrix product, {matrix.name}", *_ceiling(matrix, "", "OP/s"))
    table.add_row("smallest operator", f"{body.launch_us:.2f} us")
    console.print(table)
    for matrix in body.matrices:
        if matrix.skipped is not None:
            console.print(f"{matrix.name} cannot be measured here: {matrix.skipped}", soft_wrap=True)
    print_warnings(console, record.header.warnings)


def print_parity(console: Console, record: Record[VerifyBody]) -> None:
    """Print a record of kind "verify"."""
    body = record.body
    how = f"{_how(body.plan)}, temperature {body.plan.temperature:g}"
    console.print(f"{body.subject.bundle}, {plural(body.frames, 'frame')}, {how}\n")
    for first in range(0, len(body.rows), COLUMNS):
        console.print(_parity(body, body.rows[first : first + COLUMNS]))
    for row in body.rows:
        if row.failure is not None:
            console.print(f"{_name(row)}: {row.failure}", style="bold red", soft_wrap=True)
    print_warnings(console, record.header.warnings)


def print_long(console: Console, record: Record[LongBody]) -> None:
    """Print a record of kind "long"."""
    body = record.body
    what = f"{body.subject.bundle}, {body.steps} steps, {_how(body.plan)}"
    console.print(f"{what}, {_backend(body.subject)} on {_where(record)}\n")
    table = figure_table("steps", "p50 us", "vs fresh", "resident", "pages in use", "pages held")
    every = max(len(body.windows) // 10, 1)
    for window in body.windows[every - 1 :: every]:
        resident = "unknown" if window.resident_bytes is None else scaled(window.resident_bytes, "B")
        pages = (str(window.used_pages), str(window.held_pages))
        times = f"{window.p50_us / window.control_p50_us:.3f}"
        table.add_row(str(window.end), f"{window.p50_us:.0f}", times, resident, *pages)
    console.print(table)
    growth = "unknown" if body.memory_growth_bytes is None else scaled(body.memory_growth_bytes, "B")
    change = body.last_times_control / body.first_times_control - 1
    console.print(
        f"\nmemory {'flat' if body.is_memory_flat else 'GROWS'}: {growth} over the second half, "
        f"{scaled(body.allowed_growth_bytes, 'B')} allowed",
        style="bold green" if body.is_memory_flat else "bold red",
    )
    console.print(
        f"latency {'flat' if body.is_latency_flat else 'NOT FLAT'}: relative to a fresh session, a step "
        f"takes {body.first_times_control:.3f} times as long in the first tenth and "
        f"{body.last_times_control:.3f} times in the last ({change:+.1%}); "
        f"p50 {body.first_p50_us:.0f} us and {body.last_p50_us:.0f} us",
        style="bold green" if body.is_latency_flat else "yellow",
        soft_wrap=True,
    )
    print_warnings(console, record.header.warnings)


def print_peek(console: Console, record: Record[PeekBody]) -> None:
    """Print a record of kind "peek"."""
    from genie_rt.bench.latency.peek import ALONE, FREE_STEP_MS, PEEK

    body = record.body
    plan = body.find(PEEK).plan
    console.print(f"{body.subject.bundle}, {_how(plan)}, {_backend(body.subject)} on {_where(record)}\n")
    table = figure_table(f"all {body.num_actions} actions", "p50 ms", "p95 ms", "max")
    for name, label in ((PEEK, "as one batch"), (ALONE, "one by one")):
        series = body.find(name)
        table.add_row(label, *(milliseconds(ms) for ms in (series.p50_ms, series.p95_ms, series.max_ms)))
    console.print(table)
    console.print(
        f"\nratio {body.ratio:.2f}; expected {body.expected_ratio:.2f} from the decoder's operations "
        f"({body.decoder_passes:.2f} passes), {body.measured_expected_ratio:.2f} from its measured time "
        f"({body.measured_decoder_passes:.2f} passes)",
        style="bold green",
    )
    free = body.following_step_ms < FREE_STEP_MS
    console.print(
        f"the step after it: {body.following_step_ms:.3f} ms, expected below {FREE_STEP_MS:g} ms",
        style=None if free else "bold red",
    )
    print_warnings(console, record.header.warnings)


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"note: {warning}", style="yellow", soft_wrap=True)


def _latency(body: FrameBody, percentiles: Sequence[float]) -> Table:
    names = [f"p{q:g}" for q in percentiles]
    table = figure_table("ms, action to picture", *names, "max", "FPS", "late,\n30 Hz", "late,\n60 Hz")
    for name, label in _ROWS.items():
        for series in body.series:
            if series.name == name or (name == VERSUS and series.name.startswith(VERSUS)):
                times = [milliseconds(series.times.percentile_ms(q)) for q in percentiles]
                shares = [f"{share:.0%}" for share in (series.missed_30_hz, series.missed_60_hz)]
                what = label.format(window=body.subject.window, name=series.name.removeprefix(VERSUS))
                table.add_row(what, *times, milliseconds(series.max_ms), f"{series.per_second:.1f}", *shares)
    return table


def _compared(title: str, prefix: str, compared: Sequence[Series]) -> Table:
    table = figure_table(title, "p50 ms", "p95 ms", "FPS", "passes\nper frame", "tokens\nper frame")
    for series in compared:
        table.add_row(
            series.name.removeprefix(prefix), milliseconds(series.p50_ms), milliseconds(series.p95_ms),
            f"{series.per_second:.1f}", _count(series.passes_per_frame), _count(series.tokens_per_frame),
        )  # fmt: skip
    return table


def _where(record: Record[BodyT]) -> str:
    device: Device = record.header.device
    return f"{device.model} ({device.num_threads} of {device.num_cores} cores)"


def _backend(subject: Subject) -> str:
    return f"{subject.backend} {subject.dtype}"


def _how(plan: Plan) -> str:
    reused = "" if plan.reuse == "none" else f", reuse of {plan.reuse}"
    return f"{passes(plan.passes)} per frame, order {plan.order}{reused}"


def _ceiling(ceiling: Ceiling, unit: str, per_second: str) -> tuple[str, str, str]:
    best = max(ceiling.points, key=lambda point: point.per_second, default=None)
    if best is None:
        return "-", "-", "-"
    rates = ", ".join(scaled(point.per_second, "").strip() for point in ceiling.points)
    return scaled(best.per_second, per_second), scaled(best.size, unit).strip(), rates


def _name(row: Parity) -> str:
    return f"{row.variant.backend} {row.variant.dtype} {row.variant.device}"


def _parity(body: VerifyBody, rows: Sequence[Parity]) -> Table:
    """A column per candidate, so that it fits a terminal."""
    names = ("\n".join((row.variant.backend, row.variant.dtype, row.variant.device)) for row in rows)
    table = figure_table(f"against {_backend(body.subject)}", *names)
    figures: dict[str, Callable[[Parity], str]] = {
        "tokens compared": lambda row: str(row.tokens),
        "tokens that differ": lambda row: str(row.mismatches),
        "  furthest from a boundary": lambda row: _distance(row.max_distance),
        "  within what is allowed": lambda row: f"{row.within:.2%}",
        "distributions off by": lambda row: f"{row.max_cdf_error:.1e}",
        "  allowed": lambda row: f"{row.bound:.1e}",
        "logits off by, max": lambda row: f"{row.max_logit_error:.1e}",
        "  mean": lambda row: f"{row.mean_logit_error:.1e}",
        "  max / their spread": lambda row: f"{row.max_logit_error / max(row.logit_std, 1e-300):.1e}",
        "pictures, PSNR dB": lambda row: _psnr([row.psnr_db]),
        "prompt's tokens that agree": lambda row: f"{row.prompt_agreement:.1%}",
        "free run agrees for, frames": lambda row: f"{row.free_frames} of {body.frames}",
    }
    if any(row.played for row in rows):
        figures |= {
            "frames played, of all plans": lambda row: str(sum(played.frames for played in row.played)),
            "  tokens": lambda row: str(sum(played.tokens for played in row.played)),
            "  tokens that differ": lambda row: str(sum(played.mismatches for played in row.played)),
            "  most of them, by plan": lambda row: f"{max(each.share for each in row.played):.1%}",
            "  pictures, PSNR dB, least": lambda row: _psnr([played.psnr_db for played in row.played]),
        }
    if any(row.ms is not None for row in rows):
        figures |= {
            "ms per frame, p50": lambda row: _optional(row.ms, milliseconds),
            "  float64 reference": lambda row: _optional(row.yardstick_ms, milliseconds),
            "  times faster": lambda row: _optional(row.times_faster, "{:.1f}".format),
        }
    figures["verdict"] = lambda row: "ok" if row.passed else "FAILED"
    for label, figure in figures.items():
        table.add_row(label, *(figure(row) for row in rows))
    return table


def _distance(value: float | None) -> str:
    return "no token" if value is None else f"{value:.1e}"


def _psnr(values: Sequence[float | None]) -> str:
    """The least of them; None is that of equal pictures."""
    least = min((value for value in values if value is not None), default=None)
    return "equal" if least is None else f"{least:.1f}"


def _optional(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _start(body: FrameBody) -> str:
    start = body.cold_start
    parts = {
        "imports": start.import_ms, "load": start.load_ms, "warm-up": start.warm_up_ms,
        "first picture": start.reset_ms, "first frame": start.first_step_ms,
    }  # fmt: skip
    listed = ", ".join(f"{name} {ms / 1e3:.2f}" for name, ms in parts.items() if ms is not None)
    return f"cold start  {start.total_ms / 1e3:.2f} s: {listed}"


def _memory(body: FrameBody) -> str:
    memory = body.memory
    peak = "unknown here" if memory.peak_rss_bytes is None else scaled(memory.peak_rss_bytes, "B")
    weights, pages = scaled(memory.weight_bytes, "B"), scaled(memory.page_bytes, "B")
    device = memory.peak_device_bytes
    on_device = "" if device is None else f", {scaled(device, 'B')} of the GPU's"
    return f"memory      {peak} peak of the whole process{on_device}; weights {weights}, session {pages}"


def milliseconds(value: float) -> str:
    """Three digits of a time."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 999.5 else f"{value:.0f}"


def passes(count: int) -> str:
    """Format a number of passes, such as "2 passes"."""
    return plural(count, "pass", "passes")


def _count(value: float | None) -> str:
    return _optional(value, lambda count: f"{count:.0f}" if count == int(count) else f"{count:.1f}")
