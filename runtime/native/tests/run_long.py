"""The long tests of the native engine, one after the other.

    python run_long.py                  all of them
    python run_long.py asan windows     some of them

What needs a program that is not installed is skipped, and the reason stands in the summary. Everything is
built below out/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
JOBS = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class SkipError(Exception):
    """What is missing."""


def run(*command: str | Path, **environment: str) -> None:
    """Run a command and show what it prints. Raises CalledProcessError where it fails."""
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=ROOT, env={**os.environ, **environment}, check=True)


def need(*programs: str) -> None:
    """Skip what needs a program that is not here."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise SkipError(f"{', '.join(missing)} is not installed")


def build(preset: str, *targets: str) -> None:
    """Configure and build a preset."""
    run("cmake", "--preset", preset)
    run(
        "cmake",
        "--build",
        "--preset",
        preset,
        "--parallel",
        JOBS,
        *(["--target", *targets] if targets else []),
    )


def need_zig() -> None:
    """Zig may come from PyPI, into the virtual environment."""
    python = ROOT / ".venv" / "bin" / "python"
    has = python.exists() and subprocess.run([python, "-c", "import ziglang"], stderr=subprocess.DEVNULL)
    if shutil.which("zig") is None and not (has and has.returncode == 0):
        raise SkipError("zig is not installed: it is the package ziglang on PyPI")


def run_release() -> None:
    """clang-tidy, and what else takes long in the build that is shipped."""
    build("release")
    run("ctest", "--preset", "release", "--parallel", JOBS, "-L", "long")


def run_sanitized(preset: str) -> Callable[[], None]:
    """All tests in a build with sanitizers."""

    def run_preset() -> None:
        build(preset)
        run("ctest", "--preset", preset, "-LE", "fuzz", "--parallel", JOBS)

    return run_preset


def run_fuzzers() -> None:
    """Each fuzzer for a minute, from the corpus that is kept."""
    need("clang++")
    build("fuzz")
    run("ctest", "--preset", "fuzz", "-L", "fuzz")


def run_valgrind() -> None:
    """Thousands of steps of the tiny bundle, and some of a real one, without a leak or a read of what was
    never written. One thread computes: valgrind runs one at a time, and the others would spin."""
    need("valgrind")
    build("release", "determinism", "test_native_no_allocation")
    programs = ROOT / "out" / "native" / "tests"
    flags = [
        "--leak-check=full",
        "--show-leak-kinds=all",
        "--errors-for-leak-kinds=all",
        "--error-exitcode=1",
    ]
    run("valgrind", *flags, programs / "test_native_no_allocation", "1000")
    arguments = ["--instructions", "avx2", "--threads", "1", "--frames", "32", "--plans", "1"]
    run("valgrind", *flags, programs / "determinism", "examples/worlds/little-game", *arguments)


def run_elsewhere(preset: str, *programs: str) -> Callable[[], None]:
    """The quick tests as programs of another system, under what runs them here."""

    def run_preset() -> None:
        need_zig()
        need(*programs)
        build(preset)
        run("ctest", "--preset", preset, "-L", "quick")

    return run_preset


def build_for_macos() -> None:
    """Built, not run: nothing here runs programs of macOS."""
    need_zig()
    for preset in ("macos-x86_64", "macos-arm64"):
        build(preset)


def run_determinism() -> None:
    """Every compiler, system and number of threads gives the frames of the table."""
    run(sys.executable, HERE / "determinism.py", "all")


@dataclass(frozen=True)
class Part:
    """One of the long tests."""

    name: str
    run: Callable[[], None]


PARTS = (
    Part("release", run_release),
    Part("asan", run_sanitized("asan")),
    Part("tsan", run_sanitized("tsan")),
    Part("fuzz", run_fuzzers),
    Part("valgrind", run_valgrind),
    Part("linux-aarch64", run_elsewhere("linux-aarch64", "qemu-aarch64-static")),
    Part("windows", run_elsewhere("windows", "wine")),
    Part("wasi", run_elsewhere("wasi", "node")),
    Part("macos", build_for_macos),
    Part("determinism", run_determinism),
)


def main() -> None:
    """Run the parts and sum up."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(part.name for part in PARTS))
    wanted = parser.parse_args().parts
    if unknown := set(wanted) - {part.name for part in PARTS}:
        parser.error(f"expected some of {', '.join(part.name for part in PARTS)}, got {', '.join(unknown)}")

    summary, failed = [], False
    for part in PARTS:
        if wanted and part.name not in wanted:
            continue
        print(f"\n== {part.name}", flush=True)
        before = time.monotonic()
        try:
            part.run()
            result = "passed"
        except SkipError as reason:
            result = f"skipped: {reason}"
        except subprocess.CalledProcessError as error:
            result, failed = f"FAILED: {Path(error.cmd[0]).name} ended with {error.returncode}", True
        summary.append(f"{part.name:14} {time.monotonic() - before:6.0f} s  {result}")
    print("\n" + "\n".join(summary))
    sys.exit(failed)


if __name__ == "__main__":
    main()
