"""Whether an int8 world gives the same frames everywhere, bit for bit.

    python determinism.py quick PROGRAM      every instruction set of this processor, a few threads: seconds
    python determinism.py all                every compiler, system and number of threads: hours
    python determinism.py all windows wasi   some of those
    python determinism.py all --frames 4     only so many frames: an hour
    python determinism.py write PROGRAM      make the table again, when frames are meant to change

PROGRAM is what determinism.cpp is built to. It plays three worlds with every kind of plan and prints hashes
of pictures and tokens, which have to be those of determinism.txt, each one. `all` builds below
out/determinism, and skips what is not installed, with the reason.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TABLE = HERE / "determinism.txt"
BUNDLES = ("runtime/bundles/demo", "runtime/bundles/demo-logged", "examples/worlds/little-game")
X86 = ("avx512", "avx2", "sse4", "scalar")
CHECKPOINTS = (4, 32, 256)
NUM_PLANS, NUM_SEEDS = 8, 2
UNSUPPORTED = 77
HEADER = """\
# What int8 worlds play on every machine: world, precision, plan, seed, frames, and the hash of them all.
# Made by `python determinism.py write PROGRAM`; determinism.cpp says what is hashed.
"""

Lines = dict[str, str]
"""From "world precision plan seed frames" to the hash."""


class CheckError(Exception):
    """What went wrong, for the user."""


@dataclass(frozen=True)
class Run:
    """One call of the program."""

    instructions: str = "auto"
    threads: int = 1
    frames: int = 256
    plans: int = NUM_PLANS
    bundles: Sequence[str] = BUNDLES
    precision: str = "int8"


def read_lines(text: str) -> Lines:
    """Lines of the table, or of the program."""
    words = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {key: value for key, _, value in words}


def play(command: Sequence[str], run: Run) -> Lines | None:
    """What the program prints for all bundles of a run; None where there are no such instructions."""
    lines: Lines = {}
    for bundle in run.bundles:
        flags = ("instructions", "threads", "frames", "plans", "precision")
        arguments = [word for flag in flags for word in (f"--{flag}", str(getattr(run, flag)))]
        done = subprocess.run([*command, bundle, *arguments], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == UNSUPPORTED and run.instructions != "auto":
            return None
        if done.returncode:
            raise CheckError(f"{run}: the program ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        lines |= read_lines(done.stdout)
    expected = len(run.bundles) * run.plans * NUM_SEEDS * sum(n <= run.frames for n in CHECKPOINTS)
    if len(lines) != expected:
        raise CheckError(f"{run}: expected {expected} hashes, got {len(lines)}")
    return lines


def check(command: Sequence[str], runs: Sequence[Run], table: Lines, name: str) -> int:
    """Compare runs with the table and say how each went. Returns how many could be made here."""
    count = 0
    for run in runs:
        before = time.monotonic()
        lines = play(command, run)
        what = (
            f"{name:14} {run.precision:8} {run.instructions:9} {run.threads} threads, {run.frames:3} frames"
        )
        if lines is None:
            print(f"{what}: not here", flush=True)
            continue
        wrong = [key for key in lines if lines[key] != table.get(key)]
        seconds = time.monotonic() - before
        print(f"{what}: {len(lines) - len(wrong)} of {len(lines)} equal, {seconds:.0f} s", flush=True)
        if wrong:
            shown = "\n".join(f"  {key}: {lines[key]}, expected {table.get(key)}" for key in wrong[:10])
            raise CheckError(f"{name}: other frames than in the table:\n{shown}")
        count += 1
    return count


def check_float(command: Sequence[str], name: str, bundle: str = BUNDLES[0], frames: int = 32) -> None:
    """float32 is not promised to be the same elsewhere, but threads make no difference in it either."""
    runs = [Run("auto", threads, frames, 2, (bundle,), "float32") for threads in (1, 2, 3)]
    check(command, runs[1:], play(command, runs[0]) or {}, name)


def check_quickly(program: str) -> None:
    """What `make test` does: one world, two plans."""
    table = read_lines(TABLE.read_text())
    world = BUNDLES[:1]
    runs = [Run("auto", threads, 32, 2, world) for threads in (1, 2, 3)]
    runs += [Run("avx2", 2, 32, 1, world), Run("sse4", 3, 32, 1, world), Run("neon", 2, 32, 1, world)]
    runs += [Run("scalar", 2, 4, 1, world)]
    if check([program], runs, table, "quick") < 4:
        raise CheckError("expected the scalar instructions at least, found less")
    check_float([program], "quick")


@dataclass(frozen=True)
class Variant:
    """A build, and what is run of it."""

    name: str
    configure: Sequence[str]
    runs: Sequence[Run]
    needs: str = ""
    """A program without which it cannot be built."""


def variants() -> Iterator[Variant]:
    """All of them. The slower a build's programs run, the fewer frames they play."""
    yield Variant(
        "gcc-O3",
        ["-DCMAKE_CXX_COMPILER=g++", "-DCMAKE_BUILD_TYPE=Release"],
        [
            *(Run(one) for one in X86[:3]),
            Run("scalar", 2, 32),
            *(Run("auto", threads, 32) for threads in range(2, 9)),
            *(Run("avx2", threads, 32, 2) for threads in (3, 8)),
        ],
        needs="g++",
    )
    for compiler, command in (("gcc", "g++"), ("clang", "clang++")):
        for level in ("-O1", "-O2", "-O3"):
            if (compiler, level) == ("gcc", "-O3"):
                continue
            yield Variant(
                f"{compiler}{level}",
                [f"-DCMAKE_CXX_COMPILER={command}", "-DCMAKE_BUILD_TYPE=Plain", f"-DCMAKE_CXX_FLAGS={level}"],
                [*(Run(one, 2, 32) for one in X86[:3]), Run("scalar", 1, 4, 2)],
                needs=command,
            )
    yield Variant("linux-x86_64", ["--preset=linux-x86_64"], [*(Run(one, 2, 32) for one in X86[:3])])
    yield Variant("windows", ["--preset=windows"], [*(Run(one, 2) for one in X86[:2]), Run("sse4", 1, 32)])
    yield Variant(
        "linux-aarch64",
        ["--preset=linux-aarch64"],
        [
            Run("neon_dot", 1, 32, 1, BUNDLES[:1]),
            Run("neon_dot", 3, 4, NUM_PLANS, BUNDLES[:1]),
            Run("neon", 2, 4, 2),
            Run("scalar", 1, 4, 1, BUNDLES[:1]),
        ],
    )
    yield Variant("wasi", ["--preset=wasi"], [Run("wasm", 1, 32), Run("scalar", 1, 4, 2, BUNDLES[:1])])


