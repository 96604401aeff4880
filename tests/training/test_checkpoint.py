"""A checkpoint comes back as it was written, whole or not at all."""

import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_rt.errors import BundleError
from genie_rt.export.checkpoint import read_checkpoint
from genie_rt.training import checkpoint as module
from genie_rt.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    read_optimizer,
    resumed_checkpoint,
    save_checkpoint,
)
from genie_rt.training.checkpoint_state import checkpoint_folders, read_state


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
def test_damaged_checkpoint_is_skipped(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = save(tmp_path, 1)
    file = save(tmp_path, 2, ema=weights(3)) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    assert latest_checkpoint(tmp_path) == good
    assert f"skipping a broken checkpoint: {file}" in caplog.text
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


def flip(file: Path, offset: int) -> None:
    """Another bit somewhere, at the same size."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.pt"])
def test_one_changed_bit_is_seen_wherever_it_is(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, 1, ema=weights(3)) / name
    size = file.stat().st_size
    for offset in range(0, size, max(1, size // 50)):
        flip(file, offset)
        with pytest.raises(
            BundleError, match=rf"{name}: expected sha256 .* damaged or changed .*older checkpoint"
        ):
            load_checkpoint(file.parent)
        flip(file, offset)
    load_checkpoint(file.parent)


def test_nothing_damaged_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)
    flip(folder / "optimizer.pt", 100)
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("read before its hash was checked"))
    monkeypatch.setattr(
        "zipfile.ZipFile", lambda *_, **__: pytest.fail("unzipped before its hash was checked")
    )
    with pytest.raises(BundleError, match="sha256"):
        load_checkpoint(folder)


def change_state(folder: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = False) -> None:
    state = json.loads((folder / "state.json").read_text())
    change(state)
    if not sealed:
        state.pop("state_sha256", None)
    (folder / "state.json").write_text(json.dumps(state))


def test_a_state_that_was_changed_is_seen(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    change_state(folder, lambda state: state.update(step=2), sealed=True)
    with pytest.raises(BundleError, match=r"state\.json: state_sha256: .*damaged or changed"):
        read_state(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(step="1"), r'step: expected a whole number .*, found "1"'),
        (lambda s: s.update(step=-1), "step: expected a whole number"),
        (lambda s: s.update(step=float("nan")), "the number NaN"),
        (lambda s: s.update(step=10**400), "a whole number of 401 digits"),
        (lambda s: s.update(describe=[]), "describe: expected an object, found a list"),
        (lambda s: s.update(loop=3), "loop: expected an object, found 3"),
        (lambda s: s.update(processes=0), "processes: expected a whole number"),
        (lambda s: s.update(seconds="long"), 'seconds: expected a number .*, found "long"'),
        (lambda s: s.update(files=3), "files: expected an object, found 3"),
        (lambda s: s["files"].update({"../../x": 3}), "expected records of .* only"),
        (lambda s: s["files"].update({"optimizer.pt": "3"}), r"files\.optimizer\.pt: expected an object"),
        (lambda s: s["files"].update({"optimizer.pt": {"bytes": 3}}), "expected the key 'sha256'"),
        (lambda s: s["files"]["optimizer.pt"].update(sha256="F" * 64), "expected 64 digits"),
        (lambda s: s["files"].pop("optimizer.pt"), "expected model.safetensors and optimizer.pt"),
        (lambda s: s.update(describe=json.loads("[" * 100 + "]" * 100)), "levels of nesting"),
    ],
)
def test_a_state_of_another_shape_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder = save(tmp_path, 1)
    change_state(folder, change)
    with pytest.raises(BundleError, match=message) as raised:
        load_checkpoint(folder)
    assert "\n" not in str(raised.value) and "state.json" in str(raised.value)


def test_a_checkpoint_without_hashes_is_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path, 1)

    def as_before(state: dict[str, Any]) -> None:
        state["files"] = {name: record["bytes"] for name, record in state["files"].items()}

    change_state(folder, as_before)
    found = resumed_checkpoint(tmp_path)
    assert found is not None and found[1].step == 1
    assert f"{folder}: saved without hashes" in caplog.text


def test_a_resume_falls_back_to_the_checkpoint_before_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    flip(bad / "optimizer.pt", 200)
    found = resumed_checkpoint(tmp_path)
    assert found is not None and found[0] == good and found[1].step == 1
    assert f"skipping a broken checkpoint: {bad / 'optimizer.pt'}: expected sha256" in caplog.text
    assert resumed_checkpoint(tmp_path / "nowhere") is None


def test_a_run_of_broken_checkpoints_does_not_start_anew_unasked(tmp_path: Path) -> None:
    flip(save(tmp_path, 1) / "optimizer.pt", 200)
    with pytest.raises(
        BundleError, match=r"found 1 broken ones \(.*optimizer\.pt.*start anew in another folder"
    ):
        resumed_checkpoint(tmp_path)


def test_folders_with_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    folder = save(tmp_path, 7)
    for name in (
        "checkpoint-\N{SUPERSCRIPT TWO}",
        "checkpoint-\N{ARABIC-INDIC DIGIT NINE}",
        "checkpoint-",
        "checkpoint-1a",
    ):
        (tmp_path / name).mkdir()
    assert checkpoint_folders(tmp_path) == [folder]
    assert latest_checkpoint(tmp_path) == folder
    with pytest.raises(Exception, match="expected a run of the dynamics"):
        read_checkpoint(tmp_path)


def test_a_pipe_in_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("state.json", "optimizer.pt", "model.safetensors"):
        folder = save(tmp_path / name, 1)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(BundleError, match=f"{name}: .*a named pipe"):
            load_checkpoint(folder)


def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "optimizer.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 26))
    with pytest.raises(BundleError, match=r"optimizer\.pt: expected entries that are stored as they are"):
        read_optimizer(path)


def test_an_archive_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "optimizer.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(3):
            archive.writestr(f"archive/data/{index}", bytes(1 << 16))
        for entry in archive.infolist():  # all of them the first
            entry.header_offset = 0
            entry.orig_filename = entry.filename
        archive.fp.truncate(1 << 16) if archive.fp else None
        archive.start_dir = 1 << 16
    with pytest.raises(BundleError, match=r"expected entries of at most .* bytes together"):
        read_optimizer(path)


@pytest.mark.parametrize("data", [b"", b"\x80\x02}q\x00.", b"PK\x05\x06" + bytes(18), b"MZ" * 99])
def test_what_is_no_archive_of_torch_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "optimizer.pt"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"optimizer\.pt: expected"):
        read_optimizer(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "optimizer.pt")
    with pytest.raises(BundleError, match="expected optimiser states by name, found list"):
        read_optimizer(tmp_path / "optimizer.pt")


@pytest.mark.parametrize("call", ["save_file", "torch.save", "write_state", "_sync"])
@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, failure: int
) -> None:
    old = save(tmp_path, 1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(f"genie_rt.training.checkpoint.{call}", fail)
    with pytest.raises(
        BundleError, match=f"step 2, found: {os.strerror(failure)}; .*{old.name}, and the same"
    ):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    load_checkpoint(old)


def test_what_a_killed_run_left_half_written_is_swept(tmp_path: Path) -> None:
    for name in (".checkpoint-00000003.partial", ".checkpoint-00000001.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    folder = save(tmp_path, 4)
    assert list(tmp_path.iterdir()) == [folder]
