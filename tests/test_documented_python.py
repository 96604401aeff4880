"""Python that a document shows runs, from the first block of a page to the last."""

import re
from pathlib import Path

import numpy as np
import pytest

import genie_rt

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/add-a-dataset.md", "docs/plans.md", "docs/python.md")


@pytest.fixture(scope="module")
def demo() -> genie_rt.World:
    return genie_rt.World.load("demo", backend="reference")


def blocks(page: str) -> str:
    """All Python blocks of a page, as one program."""
    return "\n".join(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    )


def test_every_page_with_python_is_tried() -> None:
    shown = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if "```python" in path.read_text()
    ]
    assert {"README.md", *shown} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_documented_python_runs(
    page: str, demo: genie_rt.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("genie_rt.World.load", lambda *_, **__: demo)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(blocks(page), page, "exec"), names)
    frame = names.get("frame")
    assert frame is None or (isinstance(frame, np.ndarray) and frame.shape == (64, 64, 3))
