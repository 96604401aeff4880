"""What tests of several folders share: a tiny world that the real commands trained.

Without a GPU Triton interprets its kernels on the CPU, which has to be said before it is imported.
"""

import os
from collections.abc import Iterator

import pytest
import torch
from tiny_runs import TINY, TinyRuns, train_all

from genie_rt.runtime import presets

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


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
