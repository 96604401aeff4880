"""What type checkers know of genie_rt in a user's editor."""

import subprocess
import sys
from pathlib import Path

USER = """
import genie_rt
world = genie_rt.World.load("demo")
reveal_type(world)
reveal_type(world.session())
"""


def test_a_type_checker_knows_worlds_and_sessions(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run([*command, "user.py"], cwd=tmp_path, capture_output=True, text=True)
    assert 'Revealed type is "genie_rt.runtime.world.World"' in done.stdout, done.stdout + done.stderr
    assert 'Revealed type is "genie_rt.runtime.session.Session"' in done.stdout
