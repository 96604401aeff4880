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
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file, set_threads

if TYPE_CHECKING:
    from genie_rt.bench.latency.frame_record import FrameBody
    from genie_rt.bench.parity.verify import Parity, Variant
    from genie_rt.bench.record import Record
    from genie_rt.runtime.plan import Plan
    from genie_rt.runtime.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """Measure frame latency from action to picture, next to the paper's recipe and torch.compile.

    All rows are measured in one process, taking turns frame by frame, with the same weights, number of passes
    and threads. To measure a model size without a checkpoint, use --preset with --random-weights.

    Flags can also be spelled in camelCase as in trtexec: --warmUp, --exportTimes. Other benchmarks are
    `genie-rt bench ceilings`, `kernels`, `long`, `peek` and `quality`.

    Examples:
        genie-rt bench --versus reference:float32 onnx:float32 --json record.json
        genie-rt bench --preset coinrun --random-weights --passes 4
    """

    bundle: tyro.conf.Positional[Annotated[str | None, shown(default="demo", metavar="[BUNDLE]")]] = None
    """Name of a shipped bundle, or path of a bundle folder."""

    preset: Annotated[str | None, shown(default="none")] = None
    """Measure a model with the sizes of this preset instead of a bundle. Needs --random-weights."""

    random_weights: bool = False
    """Use random weights; timing does not depend on them. Needs --preset."""

    plan: str = "default"
    """Name of the bundle's decoding plan to measure."""

    passes: Annotated[int | None, shown(default="the plan's")] = None
    """MaskGIT passes per frame."""

    iterations: int = 60
    """Minimum number of measured frames per row."""

    duration: float = 3.0
    """Minimum measuring time in seconds."""

    warm_up: int = 2000
    """Warm-up time before measuring, in milliseconds."""

    percentile: Annotated[tuple[float, ...], shown(metavar="P ...")] = (50, 90, 95, 99)
    """Percentiles to print."""

    sweep: Annotated[tuple[int | Literal["none"], ...], shown(metavar="K ...|none")] = (1, 2, 4, 8)
    """Numbers of passes per frame to compare afterwards, such as --sweep 1 4; none skips this."""

    compare_plans: bool = False
    """Also compare all plans of the bundle."""

    baseline: bool = True
    """Also time the paper's recipe, which recomputes the whole window of frames in every pass."""

    compiled: Annotated[tyro.conf.DisallowNone[bool | None], shown(default="on a GPU only")] = None
    """Also time the same model under torch.compile, which takes minutes to compile first."""

    versus: Annotated[
        tyro.conf.DisallowNone[tuple[str, ...] | None],
        shown(default="reference, unless --backend is reference", metavar="BACKEND:DTYPE ..."),
    ] = None
    """Other back ends to time alongside."""

    backend: str = "auto"
    """Back end to compute with: reference, cuda, onnx, openvino, tensorrt, tensorrt-rtx, or auto."""

    dtype: str = "auto"
    """Precision to compute in, such as float32 or bfloat16; auto takes the fastest."""

    device: Annotated[str | None, shown(default="the back end's")] = None
    """Device to compute on, such as cpu or cuda."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    export_times: Annotated[Path | None, shown(default="none written")] = None
    """JSON file for the time of every frame."""

    json: Annotated[Path | None, shown(default="none written")] = None
    """JSON file for the whole record: times, machine, versions, bundle and command."""

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
        """Refuse anything but a bundle, or a preset with random weights."""
        if self.preset is not None and self.bundle is not None:
            raise InputError(
                f"expected a bundle or --preset, found {self.bundle!r} and {self.preset!r}; leave one out"
            )
        if self.preset is not None and not self.random_weights:
            raise InputError(
                "--preset: expected --random-weights too, since a preset has sizes and no weights; or "
                "name a bundle to measure"
            )
        if self.preset is None and self.random_weights:
            raise InputError(
                "--random-weights: expected --preset too, for the model's sizes, such as --preset coinrun"
            )

    def _sweep(self) -> tuple[int, ...]:
        passes = tuple(value for value in self.sweep if value != "none")
        if "none" in self.sweep and len(self.sweep) > 1:
            raise InputError(f"--sweep: expected passes such as 1 4, or none alone, found {self.sweep}")
        return passes

    def _words(self) -> str:
        """Format this command line, the bundle first."""
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
    """Measure the ceilings of a device: memory copies, matrix products and operator launches per second.

    Examples:
        genie-rt bench ceilings --threads 1
        genie-rt bench ceilings --device cuda --json ceilings.json
    """

    device: str = "cpu"
    """Device to measure, such as cpu or cuda."""

    repeats: int = 7
    """Timed calls per size; the median is reported."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    json: Annotated[Path | None, shown(default="none written")] = None
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
    """Check over a long rollout that memory and latency stay flat.

    Exits with 1 if memory grows. Latency is reported only, since other processes may disturb it.

    Examples:
        genie-rt bench long
        genie-rt bench long demo --steps 10000
    """

    bundle: tyro.conf.Positional[
        Annotated[str | None, shown(default="a small model with random weights", metavar="[BUNDLE]")]
    ] = None
    """Name of a shipped bundle, or path of a bundle folder."""

    steps: int = 100_000
    """Number of steps."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    json: Annotated[Path | None, shown(default="none written")] = None
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
    """Compare computing the next frame of all actions in one batch with stepping each action on its own.

    Examples:
        genie-rt bench peek
        genie-rt bench peek demo --passes 1 --json peek.json
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""

    plan: str = "default"
    """Name of the bundle's decoding plan to measure."""

    passes: Annotated[int | None, shown(default="the plan's")] = None
    """MaskGIT passes per frame."""

    iterations: int = 20
    """Minimum number of measured rounds."""

    duration: float = 3.0
    """Minimum measuring time in seconds."""

    warm_up: int = 2000
    """Warm-up time before measuring, in milliseconds."""

    backend: str = "auto"
    """Back end to compute with: reference, cuda, onnx, openvino, tensorrt, tensorrt-rtx, or auto."""

    dtype: str = "auto"
    """Precision to compute in, such as float32 or bfloat16; auto takes the fastest."""

    device: Annotated[str | None, shown(default="the back end's")] = None
    """Device to compute on, such as cpu or cuda."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    json: Annotated[Path | None, shown(default="none written")] = None
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
    """Compare every back end and precision available on this machine with the float64 reference.

    In every pass each back end is given the reference's tokens, so errors do not accumulate. Exits with 1 if
    a result differs by more than its precision explains.

    Examples:
        genie-rt verify
        genie-rt verify demo --backend onnx --frames 8
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""

    frames: int = 32
    """Number of frames to compare."""

    plan: str = "default"
    """Name of the bundle's decoding plan to use; its reuse setting is ignored."""

    passes: Annotated[int | None, shown(default="the plan's")] = None
    """MaskGIT passes per frame."""

    temperature: Annotated[float | None, shown(default="the plan's")] = None
    """Sampling temperature."""

    backend: Annotated[str | None, shown(default="all")] = None
    """Compare only this back end."""

    dtype: Annotated[str | None, shown(default="all")] = None
    """Compare only this precision."""

    device: str = "cpu"
    """Device to compute on; the float64 reference always runs on the CPU."""

    iterations: int = 10
    """Number of frames to time per back end and precision; 0 skips timing."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    json: Annotated[Path | None, shown(default="none written")] = None
    """JSON file for the whole record."""

    def run(self) -> int:
        from genie_rt.bench.noise_check import Counters, disturbances
        from genie_rt.bench.parity.verify import YARDSTICK, VerifyBody, runnable, variants
        from genie_rt.bench.record import Record, Subject
        from genie_rt.bench.tables import print_parity
        from genie_rt.runtime.backends.select import Holdings
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.world import World

        check_file("--json", self.json)
        set_threads(self.threads)
        before = Counters.read()
        holdings = Holdings.of(open_bundle(self.bundle))
        known = variants(self.device, holdings)
        asked = [
            variant
            for variant in known
            if self.backend in (None, variant.backend) and self.dtype in (None, variant.dtype)
        ]
        if not asked:
            names = ", ".join(f"{item.backend} {item.dtype}" for item in known)
            writes = "`genie-rt export BUNDLE --out NEW --onnx` writes graphs for others"
            remedy = "" if holdings.graphs else f"; {writes}"
            raise InputError(f"nothing of that kind to compare; {self.device} has {names}{remedy}")
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
    """Return a plan of the world, with the changes that are not None."""
    return world.plan(name, **{key: value for key, value in changes.items() if value is not None})
