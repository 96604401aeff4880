"""Cross-compile kernels for other GPUs, and read from the machine code which resources they use.

Triton brings NVIDIA's assembler, so registers, stack and shared memory are those of the machine code, and a
configuration that spills or asks for more shared memory than there is shows without a GPU. What only runs can
tell (time) is not in here.
"""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

from genie_rt.bench.kernels.architectures import KNOWN, Architecture
from genie_rt.errors import UnsupportedError
from genie_rt.kernels.catalogue import OPS, all_kernels
from genie_rt.kernels.launch import Config, Kernel, Variant

WARP = 32
MATRIX_INSTRUCTIONS = ("mma.sync", "wgmma", "tcgen05.mma")
MAX_ERROR = 300
"""Characters of a compiler's message that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """Result of compiling one kernel specialisation in one configuration for one architecture.

    Attributes:
        chosen: whether a launch on that architecture takes this configuration.
        registers: of one thread.
        stack_bytes: of one thread: spilled registers and arrays that are indexed at run time.
        shared_bytes: dynamic shared memory of one block.
        matrix_instructions: those that appear, of `MATRIX_INSTRUCTIONS`.
        widest_load: bits of the widest load from global memory, 128 at best, 0 where none is plain.
        failure: why there is no machine code, None where there is.
    """

    kernel: str
    variant: str
    architecture: str
    config: Config
    chosen: bool
    registers: int = 0
    stack_bytes: int = 0
    shared_bytes: int = 0
    shared_limit: int = 0
    matrix_instructions: tuple[str, ...] = ()
    widest_load: int = 0
    failure: str | None = None

    @property
    def problem(self) -> str | None:
        """Reason not to launch this configuration; None if there is none."""
        if self.failure is not None:
            return self.failure
        if self.stack_bytes:
            return f"spills: {self.stack_bytes} bytes of stack a thread"
        if self.shared_bytes > self.shared_limit:
            return f"{self.shared_bytes} bytes of shared memory, {self.shared_limit} are there"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileBody:
    """Results of one compilation run."""

    KIND: ClassVar[str] = "kernels-compiled"

    triton: str
    rows: tuple[Compiled, ...]

    @property
    def passed(self) -> bool:
        """Whether every configuration in use is free of problems."""
        return all(row.problem is None for row in self.rows if row.chosen)


def compile_kernels(
    architectures: Sequence[Architecture],
    *,
    ops: Sequence[str] = OPS,
    everything: bool = True,
    jobs: int = 1,
    wanted: Callable[[Kernel, Variant], bool] = lambda kernel, variant: True,
    on_row: Callable[[], object] | None = None,
) -> CompileBody:
    """Compile the specialisations of the operators' kernels.

    Args:
        everything: all configurations; else only those that a launch takes.
        jobs: processes.
        wanted: which specialisations.
        on_row: called after each.

    Raises:
        UnsupportedError: Triton is missing, or interprets its kernels.
    """
    import triton

    tasks = list(_tasks(architectures, ops, everything, wanted))
    rows: dict[int, Compiled] = {}
    if jobs == 1:
        for index, task in enumerate(tasks):
            rows[index] = _compile(*task)
            if on_row is not None:
                on_row()
    else:
        # spawned, for a forked child would share the state of Triton's compiler
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            # Workers start here and inherit what is blocked: on Ctrl-C the parent speaks and ends them.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = {pool.submit(_compile, *task): index for index, task in enumerate(tasks)}
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                if on_row is not None:
                    on_row()
    return CompileBody(triton=triton.__version__, rows=tuple(rows[index] for index in range(len(tasks))))


def count_tasks(
    architectures: Sequence[Architecture], ops: Sequence[str] = OPS, *, everything: bool = True
) -> int:
    """Count the rows that `compile_kernels` returns."""
    return sum(1 for _ in _tasks(architectures, ops, everything, lambda kernel, variant: True))


def check_compiled(kernel: Kernel) -> None:
    """Raise `UnsupportedError` if Triton interprets a kernel in this process."""
    if type(kernel.function).__name__ == "InterpretedFunction":
        raise UnsupportedError(
            "Triton interprets its kernels in this process, so there is nothing to compile; unset "
            "TRITON_INTERPRET and start again"
        )


Task = tuple[str, str, str, Config, int, bool]


def _tasks(
    architectures: Sequence[Architecture],
    ops: Sequence[str],
    everything: bool,
    wanted: Callable[[Kernel, Variant], bool],
) -> Iterable[Task]:
    """List compilation tasks as plain values, which can be sent to another process."""
    for op in ops:
        for kernel in all_kernels([op]):
            check_compiled(kernel)
            for variant in kernel.variants:
                for architecture in architectures:
                    if variant.capability > architecture.capability or not wanted(kernel, variant):
                        continue
                    chosen = kernel.config_on(variant.name, architecture.capability)
                    configs = dict.fromkeys((chosen, *(kernel.space if everything else ())))
                    for config in configs:
                        yield (
                            op, kernel.name, variant.name, config, architecture.capability, config == chosen
                        )  # fmt: skip


def _compile(
    op: str, name: str, variant_name: str, config: Config, capability: int, chosen: bool
) -> Compiled:
    kernel = next(kernel for kernel in all_kernels([op]) if kernel.name == name)
    variant = next(variant for variant in kernel.variants if variant.name == variant_name)
    return dataclasses.replace(compile_one(kernel, variant, config, capability), chosen=chosen)


def compile_one(kernel: Kernel, variant: Variant, config: Config, capability: int) -> Compiled:
    """Compile one specialisation in one configuration; a compiler error becomes the row's failure."""
    row = Compiled(
        kernel=kernel.name,
        variant=variant.name,
        architecture=f"sm_{capability}",
        config=config,
        chosen=False,
        shared_limit=KNOWN[capability].shared_bytes,
    )
    try:
        built = _build(kernel, variant, config, capability)
    except Exception as error:  # the compiler raises whatever its passes raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return dataclasses.replace(row, failure=reason[:MAX_ERROR])
    ptx = built.asm["ptx"]
    registers, stack_bytes = _resources(built.asm["cubin"])
    return dataclasses.replace(
        row,
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=built.metadata.shared,
        matrix_instructions=tuple(name for name in MATRIX_INSTRUCTIONS if name in ptx),
        widest_load=_widest_load(ptx),
    )


