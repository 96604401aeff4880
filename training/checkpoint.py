"""Checkpoints: one folder per saved step, written so that a half-written one is never taken for whole.

    OUT/checkpoint-00001200/model.safetensors    the objective's state dict
                            ema.safetensors      the same with averaged parameters, where asked for
                            optimizer.pt         optimiser states, read back with weights_only=True
                            state.json           step, settings, versions, device, seconds, and size and
                                                 sha256 of each file: see `checkpoint_state.py`

The files go to a hidden folder first, are synced to disk, and then one rename makes them visible. Nothing is
unpickled or unzipped before it has the hash that was written with it.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genie_rt.errors import BundleError
from genie_rt.runtime.stored_archive import check_stored
from genie_rt.runtime.untrusted import brief
from genie_rt.training.checkpoint_state import (
    EMA_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    check_files,
    checkpoint_folder,
    checkpoint_folders,
    describe_files,
    has_hashes,
    read_state,
    sealed_state,
    write_state,
)

MAX_PICKLE_BYTES = 64 << 20
"""Largest size of the pickle in `optimizer.pt`, which holds names and settings of the optimisers."""

_LOGGER = logging.getLogger("genie_rt.training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint folder; all tensors on the CPU. `state` is state.json as parsed."""

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

    Raises:
        BundleError: the disk cannot be written; nothing is left of it, and older checkpoints stay.
    """
    final = checkpoint_folder(out, step)
    partial = out / f".{final.name}.partial"
    try:
        for leftover in out.glob(".checkpoint-*"):  # of a killed run
            shutil.rmtree(leftover)
        partial.mkdir(parents=True)
        _written(partial / MODEL_FILE, lambda path: save_file(_on_cpu(model), path))
        if ema is not None:
            _written(partial / EMA_FILE, lambda path: save_file(_on_cpu(ema), path))
        _written(partial / OPTIMIZER_FILE, lambda path: torch.save(optimizer, path))
        files = describe_files(partial)
        write_state(partial / STATE_FILE, sealed_state({"step": step, **state, "files": files}))
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        if final.exists():  # a broken one, which the resume had skipped
            shutil.rmtree(final)
        partial.replace(final)
        _sync(out)
        for old in checkpoint_folders(out)[keep:]:
            _remove(old)
    except OSError as error:
        kept = checkpoint_folders(out)
        wanted = "room for" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "to write"
        raise BundleError(
            f"{out}: expected {wanted} the checkpoint of step {step}, found: {error.strerror or error}; "
            f"the last one is {kept[0].name if kept else 'none'}, and the same command goes on from there "
            "once the disk can be written"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def find_checkpoint(run: Path, *, skip_broken: bool) -> Path | None:
    """`run` where it is a checkpoint itself, else the newest one in it; None where there is none.

    Args:
        skip_broken: take the newest whole one, as `latest_checkpoint`; else the newest, whole or not.
    """
    if (run / STATE_FILE).is_file():
        return run
    return latest_checkpoint(run) if skip_broken else next(iter(checkpoint_folders(run)), None)


def latest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint in `out`, or None. A broken one is skipped with a word in the log."""
    for folder in checkpoint_folders(out):
        try:
            check_files(folder, read_state(folder))
        except BundleError as error:
            _LOGGER.warning("skipping a broken checkpoint: %s", error)
        else:
            return folder
    return None


def resumed_checkpoint(out: Path) -> tuple[Path, "Checkpoint"] | None:
    """The newest checkpoint in `out` that reads whole, or None where there is none at all.

    A broken one is skipped with a word in the log: the run loses the steps since the one before.

    Raises:
        BundleError: there are checkpoints, and none of them reads.
    """
    folders = checkpoint_folders(out)
    reasons: list[str] = []
    for folder in folders:
        try:
            checkpoint = load_checkpoint(folder)
        except BundleError as error:
            reasons.append(str(error))
            _LOGGER.warning("skipping a broken checkpoint: %s", error)
            continue
        if not has_hashes(checkpoint.state):
            _LOGGER.warning("%s: saved without hashes, by an earlier genie-rt: damage may go unseen", folder)
        return folder, checkpoint
    if folders:
        raise BundleError(
            f"{out}: expected a whole checkpoint to go on from, found {len(folders)} broken ones "
            f"({reasons[0]}); start anew in another folder, or remove them"
        )
    return None


