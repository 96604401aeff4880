"""`genie-rt bench`, `bench ceilings`, `bench long`, `bench peek` and `genie-rt verify`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from genie_rt.bench.command_line import console, progress, words, write
from genie_rt.errors import InputError
from genie_rt.runtime.flags import check_file, set_threads

if TYPE_CHECKING:
    from genie_rt.bench.latency.frame_record import FrameBody
    from genie_rt.bench.parity.verify import Parity, Variant
    from genie_rt.bench.record import Record
    from genie_rt.runtime.plan import Plan
    from genie_rt.runtime.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """Latency of a frame, from the action to the picture, beside the paper's recipe and torch.compile.

    All rows are measured in one process, one frame each in turn, with the same weights, passes and threads.
    Without a checkpoint: --preset NAME --random-weights.
    Other measurements: genie-rt bench ceilings, kernels, long, peek, quality.
    """

    bundle: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[BUNDLE]")]] = None
    """Name of a bundle that came with genie-rt, or the folder of any other; demo unless given."""

    preset: str | None = None
    """Measure a world of this preset's sizes in place of a bundle; with --random-weights."""

    random_weights: bool = False
    """That it has random weights, made on the device: they change no time. With --preset."""

    plan: str = "default"
    """A plan of the bundle."""

    passes: int | None = None
    """Passes per frame; those of the plan unless set."""

    iterations: int = 60
    """Frames that count, of each row, at least."""

    duration: float = 3.0
    """Seconds that the frames that count go on, at least."""

    warm_up: Annotated[int, tyro.conf.arg(aliases=["--warmUp"])] = 2000
    """Milliseconds that frames go on before them, which do not count."""

    percentile: tuple[float, ...] = (50, 90, 95, 99)
    """Percentiles to print."""

    sweep: tuple[int | Literal["none"], ...] = (1, 2, 4, 8)
    """Passes per frame to compare with each other afterwards, such as --sweep 1 4; none leaves that out."""

    compare_plans: bool = False
    """Compare all plans of the bundle with each other afterwards."""

    baseline: bool = True
    """Time the paper's recipe too: the last frames recomputed in each pass."""

    compiled: tyro.conf.DisallowNone[bool | None] = None
    """Time the same model under torch.compile too, which first compiles for minutes; on a GPU unless said."""

    versus: tyro.conf.DisallowNone[tuple[str, ...] | None] = None
    """Other back ends to time beside it, as BACKEND:DTYPE; reference unless said, where that is another."""

    backend: str = "auto"
    """Back end that computes the frames."""

    dtype: str = "auto"
    """Number format that the back end computes in."""

    device: str | None = None
    """Device that the back end computes on; its own unless set."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    export_times: Annotated[Path | None, tyro.conf.arg(aliases=["--exportTimes"])] = None
    """JSON file for the times of every frame."""

    json: Path | None = None
    """JSON file for the whole record: times, machine, versions, bundle, command."""

    def run(self) -> None:
        from genie_rt.bench.latency.frame_record import COMPARED, COMPILED, VERSUS
        from genie_rt.bench.series import write_times
        from genie_rt.bench.tables import print_frames

        self._sweep()
        for q in self.percentile:
            if not 0 < q <= 100:
                raise InputError(f"--percentile: expected numbers above 0 and up to 100, found {q:g}")
        self._check_source()
        check_file("--export-times", self.export_times)
        check_file("--json", self.json)
        record = self._measure()
        print_frames(console(), record, self.percentile)
        write(self.json, record)
        if self.export_times is not None:
            compared = [
                series
                for series in record.body.series
                if series.name in (*COMPARED, COMPILED) or series.name.startswith(VERSUS)
            ]
            write_times(self.export_times, compared)
            print(f"wrote {self.export_times}")

    def _check_source(self) -> None:
        """A bundle, or a preset with random weights."""
        if self.preset is not None and self.bundle is not None:
            raise InputError(
                f"expected a bundle or --preset, found {self.bundle!r} and {self.preset!r}; leave one out"
            )
        if self.preset is not None and not self.random_weights:
            raise InputError(
                "--preset: expected --random-weights beside it, for a preset has sizes and no weights; or "
                "name a bundle to measure"
            )
        if self.preset is None and self.random_weights:
            raise InputError(
                "--random-weights: expected --preset beside it, for their sizes, such as --preset coinrun"
            )

    def _sweep(self) -> tuple[int, ...]:
        passes = tuple(value for value in self.sweep if value != "none")
        if "none" in self.sweep and len(self.sweep) > 1:
            raise InputError(f"--sweep: expected passes such as 1 4, or none alone, found {self.sweep}")
        return passes

    def _words(self) -> str:
        """The command again; a bundle stands by its place."""
        command = words("bench", replace(self, bundle=None))
        if self.preset is not None:
            return command
        return command.replace("genie-rt bench", shlex.join(["genie-rt", "bench", self._bundle]), 1)

    @property
    def _bundle(self) -> str:
        return "demo" if self.bundle is None else self.bundle

    def _measure(self) -> Record[FrameBody]:
        start = time.perf_counter_ns()
        from genie_rt.bench.latency.frame import FrameBench, bench_frames

        import_ms = (time.perf_counter_ns() - start) / 1e6
        set_threads(self.threads)
        bench = FrameBench(
            source=None if self.preset is not None else self._bundle,
            preset=self.preset,
            plan=self.plan,
            passes=self.passes,
            iterations=self.iterations,
            duration_s=self.duration,
            warm_up_s=self.warm_up / 1e3,
            sweep=self._sweep(),
            compare_plans=self.compare_plans,
            baseline=self.baseline,
            compiled=self.compiled,
            versus=self.versus,
            backend=self.backend,
            dtype=self.dtype,
            device=self.device,
        )
        with progress("measuring") as on_round:
            return bench_frames(bench, import_ms=import_ms, command=self._words(), on_round=on_round)


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingsCommand:
    """The most that this device gives: bytes copied, matrices multiplied, operators launched per second."""

    device: str = "cpu"
    """Device to measure."""

    repeats: int = 7
    """Timed calls of each size; their median counts."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    json: Path | None = None
    """JSON file for the whole record."""

    def run(self) -> None:
        from genie_rt.bench.kernels.ceilings import measure_ceilings
        from genie_rt.bench.tables import print_ceilings

        check_file("--json", self.json)
        set_threads(self.threads)
        with progress("measuring") as on_point:
            record = measure_ceilings(
                self.device, command=words("bench ceilings", self), repeats=self.repeats, on_point=on_point
            )
        print_ceilings(console(), record)
        write(self.json, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongCommand:
    """Memory and latency over a long rollout: both should stay flat.

    Fails where memory does not. Latency is told, and no failure: others may use the machine.
    """

    bundle: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[BUNDLE]")]] = None
    """Name of a bundle that came with genie-rt, or the folder of any other, as in `genie-rt bench long demo`;
    a small model with random weights unless given."""

    steps: int = 100_000
    """Steps of the rollout."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    json: Path | None = None
    """JSON file for the whole record."""

    def run(self) -> int:
        from genie_rt.bench.latency.long import WINDOWS, play_long, small_world
        from genie_rt.bench.tables import print_long
        from genie_rt.runtime.world import World

        check_file("--json", self.json)
        set_threads(self.threads)
        world = small_world() if self.bundle is None else World.load(self.bundle)
        with progress("playing", WINDOWS) as on_window:
            record = play_long(
                world, world.plan(), steps=self.steps, device="cpu", command=words("bench long", self),
                on_window=on_window,
            )  # fmt: skip
        print_long(console(), record)
        write(self.json, record)
        return 0 if record.body.is_memory_flat else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PeekCommand:
    """What it costs to see all futures at once, beside stepping each action alone."""

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""

    plan: str = "default"
    """A plan of the bundle."""

    passes: int | None = None
    """Passes per frame; those of the plan unless set."""

    iterations: int = 20
    """Rounds that count, at least."""

    duration: float = 3.0
    """Seconds that they go on, at least."""

    warm_up: Annotated[int, tyro.conf.arg(aliases=["--warmUp"])] = 2000
    """Milliseconds that rounds go on before them, which do not count."""

    backend: str = "auto"
    """Back end that computes the frames."""

    dtype: str = "auto"
    """Number format that the back end computes in."""

    device: str | None = None
    """Device that the back end computes on; its own unless set."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    json: Path | None = None
    """JSON file for the whole record."""

    def run(self) -> None:
        from genie_rt.bench.latency.peek import bench_peek
        from genie_rt.bench.tables import print_peek
        from genie_rt.runtime.world import World

        check_file("--json", self.json)
        set_threads(self.threads)
        world = World.load(self.bundle, backend=self.backend, dtype=self.dtype, device=self.device)
        with progress("measuring") as on_round:
            record = bench_peek(
                world, _plan(world, self.plan, passes=self.passes), command=words("bench peek", self),
                iterations=self.iterations, duration_s=self.duration, warm_up_s=self.warm_up / 1e3,
                on_round=on_round,
            )  # fmt: skip
        print_peek(console(), record)
        write(self.json, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCommand:
    """Every back end and number format of this machine against the yardstick, which is float64.

    Each is given the yardstick's tokens in every pass, so that both see the same input. Fails where anything
    is further off than its number format explains.
    """

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""

    frames: int = 32
    """Frames to compare."""

    plan: str = "default"
    """A plan of the bundle; what it says about reuse is left out."""

    passes: int | None = None
    """Passes per frame; those of the plan unless set."""

    temperature: float | None = None
    """Temperature that tokens are sampled at; the plan's unless set."""

    backend: str | None = None
    """Compare this back end only."""

    dtype: str | None = None
    """Compare this number format only."""

    device: str = "cpu"
    """Device that the candidates compute on."""

    iterations: int = 10
    """Frames of each to time; 0 for none."""

    threads: int | None = None
    """CPU threads to compute with; all unless set."""

    json: Path | None = None
    """JSON file for the whole record."""

    def run(self) -> int:
        from genie_rt.bench.noise_check import Counters, disturbances
        from genie_rt.bench.parity.verify import YARDSTICK, VerifyBody, runnable, variants
        from genie_rt.bench.record import Record, Subject
        from genie_rt.bench.tables import print_parity
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.world import World

        check_file("--json", self.json)
        set_threads(self.threads)
        before = Counters.read()
        graphs = open_bundle(self.bundle).graphs
        known = variants(self.device, graphs)
        asked = [
            variant
            for variant in known
            if self.backend in (None, variant.backend) and self.dtype in (None, variant.dtype)
        ]
        if not asked:
            names = ", ".join(f"{item.backend} {item.dtype}" for item in known)
            remedy = "" if graphs else "; `genie-rt export BUNDLE --out NEW --onnx` writes graphs for others"
            raise InputError(f"there is nothing of that kind to compare; {self.device} has {names}{remedy}")
        asked, left_out = runnable(asked)
        yardstick = World.load(
            self.bundle, backend=YARDSTICK.backend, dtype=YARDSTICK.dtype, device=YARDSTICK.device
        )
        plan = _plan(yardstick, self.plan, passes=self.passes, temperature=self.temperature)
        with progress("comparing", len(asked) * self.frames) as on_frame:
            rows = tuple(self._compare(yardstick, variant, plan, on_frame) for variant in asked)
        body = VerifyBody(subject=Subject.of(yardstick), plan=plan, frames=self.frames, rows=rows)
        warnings = left_out + body.remarks()
        if self.iterations:
            warnings += disturbances(before, Counters.read())
        record = Record.take(body, command=words("verify", self), device=self.device, warnings=warnings)
        print_parity(console(), record)
        write(self.json, record)
        return 0 if body.passed else 1

    def _compare(
        self, yardstick: World, variant: Variant, plan: Plan, on_frame: Callable[[], object]
    ) -> Parity:
        from genie_rt.bench.parity.verify import compare
        from genie_rt.runtime.world import World

        candidate = World.load(
            self.bundle, backend=variant.backend, dtype=variant.dtype, device=variant.device
        )
        return compare(
            yardstick, candidate, variant, plan=plan, frames=self.frames, iterations=self.iterations,
            on_frame=on_frame,
        )  # fmt: skip


def _plan(world: World, name: str, **changes: Any) -> Plan:
    """A plan of the world, with the changes that are set."""
    return world.plan(name, **{key: value for key, value in changes.items() if value is not None})
