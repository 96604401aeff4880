"""Checkpoints: one folder per saved step, written so that a half-written one is never taken for whole.

    OUT/checkpoint-00001200/model.safetensors    the objective's state dict
                            ema.safetensors      the same with averaged parameters, where asked for
                            optimizer.pt         optimiser states, read back with weights_only=True
                            state.json           step, settings, versions, device, seconds, each file's size

The files go to a hidden folder first, are synced to disk, and then one rename makes them visible.
"""

import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genie_rt.errors import BundleError

MODEL_FILE, EMA_FILE, OPTIMIZER_FILE, STATE_FILE = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.pt",
    "state.json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint folder holds; all tensors on the CPU. `state` is state.json as parsed."""

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    state: dict[str, Any]


def save_checkpoint(
    out: Path,
    *,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict[str, Any],
    ema: dict[str, Tensor] | None = None,
    keep: int = 2,
) -> Path:
    """Write `out/checkpoint-<step>` atomically, then delete all but the `keep` newest.

    Args:
        step: number of finished steps.
        model: the objective's state dict, any device; copied to the CPU, which synchronises.
        optimizer: optimiser states by name.
        state: what state.json shall hold besides the step and the files' sizes; JSON types only.

    Returns:
        The checkpoint's folder.
    """
    final = checkpoint_folder(out, step)
    partial = out / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_on_cpu(model), partial / MODEL_FILE)
    if ema is not None:
        save_file(_on_cpu(ema), partial / EMA_FILE)
    torch.save(optimizer, partial / OPTIMIZER_FILE)
    sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
    text = json.dumps({"step": step, **state, "files": sizes}, indent=2)
    (partial / STATE_FILE).write_text(text + "\n", encoding="utf-8")
    for file in partial.iterdir():
        _sync(file)
    _sync(partial)
    if final.exists():  # a broken one, which the resume had skipped
        shutil.rmtree(final)
    partial.replace(final)
    _sync(out)
    for old in _folders(out)[keep:]:
        shutil.rmtree(old)
    return final


def checkpoint_folder(out: Path, step: int) -> Path:
    """Where the checkpoint after `step` finished steps lies, or would lie."""
    return out / f"checkpoint-{step:08d}"


def latest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint in `out`, or None. A broken one is skipped with a warning."""
    for folder in _folders(out):
        try:
            read_state(folder)
        except BundleError as error:
            warnings.warn(f"skipping a broken checkpoint: {error}", stacklevel=2)
        else:
            return folder
    return None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """state.json of `checkpoint`, after a check that every file is there in full.

    Raises:
        BundleError: a file is missing or of another size, or state.json cannot be read.
    """
    path = checkpoint / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        sizes = dict(state["files"])
        int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is no readable checkpoint state ({error!r})") from error
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            raise BundleError(f"{file} is missing")
        if file.stat().st_size != size:
            raise BundleError(f"{file} should have {size} bytes, has {file.stat().st_size}")
    return dict(state)


def load_checkpoint(checkpoint: Path) -> Checkpoint:
    """Read a whole checkpoint folder to the CPU.

    Raises:
        BundleError: it is missing, broken or truncated.
    """
    state = read_state(checkpoint)
    try:
        optimizer = torch.load(checkpoint / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a broken file
        raise BundleError(f"{checkpoint / OPTIMIZER_FILE} cannot be read: {error}") from error
    return Checkpoint(
        step=int(state["step"]),
        model=_read_tensors(checkpoint / MODEL_FILE),
        ema=_read_tensors(checkpoint / EMA_FILE) if EMA_FILE in state["files"] else None,
        optimizer=optimizer,
        state=state,
    )


def load_weights(checkpoint: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """The weights for inference or for a next stage, on the CPU.

    Args:
        checkpoint: a checkpoint's folder, or the folder of a run, whose newest checkpoint is then taken.
        ema: the averaged weights; the run must have had `ema_decay > 0`.

    Raises:
        BundleError: there is no whole checkpoint, or it holds no averaged weights.
    """
    folder = checkpoint if (checkpoint / STATE_FILE).is_file() else latest_checkpoint(checkpoint)
    if folder is None:
        raise BundleError(f"{checkpoint} is neither a checkpoint nor a run's folder that holds one")
    name = EMA_FILE if ema else MODEL_FILE
    if name not in read_state(folder)["files"]:
        raise BundleError(f"{folder} holds no {name}: averaged weights need a run with ema_decay > 0")
    return _read_tensors(folder / name)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` in one piece: readers see the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _sync(partial)
    partial.replace(path)


def _folders(out: Path) -> list[Path]:
    """All checkpoint folders in `out`, broken ones too, newest first."""
    found = [p for p in out.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Copies, since safetensors refuses tensors that share memory (tied weights).
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
