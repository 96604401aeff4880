"""`genie-rt bench`."""

from __future__ import annotations

import dataclasses
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from genie_rt.errors import InputError

if TYPE_CHECKING:
    from genie_rt.bench.record import Record

_OUTPUTS = ("export_times", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """Latency of a frame, from the action to the picture, beside the paper's recipe.

    All rows are measured in one process, one frame each in turn, with the same weights, passes and threads.
    """

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""

    passes: int | None = None
    """Passes per frame; those of the bundle's default plan unless set."""

    iterations: int = 60
    """Frames that count, of each row."""

    warm_up: Annotated[int, tyro.conf.arg(aliases=["--warmUp"])] = 10
    """Frames before them, which do not."""

    percentile: tuple[float, ...] = (50, 95, 99)
    """Percentiles to print."""

    sweep: tuple[int, ...] = (1, 2, 4, 8)
    """Passes per frame to compare with each other afterwards; none, to leave that out."""

    baseline: bool = True
    """Time the paper's recipe too: the last frames recomputed in each pass."""

    backend: str = "auto"
    """Back end that computes the frames."""

    dtype: str = "float32"
    """Number format that the back end computes in."""

    device: str = "cpu"
    """Device that the back end computes on."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    export_times: Annotated[Path | None, tyro.conf.arg(aliases=["--exportTimes"])] = None
    """JSON file for the times of every frame."""

    json: Path | None = None
    """JSON file for the whole record: times, machine, versions, bundle, command."""

    def run(self) -> None:
        from rich.console import Console

        from genie_rt.bench.tables import print_record

        for q in self.percentile:
            if not 0 < q <= 100:
                raise InputError(f"--percentile: expected numbers above 0 and up to 100, found {q:g}")
        record = self._measure()
        print_record(Console(highlight=False, markup=False), record, self.percentile)
        self._write(record)

    def _measure(self) -> Record:
        from rich.console import Console
        from rich.progress import Progress

        start = time.perf_counter_ns()
        from genie_rt.bench.frame import FrameBench, bench_frames

        import_ms = (time.perf_counter_ns() - start) / 1e6
        if self.threads is not None:
            _set_threads(self.threads)
        bench = FrameBench(
            source=self.bundle,
            passes=self.passes,
            iterations=self.iterations,
            warm_up=self.warm_up,
            sweep=self.sweep,
            baseline=self.baseline,
            backend=self.backend,
            dtype=self.dtype,
            device=self.device,
        )
        console = Console(stderr=True)
        with Progress(console=console, transient=True, auto_refresh=False) as progress:  # no second thread
            task = progress.add_task("measuring", total=bench.num_rounds)
            return bench_frames(
                bench,
                import_ms=import_ms,
                command=self._words(),
                on_round=lambda: progress.update(task, advance=1, refresh=console.is_terminal),
            )

    def _words(self) -> str:
        """The command that measures the same again, without the files that it wrote."""
        words = ["genie-rt", "bench", self.bundle]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "bundle" or field.name in _OUTPUTS or value == field.default:
                continue
            flag = field.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            elif isinstance(value, tuple):
                words += [f"--{flag}", *(f"{item:g}" for item in value)]
            else:
                words += [f"--{flag}", str(value)]
        return shlex.join(words)

    def _write(self, record: Record) -> None:
        from genie_rt.bench.record import COMPARED, write_record, write_times

        if self.json is not None:
            write_record(self.json, record)
            print(f"wrote {self.json}")
        if self.export_times is not None:
            write_times(self.export_times, [item for item in record.series if item.name in COMPARED])
            print(f"wrote {self.export_times}")


def _set_threads(num_threads: int) -> None:
    import torch

    if not 1 <= num_threads <= 1024:
        raise InputError(f"--threads: expected a whole number from 1 to 1024, found {num_threads}")
    torch.set_num_threads(num_threads)
