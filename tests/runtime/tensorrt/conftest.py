"""Either flavour of TensorRT, as `tensorrt_place` stands in for it."""

from pathlib import Path

import pytest
from tensorrt_place import Place, make_place


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """With either flavour."""
    return make_place(tmp_path, monkeypatch, request.param)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(tmp_path, monkeypatch, "tensorrt")


@pytest.fixture
def rtx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(tmp_path, monkeypatch, "tensorrt-rtx")