def _build(kernel: Kernel, variant: Variant, config: Config, capability: int) -> Any:
    """Compile what a launch would: pointers are 16-byte aligned, as torch allocates them, and integers
    are specialised as the variant says."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.function.arg_names
    constants = {**variant.constants, **dict(config.blocks)}
    signature = {name: "constexpr" if name in constants else variant.types[name] for name in names}
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if signature[name].startswith("*") or name in variant.multiples_of_16
    }
    source = ASTSource(kernel.function, signature, constants, aligned)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, WARP), options=options)


def _widest_load(ptx: str) -> int:
    """Find the widest load, in bits, from instructions such as `ld.global.v4.b32` or 16-byte async copies."""
    widths = [
        int(count or 1) * int(bits)
        for count, bits in re.findall(r"ld\.global(?:\.[A-Za-z0-9:_]+)*?(?:\.v(\d))?\.[bfsu](\d+)", ptx)
    ]
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*?, (?:0x)?(\d+)", ptx)
    return max(
        [*widths, *(8 * int(size, 16) for size in copies if size in ("4", "8", "10", "16"))], default=0
    )


def _resources(cubin: bytes) -> tuple[int, int]:
    """Read registers and stack bytes per thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [_cuobjdump(), "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    if found is None:
        raise UnsupportedError(f"cuobjdump: expected REG and STACK, found {done.stdout[:200]!r}")
    return int(found[1]), int(found[2])


@lru_cache(maxsize=1)
def _cuobjdump() -> str:
    """Find the `cuobjdump` that comes with Triton."""
    import triton

    path = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not path.is_file():
        raise UnsupportedError(f"expected Triton's own cuobjdump at {path}, found nothing; reinstall triton")
    return str(path)