def load_checkpoint(checkpoint: Path) -> Checkpoint:
    """Read a whole checkpoint folder to the CPU.

    Raises:
        BundleError: it is missing, broken, truncated or changed.
    """
    state = read_state(checkpoint)
    if not {MODEL_FILE, OPTIMIZER_FILE} <= state["files"].keys():
        raise BundleError(f"{checkpoint / STATE_FILE}: files: expected {MODEL_FILE} and {OPTIMIZER_FILE}")
    check_files(checkpoint, state)
    return Checkpoint(
        step=state["step"],
        model=_read_tensors(checkpoint / MODEL_FILE),
        ema=_read_tensors(checkpoint / EMA_FILE) if EMA_FILE in state["files"] else None,
        optimizer=read_optimizer(checkpoint / OPTIMIZER_FILE),
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
    folder = find_checkpoint(checkpoint, skip_broken=True)
    if folder is None:
        raise BundleError(f"{checkpoint} is neither a checkpoint nor a run's folder that holds one")
    name = EMA_FILE if ema else MODEL_FILE
    state = read_state(folder)
    if name not in state["files"]:
        raise BundleError(f"{folder} holds no {name}: averaged weights need a run with ema_decay > 0")
    return read_weights(folder, state, name)


def read_weights(
    checkpoint: Path,
    state: dict[str, Any],
    name: str,
    choose: Callable[[dict[str, tuple[int, ...]]], Iterable[str]] = list,
) -> dict[str, Tensor]:
    """Tensors of one of a checkpoint's files, on the CPU, once its size and hash are right.

    Args:
        state: from `read_state` or `parse_state`.
        name: of the file, which the state records.
        choose: says from the shapes by name which tensors are read; all of them unless given.

    Raises:
        BundleError: the file is missing, broken, truncated or changed.
    """
    check_files(checkpoint, state, [name])
    return _read_tensors(checkpoint / name, choose)


def read_optimizer(path: Path) -> dict[str, Any]:
    """Optimiser states by name, all tensors on the CPU. Only tensors, numbers and texts are made of it.

    Raises:
        BundleError: it is no archive as `torch.save` writes it, is compressed, declares more than it has, or
            does not read.
    """
    for name, size in check_stored(path, expected="optimiser states").items():
        if name.endswith(".pkl") and size > MAX_PICKLE_BYTES:
            raise BundleError(
                f"{path}: expected at most {MAX_PICKLE_BYTES} bytes of names and settings, found {size}"
            )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a broken file
        raise BundleError(f"{path}: expected optimiser states, found {brief(error)}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(state, dict) for name, state in found.items()
    ):
        raise BundleError(f"{path}: expected optimiser states by name, found {type(found).__name__}")
    return found


def _written(path: Path, write: Callable[[Path], None]) -> None:
    """Write with a library that raises its own errors when a disk cannot be written."""
    try:
        write(path)
    except (SafetensorError, RuntimeError) as error:
        reason = brief(error).splitlines()[0]
        number = re.search(r"\(os error (\d+)\)", reason)  # as safetensors says it; torch says none
        failure = OSError(f"{path.name}: {reason}")
        failure.errno = int(number[1]) if number else None
        raise failure from error


def _remove(folder: Path) -> None:
    """Remove a checkpoint; it is hidden first, so that a kill leaves no half-deleted one."""
    hidden = folder.with_name(f".{folder.name}.old")
    folder.replace(hidden)
    shutil.rmtree(hidden)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Copies, since safetensors refuses tensors that share memory (tied weights).
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}


def _read_tensors(
    path: Path, choose: Callable[[dict[str, tuple[int, ...]]], Iterable[str]] = list
) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return {name: file.get_tensor(name) for name in choose(shapes)}
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path}: expected a safetensors file, found {brief(error)}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
