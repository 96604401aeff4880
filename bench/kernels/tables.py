"""Tables of kernels for the terminal: compilation results, roofline bounds and measured times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genie_rt.bench.tables import print_warnings
from genie_rt.kernels.launch import Config
from genie_rt.runtime.tables import figure_table
from genie_rt.runtime.units import plural, scaled

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.bench.kernels.architectures import Architecture
    from genie_rt.bench.kernels.compile import CompileBody, Compiled
    from genie_rt.bench.kernels.times import KernelsBody, Timed
    from genie_rt.bench.kernels.tuning import Choice
    from genie_rt.bench.record import Record
    from genie_rt.kernels.cost import Cost


WIDTH = 200
"""Columns of characters that these tables need at least: a figure cut short is none."""


def print_compiled(console: Console, body: CompileBody, *, everything: bool) -> None:
    """Print the configurations in use, one per row, and the problems of all others."""
    table = figure_table(
        "kernel",
        "variant",
        "arch",
        "configuration",
        "registers",
        "stack B",
        "shared B",
        "of",
        "matrix",
        "load b",
    )
    for row in body.rows:
        if row.chosen:
            table.add_row(*_compiled(row), style=None if row.problem is None else "bold red")
    console.print(table)
    chosen = [row for row in body.rows if row.chosen]
    broken = [row for row in body.rows if row.problem is not None]
    console.print(f"\nTriton {body.triton}: {plural(len(chosen), 'configuration')} in use", end="")
    if everything:
        console.print(f", {len(body.rows)} in total, {len(broken)} of them flawed", end="")
    console.print()
    for row in broken:
        mark = "in use: " if row.chosen else ""
        where = f"{row.kernel} {row.variant} {row.architecture} {config_name(row.config)}"
        console.print(f"{where}: {mark}{row.problem}", style="yellow", soft_wrap=True)


def print_roofline(
    console: Console,
    costs: Sequence[tuple[str, str, Cost]],
    architectures: Sequence[Architecture],
    dtype: str,
) -> None:
    """Print a lower bound in microseconds for every case on every architecture's device."""
    columns = [f"{item.device}\nµs" for item in architectures]
    table = figure_table(f"{dtype}, least time", "case", "FLOP", "bytes", "FLOP/byte", *columns)
    rates = [
        {"flops_per_second": item.flops_per_second[dtype], "bytes_per_second": item.bytes_per_second}
        for item in architectures
    ]
    for op, case, cost in costs:
        times = [
            f"{1e6 * cost.seconds(**rate):.3g}" + ("*" if cost.bound_by(**rate) == "flops" else "")
            for rate in rates
        ]
        intensity = f"{cost.flops / cost.bytes:.1f}" if cost.bytes else "-"
        table.add_row(op, case, scaled(cost.flops, ""), scaled(cost.bytes, "B"), intensity, *times)
    console.print(table)
    console.print("\nfrom data sheets; * bound by matrix products, the others by memory\n")


def print_timed(console: Console, record: Record[KernelsBody]) -> None:
    """Print a record of kind "kernels"."""
    body = record.body
    copy = body.ceilings.copy.best or 0.0
    console.print(f"{record.header.device.model}, Triton {body.triton}, copies {scaled(copy, 'B/s')}\n")
    table = figure_table(
        "op", "case", "dtype", "µs", "p95", "rate", "% of ceiling", "error", "fastest other", "µs", "faster"
    )
    for row in body.rows:
        if row.failure is None:
            table.add_row(*_timed(row))
    console.print(table)
    for row in body.rows:
        if row.failure is not None:
            console.print(f"{row.op} {row.case} {row.dtype}: {row.failure}", style="bold red", soft_wrap=True)
    print_warnings(console, record.header.warnings)


def print_choice(console: Console, choice: Choice) -> None:
    """Print the chosen configurations."""
    table = figure_table("kernel", "variant", "configuration")
    for (kernel, variant), config in choice.items():
        table.add_row(kernel, variant, config_name(config))
    console.print(table)


def config_name(config: Config) -> str:
    """Name a configuration, such as "BLOCK_M=64 warps=4 stages=2"."""
    blocks = " ".join(f"{name}={value}" for name, value in config.blocks)
    return f"{blocks} warps={config.num_warps} stages={config.num_stages}".strip()


def _compiled(row: Compiled) -> tuple[str, ...]:
    return (
        row.kernel,
        row.variant,
        row.architecture,
        config_name(row.config),
        str(row.registers),
        str(row.stack_bytes),
        str(row.shared_bytes),
        str(row.shared_limit),
        " ".join(row.matrix_instructions) or "-",
        str(row.widest_load or "-"),
    )


def _timed(row: Timed) -> tuple[str, ...]:
    assert row.median_us is not None and row.percent is not None  # it has no failure
    seconds = row.median_us * 1e-6
    by_flops = row.bound_by == "flops"
    rate = scaled(row.cost.flops / seconds, "FLOP/s") if by_flops else scaled(row.cost.bytes / seconds, "B/s")
    best = row.strongest
    other = ("-", "-", "-")
    if best is not None and best.median_us is not None:
        other = (best.name, f"{best.median_us:.1f}", f"{best.median_us / row.median_us:.2f}x")
    return (
        row.op,
        row.case,
        row.dtype,
        f"{row.median_us:.1f}",
        f"{row.p95_us:.1f}",
        rate,
        f"{row.percent:.0f}%",
        f"{row.error:.1e}",
        *other,
    )
