"""Graphs in float64, which no file holds: with them orchestration is compared token for token."""

import pytest

from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES
from genie_rt.runtime.manifest import GRAPH_FORMATS


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGE_DTYPES, "float64", "float64")
    monkeypatch.setitem(GRAPH_FORMATS, "float64", "")
