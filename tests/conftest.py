"""What tests of several folders share: a tiny world that the real commands trained.

Without a GPU Triton interprets its kernels on the CPU, which has to be said before it is imported. So has the
number of threads: workers of pytest-xdist compute with one each, for they share the processors.
"""

import gc
import os
import signal
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from tiny_runs import TINY, TinyRuns, train_all

from genie_rt.runtime import presets
from genie_rt.runtime.backends import registry

os.environ["GENIE_RT_CACHE"] = "0"  # what was kept on this machine must not decide what a test finds
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# Tests send signals to processes that inherit which of them are ignored: by a script's "&", or by nohup.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz", "the fuzz campaign, which is slow and not run by `-m 'not slow'`")
    group.addoption("--fuzz-seconds", type=float, default=120, help="how long it lasts (default: 120)")
    group.addoption("--fuzz-seed", type=int, default=1_000_000, help="number of its first input")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many workers `-n auto` starts: a processor each, up to 8, for each takes up to two gigabytes."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    """Hides what was imported from the collector: else each collection looks at half a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if our C library had not been built: of a bundle without graphs "auto" takes `reference`."""
    monkeypatch.setattr(registry, "find_library", lambda: None)


@pytest.fixture(scope="session")
def tiny_preset() -> Iterator[None]:
    """Makes `tiny_runs.TINY` the preset "tiny" from here on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", lambda: TINY)
        yield


@pytest.fixture(scope="session")
def tiny_runs(tiny_preset: None, tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    """Runs of all training commands. Tests read them and write elsewhere."""
    return train_all(tmp_path_factory.mktemp("tiny"))
