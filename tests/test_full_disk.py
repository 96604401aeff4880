"""A disk that is full, or lets files grow only so far: one line, nothing half-made, what was there stays."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bundle import write_tiny_bundle
from torch import Tensor, nn

from genie_rt.bench.record import write_json
from genie_rt.errors import BundleError, GenieError, InputError
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.play.clip import write_clip
from genie_rt.training.checkpoint import latest_checkpoint, load_checkpoint
from genie_rt.training.data.store import ClipStore
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.loop import LoopConfig, train

Limit = Callable[[], AbstractContextManager[None]]
KILOBYTES = 96


@pytest.fixture(params=["a full disk", "a limit of file sizes"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Limit]]:
    """A folder, and a context within which no more than `KILOBYTES` can be written there."""
    place = tmp_path / "place"
    place.mkdir()
    if request.param == "a limit of file sizes":
        yield place, file_size_limit
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a small file system")
    options = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield place, lambda: filled(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def file_size_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (KILOBYTES << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def filled(place: Path) -> Iterator[None]:
    """Leaves `KILOBYTES` free."""
    status = os.statvfs(place)
    size = status.f_bavail * status.f_frsize - (KILOBYTES << 10)
    (place / "filler").write_bytes(bytes(size))
    try:
        yield
    finally:
        (place / "filler").unlink()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"filler"}


class Toy(nn.Module):
    """A weight of 128 kB, whose optimiser states are 256 kB."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(48, 680)

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": self.hidden(frames.float().flatten(2) / 255).square().mean()}


class ToyClips:
    def sample(self, batch: int, *, seed: int, step: int, rank: int) -> tuple[Any, Any]:
        random = np.random.default_rng((seed, step, rank))
        return random.integers(0, 256, (batch, 2, 4, 4, 3), dtype=np.uint8), np.zeros((batch, 2), np.int64)


def train_toy(out: Path, steps: int) -> Any:
    settings: dict[str, Any] = {"batch": 1, "learning_rate": 1e-3, "precision": "fp32", "log_every": 1}
    config = LoopConfig(steps=steps, checkpoint_every=1, warmup=0.0, **settings)
    return train(Toy(), ToyClips(), config, out, describe={"kind": "toy"})


def test_train_keeps_its_last_checkpoint_and_goes_on_from_there(
    limited: tuple[Path, Limit], capfd: pytest.CaptureFixture[str]
) -> None:
    place, limit = limited
    out = place / "run"
    train_toy(out, 1)
    with (
        limit(),
        pytest.raises(
            BundleError, match=r"run: expected (room for|to write) the checkpoint of step 2, found: "
        ) as raised,
    ):
        train_toy(out, 2)
    assert "the last one is checkpoint-00000001" in str(raised.value) and "\n" not in str(raised.value)
    assert names(out) == {"checkpoint-00000001", "config.json", "tensorboard"}
    latest = latest_checkpoint(out)
    assert latest is not None and load_checkpoint(latest).step == 1
    assert train_toy(out, 2).step == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_cannot_even_begin_says_so(limited: tuple[Path, Limit]) -> None:
    place, limit = limited
    with (
        limit(),
        pytest.raises(
            GenieError, match=r"run: expected (room for|to write) the checkpoint of step 1.*last one is none"
        ),
    ):
        train_toy(place / "run", 1)
    assert names(place / "run") <= {"config.json", "tensorboard"}


def test_data_keeps_what_was_committed(limited: tuple[Path, Limit]) -> None:
    place, limit = limited
    frames = np.zeros((4, 64, 64, 3), np.uint8)  # 48 kB
    writer = ClipStoreWriter(place / "store", source="x", height=64, width=64, shard_bytes=1)
    writer.append(frames, split="train")
    with limit(), pytest.raises(BundleError, match="4 frames in 1 shard can still be read"):
        writer.append(np.zeros((40, 64, 64, 3), np.uint8), split="train")
    assert ClipStore.open(place / "store").num_frames == 4
    assert names(place / "store") == {"store.json", "frames-00000.u8", "actions-00000.i16"}


def test_export_leaves_the_bundle_that_was_there(limited: tuple[Path, Limit], tmp_path: Path) -> None:
    place, limit = limited
    write_tiny_bundle(place / "world")
    digest = open_bundle(place / "world").digest
    from genie_rt.export import bundle as module

    kept = open_bundle(place / "world")
    with limit(), pytest.raises(BundleError, match="world: expected a folder that can be written, found"):
        module.write_bundle(
            place / "world",
            name="tiny",
            config=kept.config,
            weights=module.load_weights(kept, module.parameter_shapes(kept.config)),
            action_names=kept.action_names,
            default_action=kept.default_action,
            plans=kept.plans,
            prompts=[],
            provenance={},
            model_card="x" * (256 << 10),
            overwrite=True,
        )
    assert open_bundle(place / "world").digest == digest
    assert names(place) == {"world"}


@pytest.mark.parametrize("ending", [".gif", ".png", ".mp4"])
def test_play_leaves_no_part_of_a_clip(limited: tuple[Path, Limit], ending: str) -> None:
    if ending == ".mp4":
        pytest.importorskip("av")
    place, limit = limited
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(24)]
    with (
        limit(),
        pytest.raises(
            InputError, match=rf"clip{ending}: expected a place that can be written, found: \w"
        ) as raised,
    ):
        write_clip(place / f"clip{ending}", frames, fps=10)
    assert "None" not in str(raised.value)
    assert names(place) == set()


def test_bench_leaves_the_record_that_was_there(limited: tuple[Path, Limit]) -> None:
    place, limit = limited
    write_json(place / "record.json", {"a": 1})
    before = (place / "record.json").read_bytes()
    with (
        limit(),
        pytest.raises(InputError, match=r"record\.json: expected a place that can be written, found: \w"),
    ):
        write_json(place / "record.json", {"a": "x" * (256 << 10)})
    assert (place / "record.json").read_bytes() == before
    assert names(place) == {"record.json"}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system that nobody can write to, with a run in it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a file system")
    place = tmp_path / "place"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        train_toy(place / "run", 1)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_disk_is_one_line(read_only: Path) -> None:
    works: tuple[Callable[[Path], object], ...] = (
        lambda out: train_toy(out, 2),
        lambda out: ClipStoreWriter(out, source="x", height=8, width=8),
        write_tiny_bundle,
        lambda out: write_clip(out.with_suffix(".gif"), [np.zeros((8, 8, 3), np.uint8)], fps=10),
        lambda out: write_json(out.with_suffix(".json"), {}),
    )
    before = sorted(read_only.rglob("*"))
    for work in works:
        for name in ("run", "new"):
            with pytest.raises(GenieError, match=r"found:? .*Read-only file system|found files") as raised:
                work(read_only / name)
            assert "\n" not in str(raised.value)
    assert sorted(read_only.rglob("*")) == before
    latest = latest_checkpoint(read_only / "run")
    assert latest is not None and load_checkpoint(latest).step == 1
