"""Fixtures of the runtime's tests."""

import shutil
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that no test changes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))
