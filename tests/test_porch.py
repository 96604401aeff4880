"""The files that greet a visitor of the repository agree with the code."""

import re
from pathlib import Path

import genie_rt

ROOT = Path(__file__).parents[1]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == genie_rt.__version__  # type: ignore[index]


def test_workflows_and_pages_call_targets_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / ".ci" / "run"]
    for path in [*pages, *(ROOT / ".github" / "workflows").glob("*.yml")]:
        called = re.findall(r"(?:^ *|`|run: )make ([a-z-]+)", path.read_text(), re.MULTILINE)
        assert set(called) <= make_targets(), path


def test_the_readme_fits_on_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110
