"""Nothing that comes from outside is accepted wrongly, hangs, crashes, or ends in a traceback.

`make test` tries what once got through and some fresh inputs; `make test-all` tries fresh ones for
`--fuzz-seconds`. What fails lies under pytest's folder for temporary files; `docs/security.md` says more.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="mutates graphs with it")
pytest.importorskip("av", reason="videos are among what is tried")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("measures memory in /proc", allow_module_level=True)

from fuzz.campaign import CPU_SECONDS, MOST_BYTES, Figures, Worker, note, run, seeds, table
from fuzz.case import Case
from fuzz.corpus import CORPUS
from fuzz.samples import write_samples
from fuzz.targets import TARGETS, tried

QUICK_INPUTS = 300


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("fuzz") / "samples", with_run=False)


def assert_all_held(figures: dict[str, Figures]) -> None:
    print("\n" + table(figures))
    failures = [failure for each in figures.values() for failure in each.failures]
    assert not failures, f"{len(failures)} inputs failed, among them:\n" + "\n".join(failures[:5])
    assert max(each.worst_bytes for each in figures.values()) <= MOST_BYTES
    assert max(each.worst_seconds for each in figures.values()) <= CPU_SECONDS


def test_what_got_through_once_and_fresh_inputs(samples: Path, tmp_path: Path) -> None:
    """One worker does all of it, for its start takes longer than most inputs."""
    quick = [name for name, target in TARGETS.items() if target.quick_share != 0]
    figures = {name: Figures() for name in TARGETS}
    with Worker(samples, tmp_path / "work") as worker:
        for name in quick:  # or all that follows could be refused for what is wrong in the sample
            for file in TARGETS[name].tried_whole:
                answer = worker.ask({"sample": name, "file": file})
                note(figures[name], answer, f"{file} of {name} as it is")
                assert answer.get("refused") is None, f"{name}: its own {file} is refused: {answer}"
        for name in CORPUS:
            note(figures[name.partition("/")[0]], worker.ask({"corpus": name}), name)
        for target, seed in itertools.islice(seeds(quick=True), QUICK_INPUTS):
            note(figures[target], worker.ask({"target": target, "seed": seed}), f"{target} {seed}")
    assert_all_held(figures)
    for name in quick:
        # what is kept is never refused: it is made again
        assert figures[name].refused or name == "kept", f"{name}: nothing was refused"
        assert figures[name].accepted, f"{name}: nothing was accepted"


@pytest.mark.slow
def test_campaign(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many inputs as the time allows, from `--fuzz-seed` on."""
    seconds, seed = request.config.getoption("--fuzz-seconds"), request.config.getoption("--fuzz-seed")
    samples = write_samples(tmp_path / "samples")
    figures = run(samples, tmp_path / "scratch", seeds(seed), seconds=seconds)
    with capsys.disabled():
        print(f"\n{sys.version.split()[0]}, from number {seed}\n{table(figures)}")
    assert_all_held(figures)


# What watches is watched: each of these has to be told from a refusal.


@pytest.mark.parametrize(
    ("deed", "limits", "told"),
    [
        ("raise", {}, "failed: ZeroDivisionError: a bug"),
        ("exit", {}, "failed: crash: exit code 0"),
        ("crash", {}, "failed: crash: exit code -11"),
        ("spin", {"cpu_seconds": 0.05}, "failed: hang: more than 0.05 s of processor time"),
        ("wait", {"wall_seconds": 0.2}, "failed: hang: waited for 0.2 s"),
        ("eat", {"most_bytes": 100 << 20}, "failed: memory: "),
        ("refuse", {}, "refused: InputError: as it should be"),
    ],
)
def test_each_kind_of_failure_is_told(deed: str, limits: dict[str, Any], told: str, tmp_path: Path) -> None:
    unlimited = {"cpu_seconds": 600, "wall_seconds": 600}
    with Worker(tmp_path, tmp_path, **unlimited | limits) as worker:
        answer = worker.ask({"deed": deed})
    verdict = f"failed: {answer['failed']}" if "failed" in answer else f"refused: {answer['refused']}"
    assert verdict.startswith(told)


def test_what_should_be_refused_and_is_not_fails(samples: Path, tmp_path: Path) -> None:
    case = Case(target="picture", what="nothing", files={"RGB.png": b""}, must_refuse=True)
    assert "expected a picture" in str(tried(case, samples, tmp_path))
    sound = (samples / "pictures" / "RGB.png").read_bytes()
    with pytest.raises(AssertionError, match="it was accepted"):
        tried(replace(case, files={"RGB.png": sound}), samples, tmp_path)
