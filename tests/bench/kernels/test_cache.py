"""Compiled kernels are kept on disk, and a process that is killed does no harm there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: it comes with the extras gpu and dev")

COMPILE = (
    "from genie_rt.bench.kernels.compile import compile_one\n"
    "from genie_rt.kernels.catalogue import all_kernels\n"
    "print('ready', flush=True)\n"
    "kernel = all_kernels(['mlp'])[0]\n"
    "for variant in kernel.variants:\n"
    "    row = compile_one(kernel, variant, kernel.space[0], 90)\n"
    "    print(variant.name, row.registers, row.failure, flush=True)\n"
)


def start(cache: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    return subprocess.Popen(
        [sys.executable, "-c", COMPILE], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The cache that an undisturbed process leaves, and what it says."""
    cache = tmp_path_factory.mktemp("clean")
    return cache, start(cache).communicate()[0]


def test_a_killed_process_leaves_a_cache_that_works(clean: tuple[Path, str], tmp_path: Path) -> None:
    lines = clean[1].splitlines()
    assert len(lines) > 2 and all(line.endswith(" None") for line in lines[1:])
    killed = tmp_path / "killed"
    for wait_s in (0.0, 0.05, 0.2):  # in the middle of one kernel or another
        process = start(killed)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    again, _ = start(killed).communicate()
    assert again == clean[1]


def test_what_was_compiled_is_found_again(clean: tuple[Path, str]) -> None:
    cache, _ = clean
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.cubin")}
    assert before
    start(cache).communicate()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.cubin")} == before