def build(variant: Variant) -> list[str]:
    """Build a variant's program; the command that runs it here."""
    folder = ROOT / "out" / "determinism" / variant.name
    target = "determinism"
    for command in (
        ["cmake", *variant.configure, "-S", str(ROOT), "-B", str(folder), "-DGENIE_RT_MAKEFILE=OFF"],
        ["cmake", "--build", str(folder), "--target", target],
    ):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise CheckError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
    program = next(
        (path for path in (folder / "tests").glob(f"{target}*") if path.suffix in {"", ".exe", ".wasm"}), None
    )
    if program is None:
        raise CheckError(f"expected {target} in {folder / 'tests'}, found none")
    cache = (folder / "CMakeCache.txt").read_text()
    key = "CMAKE_CROSSCOMPILING_EMULATOR:STRING="
    emulator = next((line.removeprefix(key) for line in cache.splitlines() if line.startswith(key)), "")
    return [*filter(None, emulator.split(";")), str(program)]


def check_all(wanted: Sequence[str], most_frames: int) -> None:
    """Build and run every variant, or those that are named, at most so many frames."""
    table = read_lines(TABLE.read_text())
    known = {variant.name: variant for variant in variants()}
    if unknown := set(wanted) - set(known):
        raise CheckError(f"expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    failures = []
    for name, variant in known.items():
        if wanted and name not in wanted:
            continue
        if variant.needs and shutil.which(variant.needs) is None:
            print(f"{name}: skipped, {variant.needs} is not installed")
            continue
        try:
            before = time.monotonic()
            command = build(variant)
            print(f"{name:14} built, {time.monotonic() - before:.0f} s", flush=True)
            if variant.configure[0].startswith("--preset") and name != "linux-x86_64" and len(command) == 1:
                print(f"{name}: built, not run: what runs its programs here is not installed")
                continue
            runs = [replace(run, frames=min(run.frames, most_frames)) for run in variant.runs]
            if check(command, runs, table, name) == 0:
                raise CheckError(f"{name}: expected instructions that this processor has, found none")
            if name in {"gcc-O3", "clang-O2"}:
                check_float(command, name)
        except CheckError as failure:
            failures.append(str(failure))
            print(f"{name}: FAILED", flush=True)
    if failures:
        raise CheckError("\n".join(failures))


def write(program: str) -> None:
    """Make the table again."""
    lines = play([program], Run()) or {}
    TABLE.write_text(HEADER + "".join(f"{key} {value}\n" for key, value in lines.items()))
    print(f"{TABLE}: {len(lines)} hashes")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("quick", "write"):
        commands.add_parser(name).add_argument("program")
    everywhere = commands.add_parser("all")
    everywhere.add_argument("variants", nargs="*")
    everywhere.add_argument("--frames", type=int, choices=CHECKPOINTS, default=max(CHECKPOINTS))
    arguments = parser.parse_args()
    try:
        if arguments.command == "all":
            check_all(arguments.variants, arguments.frames)
        else:
            {"quick": check_quickly, "write": write}[arguments.command](arguments.program)
    except CheckError as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main()
