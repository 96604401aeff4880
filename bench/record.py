"""Records: what was measured, on what, with what, as JSON that a later run can be compared with.

One schema for every benchmark: a record says where it was taken and holds named series of times. Figures in
it were measured; nothing is filled in that the machine did not say.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genie_rt import __version__
from genie_rt.bench.timer import PERCENTILES, Times
from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.config import from_dict, to_dict
from genie_rt.runtime.plan import Plan

SCHEMA_VERSION = 1

STEP = "step"
IDLE_COMMIT = "step_idle_commit"
RECOMPUTED = "recomputed"
COMPARED = (STEP, IDLE_COMMIT, RECOMPUTED)
"""Names of the series that a record of kind "frame" compares; those of its sweep are `sweep_K`."""

MAX_RECORD_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What computed.

    Attributes:
        name: "cpu", or a torch device such as "cuda".
        model: of the processor or the accelerator, as it calls itself.
        cpu_model: of the processor beside it.
        num_cores: logical processors that this process may use.
        num_threads: threads that torch computes one operator with, on the CPU.
        system: operating system and architecture.
    """

    name: str
    model: str
    cpu_model: str
    num_cores: int
    num_threads: int
    system: str

    @classmethod
    def current(cls, name: str) -> Device:
        import torch

        cpu_model = _cpu_model()
        is_cuda = torch.device(name).type == "cuda"
        return cls(
            name=name,
            model=torch.cuda.get_device_name(name) if is_cuda else cpu_model,
            cpu_model=cpu_model,
            num_cores=num_cores(),
            num_threads=torch.get_num_threads(),
            system=f"{platform.system()} {platform.machine()}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What was running.

    Attributes:
        commit: of genie-rt's own checkout, "-dirty" where files differ from it; None for an installed
            package.
    """

    genie_rt: str
    torch: str
    python: str
    commit: str | None

    @classmethod
    def current(cls) -> Software:
        import torch

        return cls(
            genie_rt=__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            commit=_commit(Path(__file__)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured: a bundle, by its digest, and how it was run.

    Attributes:
        window: `W` of the dynamics: how many frames the paper's recipe recomputes in each pass.
    """

    bundle: str
    digest: str
    window: int
    backend: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The times of one thing.

    Attributes:
        name: what was timed.
        plan: how its frames were decoded.
        run_ns, after_ns: as in `Times`, one entry per round.
        p50_ms ... max_ms: of `run_ns`, by nearest rank; for readers who do not want to count.
        per_second: frames per second with `after_ns` included.
        missed_30_hz, missed_60_hz: share of frames longer than the period, `after_ns` included.
    """

    name: str
    plan: Plan
    run_ns: tuple[int, ...]
    after_ns: tuple[int, ...]
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    per_second: float
    missed_30_hz: float
    missed_60_hz: float

    @classmethod
    def of(cls, name: str, plan: Plan, times: Times) -> Series:
        p50, p90, p95, p99 = (times.percentile_ms(q) for q in PERCENTILES)
        return cls(
            name=name,
            plan=plan,
            run_ns=times.run_ns,
            after_ns=times.after_ns,
            p50_ms=p50,
            p90_ms=p90,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=times.max_ms,
            per_second=times.per_second,
            missed_30_hz=times.missed(30),
            missed_60_hz=times.missed(60),
        )

    @property
    def times(self) -> Times:
        return Times(run_ns=self.run_ns, after_ns=self.after_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """From the command to the second picture, in milliseconds; files may lie in the system's cache already.

    Attributes:
        import_ms: to import torch and genie-rt; next to nothing where the process had them.
        load_ms: to load the bundle: read, hash, check, convert.
        reset_ms: to take in the first picture.
        first_step_ms: of the first frame, with everything that happens once.
    """

    import_ms: float
    load_ms: float
    reset_ms: float
    first_step_ms: float

    @property
    def total_ms(self) -> float:
        return self.import_ms + self.load_ms + self.reset_ms + self.first_step_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of one session whose window is full.

    Attributes:
        peak_rss_bytes: most that the process ever held resident up to then (`getrusage`), interpreter and
            libraries included; None where the system does not say.
        weight_bytes: of the weights as computed with.
        page_bytes: of the pages that the session holds.
        pool_bytes: of the pools that they come from, which grow by chunks.
    """

    peak_rss_bytes: int | None
    weight_bytes: int
    page_bytes: int
    pool_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One benchmark run.

    Attributes:
        created: UTC, ISO 8601.
        command: that takes the same measurement again.
        times_faster: median over rounds of baseline / session; None where no baseline ran.
        warnings: what speaks against the figures.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str
    created: str
    command: str
    software: Software
    device: Device
    subject: Subject
    cold_start: ColdStart
    memory: Memory
    series: tuple[Series, ...]
    times_faster: float | None
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ConfigError(f"schema_version: expected {SCHEMA_VERSION}, found {self.schema_version}")

    def find(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)


def write_record(path: Path, record: Record) -> None:
    """Writes a record, its folders too.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, json.dumps(to_dict(record), indent=1) + "\n")


def read_record(path: Path) -> Record:
    """Reads a record.

    Raises:
        InputError: the file cannot be read, or is no record of this schema.
    """
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise InputError(f"{path}: expected a record of at most {MAX_RECORD_BYTES} bytes, found more")
        return from_dict(Record, json.loads(path.read_bytes()))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise InputError(f"{path}: expected a record of `genie-rt bench`, found {error}") from error


def write_times(path: Path, series: Sequence[Series]) -> None:
    """Writes one JSON object per round: its number and the milliseconds of every series.

    Raises:
        InputError: the file cannot be written.
    """
    rounds = zip(*(item.run_ns for item in series), strict=True)
    names = [f"{item.name}_ms" for item in series]
    rows = [
        {"round": index, **{name: ns / 1e6 for name, ns in zip(names, row, strict=True)}}
        for index, row in enumerate(rounds)
    ]
    write_text(path, json.dumps(rows, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: expected a file that can be written, found {error}") from error


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def num_cores() -> int:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_rss_bytes() -> int | None:
    """Most memory that this process ever held resident; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit(file: Path) -> str | None:
    """Commit of the checkout that `file` is tracked in; None where it is not.

    A package that is installed inside somebody's project must not carry that project's commit.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(file.resolve().parent), *words],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.resolve().name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
