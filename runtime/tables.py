"""How tables of figures look on the terminal: a rule below the header, names left, numbers right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def figure_table(title: str, *columns: str) -> Table:
    """An empty table of figures.

    Args:
        title: header of the first column, which names the rows.
        columns: headers of the others.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 0, 0, 1)
    )
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
