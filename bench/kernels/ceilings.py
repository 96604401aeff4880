"""Measured ceilings of a device: copy bandwidth, matrix product rate, operator launch time.

These are the ceilings that other figures are held against: a kernel that moves data cannot beat the copy, one
that multiplies cannot beat the best matrix product. Each is measured at several sizes, at each size as the
median of several repeats, and the best size counts. Matrices hold random numbers: on zeros a GPU draws less
power and clocks higher than it ever does at work.

On a CPU one call is timed with the clock of the host. On a GPU several calls are enqueued between two events,
whose distance the device itself measures, so the way there does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from genie_rt.bench.noise_check import Counters, disturbances
from genie_rt.bench.record import Record
from genie_rt.bench.timer import Times, synchronise
from genie_rt.errors import InputError
from genie_rt.runtime.backends.select import find_device

MIB = 2**20
COPY_BYTES = {"cpu": (64 * MIB, 128 * MIB, 256 * MIB), "cuda": (256 * MIB, 512 * MIB, 1024 * MIB)}
"""Size of one array: far larger than a cache, so that memory itself is measured."""

MATRIX_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
MATRIX_DTYPES = ("float32", "bfloat16", "float16", "int8")

MAX_CALL_S = 2.0
"""A product that takes longer is not repeated, nor are larger ones tried: the format is emulated here."""

LAUNCHES = 1000
CALLS_BETWEEN_EVENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Rate measured at one size.

    Attributes:
        size: bytes of an array for copies, rows of a square matrix for products.
        median_us: of one call.
        per_second: bytes read and written, or operations (a multiplication and an addition are two).
    """

    size: int
    median_us: float
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """Best rate over several sizes.

    Attributes:
        name: "copy", or the number format of a matrix product.
        points: one per size that was run; none where it cannot be run here.
        skipped: why it cannot, None where it could.
    """

    name: str
    points: tuple[Point, ...]
    skipped: str | None = None

    @property
    def best(self) -> float | None:
        """Bytes or operations per second."""
        return max((point.per_second for point in self.points), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingsBody:
    """The ceilings of one device.

    Attributes:
        copy: bytes per second, those read and those written counted both.
        matrices: operations per second, by number format.
        launch_us: of the smallest operator, called again and again; on a GPU without waiting for it.
    """

    KIND: ClassVar[str] = "ceilings"

    copy: Ceiling
    matrices: tuple[Ceiling, ...]
    launch_us: float

    def matrix(self, dtype: str) -> Ceiling:
        """Return the matrix product ceiling in one precision."""
        return next(ceiling for ceiling in self.matrices if ceiling.name == dtype)


def measure_ceilings(
    name: str,
    *,
    command: str,
    repeats: int = 7,
    copy_bytes: Sequence[int] | None = None,
    sides: Sequence[int] | None = None,
    on_point: Callable[[], object] | None = None,
) -> Record[CeilingsBody]:
    """Measure the ceilings of a device; takes half a minute on two CPU cores.

    Args:
        name: of a torch device, "cpu" or "cuda".
        repeats: timed calls (groups of calls on a GPU) per size, after one that is not.
        copy_bytes, sides: sizes to run, those of the device's kind unless given.
        on_point: called after every size.

    Raises:
        InputError: there is nothing to repeat.
        UnsupportedError: this machine has no such device.
    """
    if repeats < 1:
        raise InputError(f"expected 1 or more repeats, found {repeats}")
    device = find_device(name)
    before = Counters.read()
    kind = device.type
    copy_bytes, sides = copy_bytes or COPY_BYTES[kind], sides or MATRIX_SIDES[kind]
    bench = _Bench(device, repeats, on_point or (lambda: None))
    body = CeilingsBody(
        copy=bench.copy(copy_bytes),
        matrices=tuple(bench.matrix(dtype, sides) for dtype in MATRIX_DTYPES),
        launch_us=bench.launch_us(),
    )
    warnings = disturbances(before, Counters.read(), bench.times)
    return Record.take(body, command=command, device=name, warnings=warnings)


class _Bench:
    """Measures one device.

    Attributes:
        times: what the largest copy took, for a look at the machine's drift.
    """

    def __init__(self, device: torch.device, repeats: int, on_point: Callable[[], object]) -> None:
        self.device = device
        self.repeats = repeats
        self.on_point = on_point
        self.times: dict[str, Times] = {}
        self.generator = torch.Generator(device).manual_seed(0)

    def copy(self, sizes: Sequence[int]) -> Ceiling:
        points = []
        for num_bytes in sizes:
            source = torch.empty(num_bytes, dtype=torch.uint8, device=self.device)
            source.random_(0, 256, generator=self.generator)
            target = torch.zeros_like(source)
            taken = self._repeat(partial(target.copy_, source))
            self.times = {"copy": Times(run_ns=tuple(taken), after_ns=(0,) * len(taken))}
            points.append(_point(num_bytes, taken, 2 * num_bytes))
            self.on_point()
        return Ceiling(name="copy", points=tuple(points))

    def matrix(self, dtype: str, sides: Sequence[int]) -> Ceiling:
        points: list[Point] = []
        for side in sides:
            try:
                taken = self._repeat(self._product(dtype, side))
            except (RuntimeError, AttributeError) as error:  # no kernel here, or none of that name any more
                return Ceiling(name=dtype, points=tuple(points), skipped=_reason(error))
            points.append(_point(side, taken, 2 * side**3))
            self.on_point()
            if statistics.median(taken) > MAX_CALL_S * 1e9:
                break
        return Ceiling(name=dtype, points=tuple(points))

    def launch_us(self) -> float:
        x = torch.zeros(1, device=self.device)

        def launch_all() -> None:
            for _ in range(LAUNCHES):
                x.add_(1)

        taken = []
        for _ in range(1 + self.repeats):
            synchronise(self.device)
            start = time.perf_counter_ns()
            launch_all()
            taken.append((time.perf_counter_ns() - start) / LAUNCHES)
        synchronise(self.device)
        return statistics.median(taken[1:]) / 1e3

    def _product(self, dtype: str, side: int) -> Callable[[], object]:
        """Return a function that multiplies two square matrices of random numbers."""
        if dtype == "int8":
            a, b = (self._random(side).mul(40).clamp(-127, 127).to(torch.int8) for _ in range(2))
            multiply: Callable[[Tensor, Tensor], Tensor] = torch._int_mm  # private, and the only one there is
            columns = b.t().contiguous().t()  # the layout that a GPU's int8 units want
            return lambda: multiply(a, columns)
        a, b = (self._random(side).to(getattr(torch, dtype)) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    def _random(self, side: int) -> Tensor:
        return torch.randn(side, side, device=self.device, generator=self.generator)

    def _repeat(self, call: Callable[[], object]) -> list[int]:
        """Nanoseconds of single calls, after one that does not count; one only where that one was slow."""
        taken = self._time(call)
        if taken > MAX_CALL_S * 1e9:
            return [taken]
        return [self._time(call) for _ in range(self.repeats)]

    def _time(self, call: Callable[[], object]) -> int:
        if self.device.type != "cuda":
            start = time.perf_counter_ns()
            call()
            return time.perf_counter_ns() - start
        with torch.cuda.device(self.device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(CALLS_BETWEEN_EVENTS):
                call()
            end.record()
            end.synchronize()
            return round(begin.elapsed_time(end) * 1e6 / CALLS_BETWEEN_EVENTS)


def _point(size: int, taken: Sequence[int], work: int) -> Point:
    median_ns = max(statistics.median(taken), 1)
    return Point(size=size, median_us=median_ns / 1e3, per_second=work * 1e9 / median_ns)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:200]
