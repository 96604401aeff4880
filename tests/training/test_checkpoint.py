"""A checkpoint comes back as it was written, whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_rt.errors import BundleError
from genie_rt.training import checkpoint as module
from genie_rt.training.checkpoint import latest_checkpoint, load_checkpoint, load_weights, save_checkpoint


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 5, generator=generator)
    return {
        "matrix": matrix,
        "tied": matrix,
        "transposed": matrix.T,
        "half": matrix.bfloat16(),
        "initted": torch.tensor(True),
        "count": torch.tensor(7),
    }


def save(out: Path, step: int, **more: Any) -> Path:
    optimizer = {"adamw": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}}
    return save_checkpoint(
        out, step=step, model=weights(step), optimizer=optimizer, state={"describe": {}}, **more
    )


def test_round_trip(tmp_path: Path) -> None:
    folder = save(tmp_path, 1200, ema=weights(9))
    assert folder == tmp_path / "checkpoint-00001200"
    loaded = load_checkpoint(folder)
    assert (loaded.step, loaded.state["describe"]) == (1200, {})
    assert loaded.optimizer["adamw"]["param_groups"] == [{"lr": 0.1}]
    assert loaded.ema is not None
    for read, written in ((loaded.model, weights(1200)), (loaded.ema, weights(9))):
        assert read.keys() == written.keys()
        for name, tensor in written.items():
            assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 100000000):
        save(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000010", "checkpoint-100000000"]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-100000000"


def test_kill_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(module.torch, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    assert latest_checkpoint(tmp_path) == old
    assert latest_checkpoint(tmp_path) != save(tmp_path, 2)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_checkpoint_is_skipped(tmp_path: Path, name: str, damage: str) -> None:
    good = save(tmp_path, 1)
    file = save(tmp_path, 2, ema=weights(3)) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="skipping a broken checkpoint"):
        assert latest_checkpoint(tmp_path) == good
    with pytest.raises(BundleError, match=name):
        load_checkpoint(file.parent)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_garbage_of_the_right_size_raises(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, 1) / name
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(BundleError, match=name):
        load_checkpoint(file.parent)


def test_weights_from_a_run_or_a_checkpoint(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, ema=weights(5))
    assert torch.equal(load_weights(folder)["matrix"], weights(1)["matrix"])
    assert torch.equal(load_weights(tmp_path, ema=True)["matrix"], weights(5)["matrix"])
    save(tmp_path, 2)
    with pytest.raises(BundleError, match="ema_decay"):
        load_weights(tmp_path, ema=True)
    with pytest.raises(BundleError, match="neither"):
        load_weights(tmp_path / "nowhere")
