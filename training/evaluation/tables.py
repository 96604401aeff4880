"""Look of the report's tables, and how figures and their intervals are written."""

from collections.abc import Iterable

from rich.table import Table

from genie_rt.training.evaluation.intervals import Interval
from genie_rt.training.evaluation.metrics import Psnr

MIN_WIDTH = 72
"""Least width of a table: titles and captions wrap at their table's."""


def make_table(title: str, columns: Iterable[str], caption: str) -> Table:
    """Make an empty table: names on the left, numbers on the right."""
    table = Table(title=title, title_justify="left", title_style="bold", caption=caption, min_width=MIN_WIDTH)
    table.caption_justify, table.caption_style = "left", ""
    first, *others = columns
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def plus_minus(value: float | None, interval: Interval | None, decimals: int = 1, sign: str = "") -> str:
    """Write a figure with half the length of its 95% interval, such as "17.6 ±0.4"; "-" for none.

    Args:
        sign: "+" shows the sign of positive figures too.
    """
    if value is None:
        return "-"
    text = f"{value:{sign}.{decimals}f}"
    return text if interval is None else f"{text} ±{half_width(interval):.{decimals}f}"


def half_width(interval: Interval) -> float:
    """Half the length of an interval."""
    return (interval[1] - interval[0]) / 2


def both(psnr: Psnr) -> str:
    """Write the pooled PSNR and the mean one, such as "17.6 ±0.4 / 21.8 ±0.7"."""
    pooled = plus_minus(psnr.pooled_db, psnr.pooled_db_interval)
    return f"{pooled} / {plus_minus(psnr.mean_db, psnr.mean_db_interval)}"


def share(successes: int, total: int, interval: Interval | None) -> str:
    """Write a share with both ends of its interval, such as "92% [86, 96]"; "-" of nothing."""
    if not total or interval is None:
        return "-"
    return f"{successes / total:.0%} [{interval[0] * 100:.0f}, {interval[1] * 100:.0f}]"
