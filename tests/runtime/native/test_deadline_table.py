"""The table that the native engine's deadline is held to is what the Python class decides."""

import runpy
from pathlib import Path

DATA = Path(__file__).parents[3] / "runtime/native/tests/data"


def test_the_table_is_what_the_class_decides() -> None:
    made = runpy.run_path(str(DATA / "make_deadlines.py"))["table"]()
    assert made == (DATA / "deadlines.txt").read_text()
