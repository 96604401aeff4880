"""Shared parts of the measuring commands: command line for the record, progress bar, written record."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.bench.record import BodyT, Record

_OUTPUTS = ("export_times", "json")
"""Fields of a command that say where its results go."""


def words(name: str, command: Any) -> str:
    """Format the command line that repeats a measurement, without its output files."""
    found = ["genie-rt", *name.split()]
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if field.name == "bundle":
            found += [] if value is None else [value]  # by place
            continue
        if field.name in _OUTPUTS or value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            found += [f"--{flag}", *(item if isinstance(item, str) else f"{item:g}" for item in value)]
        else:
            found += [f"--{flag}", str(value)]
    return shlex.join(found)


def console(least_width: int = 0) -> Console:
    """Open the terminal, at least `least_width` wide: a narrower one wraps lines itself, so none is cut."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False)
    if terminal.width < least_width:
        terminal.width = least_width
    return terminal


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    """Show a progress bar, without a thread of its own; yields a function that advances it by one."""
    from rich.console import Console
    from rich.progress import Progress

    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.update(task, advance=1, refresh=terminal.is_terminal)


def write(path: Path | None, record: Record[BodyT]) -> None:
    from genie_rt.bench.record import write_record

    if path is not None:
        write_record(path, record)
        print(f"wrote {path}")
