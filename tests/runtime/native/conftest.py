"""Bundles with graphs, for the tests of the C library's engine of ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of the name of one of `graph_world.CONFIGS`, written once."""
    from graph_world import CONFIGS, write

    folder = tmp_path_factory.mktemp("bundles")

    def find(name: str) -> Path:
        out = folder / name.replace(" ", "-")
        return out if out.exists() else write(out, CONFIGS[name])

    return find
