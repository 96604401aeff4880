"""Two processes that would write into one folder: the second is refused, and the first one's files stay."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle
from torch import Tensor, nn

from genie_rt.errors import StateError
from genie_rt.runtime.bundle import open_bundle
from genie_rt.training.data.store import ClipStore
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.loop import LoopConfig, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
HOLDER = """
import sys
from pathlib import Path
from genie_rt.runtime.folder_lock import sole_writer
with sole_writer(Path(sys.argv[1]), Path("x"), "at it"):
    print("locked", flush=True)
    input()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path], "subprocess.Popen[str]"]]:
    """Starts another process that holds a lock."""
    children: list[subprocess.Popen[str]] = []

    def start(lock: Path) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None and child.stdout.readline() == "locked\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1)

    def forward(self, frames: Tensor, actions: Tensor, generator: object) -> dict[str, Tensor]:
        return {"loss": self.scale(frames.float().mean().reshape(1, 1)).square().sum()}


class Clips:
    def sample(self, batch: int, *, seed: int, step: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((batch, 2, 4, 4, 3), np.uint8), np.zeros((batch, 2), np.int64)


def train_toy(out: Path) -> None:
    config = LoopConfig(steps=1, batch=1, learning_rate=1e-3, precision="fp32", warmup=0.0)
    train(Toy(), Clips(), config, out, describe={"kind": "toy"})


def record(out: Path) -> None:
    with ClipStoreWriter(out, source="x", height=8, width=8) as writer:
        writer.append(np.zeros((4, 8, 8, 3), np.uint8), split="train")


@pytest.mark.parametrize(
    ("work", "lock", "doing"),
    [
        (train_toy, "out/.lock", "training into it"),
        (record, "out/.lock", "recording into it"),
        (write_tiny_bundle, ".out.lock", "exporting to it"),
    ],
)
def test_the_second_is_refused_and_goes_on_once_the_first_is_gone(
    tmp_path: Path,
    hold: Callable[[Path], "subprocess.Popen[str]"],
    work: Callable[[Path], object],
    lock: str,
    doing: str,
) -> None:
    out = tmp_path / "out"
    first = hold(tmp_path / lock)
    with pytest.raises(
        StateError, match=rf"out: expected no other process {doing}, found process {first.pid}; "
    ):
        work(out)
    assert not out.exists() or [path.name for path in out.iterdir()] == [".lock"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    work(out)
    assert not (tmp_path / lock).exists()
    if work is record:
        assert ClipStore.open(out).num_frames == 4
    elif work is train_toy:
        assert (out / "checkpoint-00000001" / "state.json").exists()
    else:
        assert open_bundle(out).name == "tiny"
