"""Graphs in float64, which no file holds: with them orchestration is compared token for token."""

import pytest

from genie_rt.runtime.backends.exported.signature import PRECISIONS


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "float64", ("", "float64"))
