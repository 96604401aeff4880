"""The sample programs of the C header give the frames that Python's sessions give."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_rt.runtime.world import World

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "runtime" / "bundles" / "demo-logged"
SAMPLES = ROOT / "out" / "native" / "samples"

pytestmark = pytest.mark.skipif(
    not (SAMPLES / "minimal").exists(),
    reason="not built: cmake --preset release && cmake --build --preset release",
)


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(SAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_smallest_player_ends_with_python_s_frame(tmp_path: Path) -> None:
    done = run("minimal", BUNDLE, tmp_path / "last.ppm")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Image.open(tmp_path / "last.ppm") as image:
        found = np.asarray(image)

    world = World.load(BUNDLE, backend="native", dtype="int8")
    session = world.session(seed=0)
    session.reset(world.prompt(0))
    for _ in range(60):
        frame = session.step("right")
    assert len(np.unique(frame)) > 10
    np.testing.assert_array_equal(found, frame)


def test_a_sample_says_what_is_wrong(tmp_path: Path) -> None:
    done = run("minimal", tmp_path, tmp_path / "last.ppm")
    assert done.returncode == 1
    assert "bundle.json" in done.stderr
    assert run("minimal").returncode == 2
    assert run("bench", "--bundle", BUNDLE, "--precision", "fp8").returncode == 2
    unknown = run("bench", "--bundle", BUNDLE, "--plan", "nope")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("GRT_ERROR_CONFIG: ") and "nope" in unknown.stderr


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_bench_tells_what_it_measured(precision: str) -> None:
    flags = ["--precision", precision, "--plan", "fast", "--threads", 1, "--frames", 12, "--warm-up", 2]
    done = run("bench", "--bundle", BUNDLE, *flags, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["world"], told["plan"], told["precision"]) == ("demo-logged", "fast", precision)
    assert (told["passes"], told["threads"], told["frames"], told["warm_up"]) == (1, 1, 12, 2)
    assert told["allocations_in_steps"] == 0
    assert 0 < told["p50_ms"] <= told["p90_ms"] <= told["p99_ms"] <= told["max_ms"]
    assert told["first_frame_ms"] > told["p50_ms"]
    most = 40e6 if precision == "int8" else 60e6
    assert 0 < told["held_bytes"] < most
    assert 0 < told["resident_bytes"] < most
