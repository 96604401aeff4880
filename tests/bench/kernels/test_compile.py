"""Kernels compiled for GPUs that are not here: what launches take must neither spill nor want too much."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: it comes with the extras gpu and dev")

from genie_rt.cli import main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A process in which Triton compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


def compile_chosen(path: Path, architecture: str, *words: str) -> dict[str, Any]:
    done = run(
        "-m", "genie_rt", "bench", "kernels", "--compile-only", "--chosen", "--jobs", "2",
        "--arch", architecture, "--json", str(path), *words,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_bytes())


@pytest.mark.parametrize(
    "words",
    [["--ops", "mlp"], pytest.param([], marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_what_launches_take_on_an_h100_is_sound(words: list[str], tmp_path: Path) -> None:
    body = compile_chosen(tmp_path / "record.json", "sm_90", *words)["body"]
    rows = body["rows"]
    assert {row["failure"] for row in rows} == {None}
    assert {row["stack_bytes"] for row in rows} == {0}
    assert all(row["shared_bytes"] <= row["shared_limit"] == 227 * 1024 for row in rows)
    if not words:
        attention = [row for row in rows if row["kernel"] == "spatial_attention"]
        assert any("wgmma" in row["matrix_instructions"] for row in attention)


def test_spills_and_matrix_instructions_are_seen() -> None:
    done = run(str(Path(__file__).with_name("compile_toys.py")), "sm_80,sm_90,sm_100")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(kernel, warps, architecture): rest for kernel, warps, architecture, *rest in found["rows"]}
    assert found["passed"]  # launches take the first of each space, and these are sound
    for architecture in ("sm_80", "sm_90", "sm_100"):
        assert rows["sums", 4, architecture] == [None, [], 128]
        problem, instructions, _ = rows["sums", 1, architecture]
        assert problem.startswith("spills: ") and instructions == []
    matrix = {key[2]: rest[1] for key, rest in rows.items() if key[0] == "product"}
    assert matrix == {"sm_80": ["mma.sync"], "sm_90": ["wgmma"], "sm_100": ["tcgen05.mma"]}


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton compiles in this process")
def test_interpreted_kernels_are_not_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "kernels", "--compile-only"]) == 1
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


WRONG_WORDS = {
    "--compile-only --roofline": "--compile-only or --roofline, found both",
    "--compile-only --arch sm_70": "--arch: expected some of sm_80",
    "--compile-only --ops conv": "expected operators among embed_tokens",
    "--roofline --dtypes int4": "--dtypes: expected some of float32",
    "--jobs 0": "1 or more jobs",
}


def test_wrong_words_are_one_line() -> None:
    """All in one process, for in this one Triton interprets, and another takes seconds to start."""
    code = (
        "import sys, genie_rt.cli as cli\n"
        "for words in sys.argv[1:]:\n"
        "    print(cli.main(['bench', 'kernels', *words.split()]), file=sys.stderr)"
    )
    done = run("-c", code, *WRONG_WORDS)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[1::2] == ["1"] * len(WRONG_WORDS)
    for line, message in zip(lines[::2], WRONG_WORDS.values(), strict=True):
        assert message in line
