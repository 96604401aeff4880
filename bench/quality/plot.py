"""The frontier as a picture: quality against passes and against milliseconds, one small plot per question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from genie_rt.bench.quality.measure import Protocol
from genie_rt.bench.quality.report import Baselines, QualityRow
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import REUSES, Plan
from genie_rt.training.evaluation.measure import DELTA_T

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLOURS = {"maskgit": "#0072B2", "adaptive": "#D55E00", "random": "#999999", "halton": "#009E73"}
"""Okabe and Ito's, which people of all colour visions tell apart."""

STYLES: dict[str, tuple[Literal["-", "--", ":"], str]] = {
    "none": ("-", "o"),
    "passes": ("--", "s"),
    "frames": (":", "^"),
}
NAMES = {"none": "no reuse", "passes": "reuse between passes", "frames": "reuse between frames"}

WIDTH, HEIGHT, DPI = 12.0, 7.6, 120
"""Inches and dots per inch; readable when shown 1200 pixels wide."""

NEAR = 40
"""Pixels between two marked points within which their names would lie on each other."""

Figure = Callable[[QualityRow], float | None]


def draw(
    path: Path,
    rows: Sequence[QualityRow],
    baselines: Baselines,
    protocol: Protocol,
    chosen: Mapping[str, Plan] = MappingProxyType({}),
    *,
    title: str,
) -> None:
    """Write the plot as a PNG, atomically.

    Above: PSNR after 4 and after 4W steps and likelihood against passes. Below: both PSNRs and the clip
    distance against the milliseconds of a frame, or against the passes that it took where nothing was timed.

    Args:
        chosen: plans to mark by name in the last plot.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 3)
    last = protocol.num_steps
    timed = all(row.ms is not None for row in rows)
    cost: Figure = (lambda row: row.ms) if timed else (lambda row: row.quality.passes)
    panels: list[tuple[Figure, Figure, str]] = [
        (_passes, lambda row: row.quality.psnr_at(DELTA_T), f"PSNR after {DELTA_T} steps [dB]"),
        (_passes, lambda row: row.quality.psnr_at(last), f"PSNR after {last} steps [dB]"),
        (_passes, _nll, "negative log-likelihood [nats / token]"),
        (cost, lambda row: row.quality.psnr_at(DELTA_T), f"PSNR after {DELTA_T} steps [dB]"),
        (cost, lambda row: row.quality.psnr_at(last), f"PSNR after {last} steps [dB]"),
        (cost, lambda row: row.quality.distance, "clip distance, lower is better"),
    ]
    for axes, (x, y, label) in zip(grid.flat, panels, strict=True):
        _curves(axes, rows, x, y)
        _dress(axes, [value for row in rows if (value := x(row))], against_passes=x is _passes, timed=timed)
        axes.set_title(label, loc="left", fontsize=10)
    for axes, t in ((grid[0, 0], DELTA_T), (grid[0, 1], last), (grid[1, 0], DELTA_T), (grid[1, 1], last)):
        _copying(axes, baselines.copy_at(t))
    _distances(grid[1, 2], rows, baselines, cost)
    _mark(grid[1, 2], rows, chosen, cost)
    figure.legend(handles=_legend(rows), loc="outside lower center", ncols=7, frameon=False, fontsize=9.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _passes(row: QualityRow) -> float:
    return float(row.plan.passes)


def _nll(row: QualityRow) -> float | None:
    return None if row.quality.nll is None else sum(row.quality.nll) / 2


def _curves(axes: Axes, rows: Sequence[QualityRow], x: Figure, y: Figure) -> None:
    for order in ORDERS:
        for reuse in REUSES:
            points = [
                (a, b)
                for row in rows
                if (row.plan.order, row.plan.reuse) == (order, reuse)
                and (a := x(row)) is not None
                and (b := y(row)) is not None
            ]
            if points:
                line, marker = STYLES[reuse]
                axes.plot(
                    *zip(*sorted(points), strict=True),
                    color=colour(order), linestyle=line, marker=marker, markersize=4, linewidth=1.3,
                )  # fmt: skip


def _dress(axes: Axes, values: Sequence[float], *, against_passes: bool, timed: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    ends = 0.88 * min(values), 1.14 * max(values)
    axes.set_xscale("log")
    axes.set_xlim(ends)
    if against_passes:
        axes.set_xticks(sorted(set(values)))
        axes.set_xlabel("passes per frame, K", fontsize=9)
    else:
        axes.set_xticks(_round_values(*ends))
        axes.set_xlabel("ms per frame, median" if timed else "passes that a frame took, mean", fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(labelsize=8.5)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _round_values(low: float, high: float) -> list[float]:
    """List axis ticks among 1, 2, 5, 10, 20, ... between `low` and `high`."""
    ladder = (digit * 10.0**power for power in range(-4, 8) for digit in (1, 2, 5))
    return [value for value in ladder if low <= value <= high]


def _copying(axes: Axes, value: float) -> None:
    """PSNR of copying the last real frame: a line near the curves, or words where it would flatten them."""
    low, high = axes.get_ylim()
    text = "copying"
    if low - (high - low) / 2 <= value:
        _level(axes, value, text)
        return
    axes.set_title(f"{text}: {value:.1f} dB", loc="right", fontsize=8, color="#555555")


def _level(axes: Axes, value: float, text: str, *, above: bool = True) -> None:
    """A dashed line across, with its name at the right."""
    axes.axhline(value, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        text, (1.0, value), xycoords=("axes fraction", "data"), xytext=(0, 3 if above else -3),
        textcoords="offset points", ha="right", va="bottom" if above else "top", fontsize=8, color="#555555",
    )  # fmt: skip


def _distances(axes: Axes, rows: Sequence[QualityRow], baselines: Baselines, x: Figure) -> None:
    """Noise bars, the floor with its noise, and what the tokenizer alone costs."""
    for row in rows:
        if (place := x(row)) is not None:
            axes.errorbar(
                place, row.quality.distance, row.quality.distance_noise,
                color=colour(row.plan.order), linewidth=0.8, alpha=0.6, zorder=1,
            )  # fmt: skip
    floor, noise = baselines.floor, baselines.floor_noise
    axes.axhspan(floor - noise, floor + noise, color="#cccccc", alpha=0.6, linewidth=0, zorder=0)
    _level(axes, floor, "real clips", above=False)
    if baselines.tokenized > floor + noise:
        _level(axes, baselines.tokenized, "real clips, tokenized")
    axes.set_ylim(bottom=0)


def _mark(axes: Axes, rows: Sequence[QualityRow], chosen: Mapping[str, Plan], x: Figure) -> None:
    """Rings around the recommended plans, each with its names; near ones below each other."""
    marked: list[tuple[float, float]] = []  # in pixels
    for plan in dict.fromkeys(chosen.values()):
        row = next(row for row in rows if row.plan == plan)
        if (place := x(row)) is None:
            continue
        point = (place, row.quality.distance)
        axes.plot(*point, marker="o", markersize=11, markerfacecolor="none", markeredgecolor="black")
        across, up = axes.transData.transform(point)
        near = sum(abs(across - other) < NEAR and abs(up - above) < NEAR for other, above in marked)
        marked.append((across, up))
        axes.annotate(
            ", ".join(name for name, other in chosen.items() if other == plan), point,
            xytext=(0, -9 - 12 * near), textcoords="offset points", ha="center", va="top", fontsize=8.5,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _legend(rows: Sequence[QualityRow]) -> list[Line2D]:
    """Colours of the orders and lines of the reuses that there are."""
    from matplotlib.lines import Line2D

    orders = {row.plan.order for row in rows}
    reuses = {row.plan.reuse for row in rows}
    entries = [
        Line2D([], [], color=colour(name), linewidth=2.5, label=name) for name in ORDERS if name in orders
    ]
    entries += [
        Line2D([], [], color="black", linestyle=STYLES[name][0], marker=STYLES[name][1], label=NAMES[name],
               markersize=4, linewidth=1.3)
        for name in REUSES
        if name in reuses
    ]  # fmt: skip
    return entries


def colour(order: str) -> str:
    """Colour of an order: those after the first four take matplotlib's."""
    return COLOURS.get(order) or f"C{list(ORDERS).index(order)}"
