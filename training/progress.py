"""Output of a training run: progress bar or plain lines, and TensorBoard files. First process only."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint


class Reporter:
    """Shows and records metrics of one run; does nothing at all where `active` is False.

    Args:
        out: TensorBoard files go to `out/tensorboard`; entries past `start` from an earlier, killed run
            are hidden.
        start: finished steps when this process begins.
        steps: where the run ends.

    Raises:
        UnsupportedError: TensorBoard is not installed.
    """

    def __init__(self, out: Path, *, start: int, steps: int, active: bool) -> None:
        self._active = active
        self._steps = steps
        self._last_step, self._last_time = start, time.perf_counter()
        self._bar: Progress | None = None
        self._writer: Any = None
        if not active:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UnsupportedError(f"TensorBoard is missing: {install_hint('train')}") from error
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=start or None)
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
            )
            self._task = self._bar.add_task("train", total=steps, completed=start, metrics="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            with contextlib.suppress(OSError):  # the checkpoint before it is what counts
                self._writer.close()

    def advance(self, step: int) -> None:
        """`step` steps are finished: move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def log(
        self, step: int, metrics: dict[str, float], heldout: Mapping[str, float], heldout_line: str
    ) -> None:
        """Record and show one log line.

        Args:
            step: number of finished steps.
            metrics: averages over the steps since the last call; "loss" is among them.
            heldout: figures on held-out clips, empty where there are none.
            heldout_line: these as a line of text.
        """
        if not self._active:
            return
        now = time.perf_counter()
        rate = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        held = {f"heldout/{name}": value for name, value in heldout.items()}
        self._record(step, {**metrics, **held, "steps_per_second": rate})
        below = f"\n{heldout_line}" if heldout_line else ""
        if self._bar is not None:
            self._bar.update(self._task, metrics=f"loss {metrics['loss']:.4g}  {rate:.3g} it/s{below}")
        else:
            text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()) + f"  {rate:.3g} it/s"
            left = (self._steps - step) / max(rate, 1e-9)
            print(f"step {step}/{self._steps}  {text}  {_duration(left)} left{below}", flush=True)

    def draw(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Record pictures `[h, w, 3]` uint8 by name."""
        for name, picture in pictures.items():
            self._write(lambda writer, *of: writer.add_image(*of, step, dataformats="HWC"), name, picture)

    def _record(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._write(lambda writer, *of: writer.add_scalar(*of, step), name, value)

    def _write(self, add: Callable[..., object], name: str, value: object) -> None:
        """Let TensorBoard's writer add something; where the disk fails the run goes on without it."""
        if self._writer is None:
            return
        try:
            add(self._writer, name, value)
        except OSError as error:
            self._writer = None
            self.say(f"TensorBoard's files cannot be written ({error.strerror or error}); going on without")

    def say(self, message: str) -> None:
        """Print one line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False)
        elif self._active:
            print(message, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
