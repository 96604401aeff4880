"""The data commands parse, run and print a summary."""

import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from genie_rt.training.data.commands import CoinrunCommand, VideoCommand


def test_importing_the_commands_loads_neither_procgen_nor_av() -> None:
    code = (
        "import sys, genie_rt.training.data.commands; "
        "sys.exit(any(name in sys.modules for name in ('procgen', 'gym3', 'av', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_coinrun_records_verifies_and_sums_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    out = tmp_path / "store"
    command = tyro.cli(CoinrunCommand, args=["--out", str(out), "--frames", "600", "--verify"])
    command.run()
    told = capsys.readouterr().out
    assert "64x64 from coinrun" in told and "right+jump" in told and "bit for bit" in told


def test_video_takes_files_as_positionals(tmp_path: Path) -> None:
    command = tyro.cli(VideoCommand, args=["a.mp4", "b.mp4", "--out", str(tmp_path), "--fps", "12"])
    assert command.files == (Path("a.mp4"), Path("b.mp4"))
    assert command.fps == 12
