"""Runs inputs in a worker process, which is watched: time, memory, signals."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fuzz.targets import TARGETS, case_of

CPU_SECONDS = 10.0
"""That one input may take."""

WALL_SECONDS = 120.0
"""The same where it only waits; long, for the machine may have other work."""

START_SECONDS = 300.0
MOST_BYTES = 1 << 30
"""That one input may take beside what the worker held before."""

KILL_BYTES = 3 << 30
INPUTS_PER_WORKER = 400
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Figures:
    """What became of the inputs of one target."""

    tried: int = 0
    refused: int = 0
    accepted: int = 0
    failed: int = 0
    seconds: float = 0.0
    worst_seconds: float = 0.0
    worst_bytes: int = 0
    failures: list[str] = field(default_factory=list)


class Worker:
    """A process that opens one input after the other.

    Args:
        place: folder for what it is at.
        cpu_seconds, wall_seconds, most_bytes: that one input may take.
    """

    def __init__(
        self,
        samples: Path,
        place: Path,
        *,
        cpu_seconds: float = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._samples, self._place = samples, place
        self._limits, self._most_bytes = (cpu_seconds, wall_seconds), most_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._left = 0
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """What became of an input: `refused` and why, or `failed` and how."""
        if self._process is None or not self._left:
            self._start()
        assert self._process and self._process.stdin
        self._left -= 1
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        problem, line = self._line(START_SECONDS, START_SECONDS)
        if problem is None:
            assert line == "started", line
            problem, line = self._line(*self._limits)
        if problem is not None:
            self._stop()
            return {"failed": problem, "seconds": self._limits[0], "bytes": 0, "what": ""}
        answer: dict[str, Any] = json.loads(line)
        if answer["bytes"] > self._most_bytes and "failed" not in answer:
            answer["failed"] = f"memory: {answer['bytes'] >> 20} MiB"
        return answer

    def _line(self, cpu: float, wall: float) -> tuple[str | None, str]:
        """The next line of the worker; what is wrong where there is none."""
        assert self._process and self._process.stdout
        pid, started = self._process.pid, time.monotonic()
        cpu_before = _cpu_seconds(pid)
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], 0.1)
            if ready:
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    return f"crash: exit code {self._process.wait()}", ""
                self._unread += part
                continue
            if _cpu_seconds(pid) - cpu_before > cpu:
                return f"hang: more than {cpu:g} s of processor time", ""
            if time.monotonic() - started > wall:
                return f"hang: waited for {wall:g} s", ""
            if _rss_bytes(pid) > KILL_BYTES:
                return f"memory: more than {KILL_BYTES >> 20} MiB", ""
        line, _, self._unread = self._unread.partition(b"\n")
        return None, line.decode()

    def _start(self) -> None:
        self._stop()
        self._left = INPUTS_PER_WORKER
        self._place.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ, OMP_NUM_THREADS="1", XDG_CACHE_HOME=str(self._place / "cache"))
        environment.pop("GENIE_RT_DEBUG", None)
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("worker.py"), self._samples, self._place],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def _stop(self) -> None:
        self._unread = b""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process.wait()
            self._process = None


def seeds(start: int = 0, *, quick: bool = False) -> Iterator[tuple[str, int]]:
    """Targets and numbers without end, each target as often as its share says."""
    due = dict.fromkeys(TARGETS, 0.0)
    number = start
    while True:
        for name, target in TARGETS.items():
            due[name] += target.quick_share if quick and target.quick_share is not None else target.share
            while due[name] >= 1:
                due[name] -= 1
                yield name, number
                number += 1


def run(
    samples: Path,
    scratch: Path,
    inputs: Iterable[tuple[str, int]],
    *,
    seconds: float | None = None,
) -> dict[str, Figures]:
    """Tries inputs until there are no more or the time is up.

    Args:
        scratch: folder for what fails: the input's files, and what became of it.
    """
    figures = {name: Figures() for name in TARGETS}
    end = None if seconds is None else time.monotonic() + seconds
    with Worker(samples, scratch / "work") as worker:
        for target, seed in inputs:
            if end is not None and time.monotonic() > end:
                break
            note(figures[target], worker.ask({"target": target, "seed": seed}), f"{target} {seed}")
            if figures[target].failures and figures[target].failures[-1].startswith(f"{target} {seed}: "):
                _save(scratch / "failures" / f"{target}-{seed}", target, seed, samples, figures[target])
    return figures


def note(figures: Figures, answer: dict[str, Any], name: str) -> None:
    """Counts an answer."""
    figures.tried += 1
    figures.seconds += answer["seconds"]
    figures.worst_seconds = max(figures.worst_seconds, answer["seconds"])
    figures.worst_bytes = max(figures.worst_bytes, answer["bytes"])
    if "failed" in answer:
        figures.failed += 1
        trace = answer.get("trace", "")
        figures.failures.append(f"{name}: {answer['failed']} ({answer['what'][:200]})\n{trace}")
    elif answer["refused"] is None:
        figures.accepted += 1
    else:
        figures.refused += 1


def _save(folder: Path, target: str, seed: int, samples: Path, figures: Figures) -> None:
    case = case_of(target, seed, samples)
    for index, (name, content) in enumerate(case.files.items()):
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / f"{index}-{Path(name).name}").write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(figures.failures[-1], encoding="utf-8")


def table(figures: dict[str, Figures]) -> str:
    """The figures, for people."""
    heads = ("inputs", "refused", "accepted", "failed", "most s", "most MB")
    lines = [f"{'target':<11}" + "".join(f"{head:>10}" for head in heads)]
    total = Figures()
    for each in figures.values():
        for key in ("tried", "refused", "accepted", "failed"):
            setattr(total, key, getattr(total, key) + getattr(each, key))
        for key in ("worst_seconds", "worst_bytes"):
            setattr(total, key, max(getattr(total, key), getattr(each, key)))
    for name, row in {**figures, "all": total}.items():
        lines.append(
            f"{name:<11}{row.tried:>10}{row.refused:>10}{row.accepted:>10}{row.failed:>10}"
            f"{row.worst_seconds:>10.1f}{row.worst_bytes / 1e6:>10.0f}"
        )
    return "\n".join(lines)


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def _rss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
