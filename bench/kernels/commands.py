"""`genie-rt bench kernels`. torch and Triton are imported when the command runs."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from genie_rt.bench.command_line import console, progress, words, write
from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import check_file, check_folder

if TYPE_CHECKING:
    import torch

    from genie_rt.bench.kernels.tuning import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsCommand:
    """Time every kernel next to the fastest library calls for the same operation, and against the roofline.

    Each result is checked against the reference first. Without a GPU, but with Triton installed,
    --compile-only compiles the kernels for the GPUs of --arch and --roofline prints lower bounds on their
    run time.

    Examples:
        genie-rt bench kernels --json kernels.json
        genie-rt bench kernels --compile-only --arch sm_80,sm_90 --jobs 4
    """

    ops: Annotated[tuple[str, ...], shown(default="all", metavar="OP ...")] = ()
    """Operators to include. The name of one operator selects all operators in its folder of kernels/."""

    compile_only: bool = False
    """Compile for --arch and report registers, spills and shared memory. Needs no GPU."""

    roofline: bool = False
    """Print a lower bound on each operator's run time on each architecture, from data sheets."""

    tune: bool = False
    """Save the fastest configurations on this GPU; with --compile-only, the first without spills."""

    tuned_folder: Annotated[Path | None, shown(default="kernels/tuned in the package")] = None
    """Folder where --tune writes sm_<capability>.json."""

    arch: str = "all"
    """Architectures for --compile-only and --roofline, such as sm_80,sm_90."""

    chosen: bool = False
    """With --compile-only: compile only the configurations that would be launched."""

    dtypes: Annotated[tuple[str, ...], shown(metavar="DTYPE ...")] = ("bfloat16",)
    """Precisions to time."""

    device: str = "cuda"
    """Device to time on."""

    repeats: int = 30
    """Timed calls of each candidate."""

    jobs: int = 1
    """Number of processes that compile."""

    json: Annotated[Path | None, shown(default="none written")] = None
    """JSON file for the whole record."""

    def run(self) -> int:
        if self.compile_only and self.roofline:
            raise InputError("expected --compile-only or --roofline, found both; ask for one after the other")
        if self.jobs < 1 or self.repeats < 1:
            raise InputError(f"expected 1 or more jobs and repeats, found {self.jobs} and {self.repeats}")
        check_file("--json", self.json)
        check_folder("--tuned-folder", self.tuned_folder)
        if self.compile_only:
            return self._compile()
        if self.roofline:
            return self._roofline()
        return self._tune() if self.tune else self._measure()

    def _compile(self) -> int:
        from genie_rt.bench.kernels.architectures import parse_architectures
        from genie_rt.bench.kernels.compile import compile_kernels, count_tasks
        from genie_rt.bench.kernels.tables import WIDTH, print_compiled
        from genie_rt.bench.record import Record

        architectures, ops = parse_architectures(self.arch), _chosen_ops(self.ops)
        if self.tune:
            for architecture in architectures:
                self._choose_sound(architecture.capability, ops)
            return 0
        everything = not self.chosen
        with progress("compiling", count_tasks(architectures, ops, everything=everything)) as on_row:
            body = compile_kernels(
                architectures, ops=ops, everything=everything, jobs=self.jobs, on_row=on_row
            )
        print_compiled(console(WIDTH), body, everything=everything)
        record = Record.take(body, command=words("bench kernels", self), device="cpu", warnings=())
        write(self.json, record)
        return 0 if body.passed else 1

    def _choose_sound(self, capability: int, ops: Sequence[str]) -> None:
        from genie_rt.bench.kernels.compile import check_compiled
        from genie_rt.bench.kernels.tuning import choose_sound
        from genie_rt.kernels.catalogue import all_kernels

        kernels = all_kernels(ops)
        for kernel in kernels:
            check_compiled(kernel)
        with progress(f"compiling for sm_{capability}", sum(len(item.variants) for item in kernels)) as done:
            choice = choose_sound(kernels, capability, on_choice=done)
        import triton

        how = "first of the author's order without spills, by cross-compilation"
        self._file(capability, choice, how, triton.__version__, None)

    def _roofline(self) -> int:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode

        from genie_rt.bench.kernels.architectures import parse_architectures
        from genie_rt.bench.kernels.tables import WIDTH, print_roofline
        from genie_rt.kernels.catalogue import all_cases

        architectures = parse_architectures(self.arch)
        for name in self.dtypes:
            with FakeTensorMode():  # tensors that take no memory
                cases = all_cases(_chosen_ops(self.ops), _dtype(name), torch.device("cpu"))
                costs = [(case.op, case.name, case.cost) for case in cases]
            print_roofline(console(WIDTH), costs, architectures, name)
        return 0

    def _measure(self) -> int:
        from genie_rt.bench.kernels.tables import WIDTH, print_timed
        from genie_rt.bench.kernels.times import measure_kernels
        from genie_rt.bench.noise_check import Counters, disturbances
        from genie_rt.bench.record import Record

        before = Counters.read()
        with progress("measuring") as on_row:
            body = measure_kernels(
                self.device,
                ops=_chosen_ops(self.ops),
                dtypes=[_dtype(name) for name in self.dtypes],
                repeats=self.repeats,
                on_row=lambda row: on_row(),
            )
        warnings = disturbances(before, Counters.read())
        record = Record.take(
            body, command=words("bench kernels", self), device=self.device, warnings=warnings
        )
        print_timed(console(WIDTH), record)
        write(self.json, record)
        return 0 if body.passed else 1

    def _tune(self) -> int:
        import torch

        from genie_rt.bench.kernels.tables import WIDTH, print_choice
        from genie_rt.bench.kernels.times import EventClock, find_gpu
        from genie_rt.bench.kernels.tuning import choose_fastest
        from genie_rt.kernels.catalogue import all_cases
        from genie_rt.kernels.launch import capability_of

        device, ops = find_gpu(self.device), _chosen_ops(self.ops)
        clock = EventClock(device, self.repeats)
        with progress("tuning") as on_case:
            choice = choose_fastest(
                (case for name in self.dtypes for case in all_cases(ops, _dtype(name), device)),
                clock,
                on_case=lambda case, found: on_case(),
            )
        import triton

        print_choice(console(WIDTH), choice)
        how = "fastest over the presets' cases, measured"
        name = torch.cuda.get_device_name(device)
        self._file(capability_of(device), choice, how, triton.__version__, name)
        return 0

    def _file(self, capability: int, choice: Choice, how: str, triton: str, device: str | None) -> None:
        from genie_rt.bench.kernels.tuning import Found, write_choice
        from genie_rt.kernels.launch import TUNED

        found = Found(
            how=how,
            command=words("bench kernels", self),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            triton=triton,
            device=device,
        )
        folder = self.tuned_folder or TUNED
        folder.mkdir(parents=True, exist_ok=True)
        print(f"wrote {write_choice(folder, capability, choice, found)}")


def _chosen_ops(names: Sequence[str]) -> tuple[str, ...]:
    """Resolve operators of the catalogue, each named by itself or by an operator its folder registers."""
    from torch._ops import OpOverloadPacket

    from genie_rt.kernels.catalogue import OPS, chosen_ops

    folders = {
        name: op
        for op in OPS
        for name, value in vars(import_module(f"genie_rt.kernels.{op}")).items()
        if isinstance(value, OpOverloadPacket)
    }
    return chosen_ops([folders.get(name, name) for name in names])


def _dtype(name: str) -> torch.dtype:
    from genie_rt.kernels.arguments import FLOATS

    known = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATS}
    if name not in known:
        raise InputError(f"--dtypes: expected some of {', '.join(known)}, found {name!r}")
    return known[name]
