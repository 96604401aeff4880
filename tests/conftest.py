"""What tests of several folders share: a tiny world that the real commands trained."""

from collections.abc import Iterator

import pytest
from tiny_runs import TINY, TinyRuns, train_all

from genie_rt.runtime import presets


@pytest.fixture(scope="session")
def tiny_preset() -> Iterator[None]:
    """Makes `tiny_runs.TINY` the preset "tiny" from here on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", lambda: TINY)
        yield


@pytest.fixture(scope="session")
def tiny_runs(tiny_preset: None, tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    """Runs of all training commands. Tests read them and write elsewhere."""
    return train_all(tmp_path_factory.mktemp("tiny"))
