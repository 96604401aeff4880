"""`state.json` of a checkpoint: what the run was, and the size and sha256 of every file beside it.

Read by whoever resumes, stands on or exports a run, before any other file of the checkpoint is opened.
Imports no torch.

    "files": {"model.safetensors": {"bytes": 4132, "sha256": "..."}, ...}
    "state_sha256": of all other keys, as `json.dumps(..., sort_keys=True)` writes them

Checkpoints of genie-rt 0.1 before 2026-11-30 hold sizes alone, `{"model.safetensors": 4132}`. They are read,
with a note where somebody resumes from one: damage that keeps the size shows only if a file no longer parses.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genie_rt.errors import BundleError, ConfigError
from genie_rt.runtime.files import open_regular
from genie_rt.runtime.untrusted_json import JsonValue, read_json

MODEL_FILE, EMA_FILE, OPTIMIZER_FILE, STATE_FILE = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.pt",
    "state.json",
)
MAX_STATE_BYTES = 16 << 20
MAX_FILE_BYTES = 1 << 50
MAX_STEP = 10**12

_NAME = re.compile(r"checkpoint-([0-9]{1,12})")
_SEAL = "state_sha256"
REMEDY = "restore it from a copy, or take an older checkpoint beside it"


def checkpoint_folder(out: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` finished steps, whether it exists or not."""
    return out / f"checkpoint-{step:08d}"


def checkpoint_folders(out: Path) -> list[Path]:
    """All checkpoint folders in `out`, broken ones too, newest first; none where there is no such folder."""
    if not out.is_dir():
        return []
    found = {path: _NAME.fullmatch(path.name) for path in out.iterdir()}
    steps = {path: int(match[1]) for path, match in found.items() if match}
    return sorted(steps, key=lambda path: (steps[path], path.name), reverse=True)


def describe_files(folder: Path) -> dict[str, dict[str, object]]:
    """Size and sha256 of every file in a folder that is being written, by name."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
    }


def sealed_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state with its own hash in it."""
    return {**state, _SEAL: _hash_of(state)}


def as_json(describe: dict[str, Any]) -> dict[str, Any]:
    """`describe` as it reads back from a file, so that tuples equal the lists that they become."""
    try:
        return dict(json.loads(json.dumps(describe)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"describe must hold JSON types only: {error}") from error


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write JSON without atomicity, which is up to the caller."""
    path.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """state.json of a checkpoint, after a check that every file is there and has its size.

    Raises:
        BundleError: a file is missing or of another size, or state.json is not what a run wrote.
    """
    state = parse_state(checkpoint)
    for name in state["files"]:
        _check_size(checkpoint / name, state["files"][name]["bytes"])
    return state


def check_files(checkpoint: Path, state: dict[str, Any], names: Iterable[str] | None = None) -> None:
    """Compare files with the sizes and hashes that were written with them.

    Args:
        state: from `read_state` or `parse_state`.
        names: of the files; all of them unless given.

    Raises:
        BundleError: one was changed since.
    """
    for name in state["files"] if names is None else names:
        path, record = checkpoint / name, state["files"][name]
        _check_size(path, record["bytes"])
        expected = record.get("sha256")
        if expected is not None and (found := _sha256(path)) != expected:
            raise BundleError(
                f"{path}: expected sha256 {expected[:12]}..., found {found[:12]}...: it was damaged or "
                f"changed since it was written; {REMEDY}"
            )


def _check_size(path: Path, expected: int) -> None:
    try:
        with open_regular(path, expected=f"{expected} bytes of a checkpoint", error=BundleError) as file:
            found = os.fstat(file.fileno()).st_size
    except BundleError as error:
        raise BundleError(f"{error}; {REMEDY}") from error
    if found != expected:
        raise BundleError(f"{path}: expected {expected} bytes, found {found}; {REMEDY}")


def has_hashes(state: dict[str, Any]) -> bool:
    """Whether damage to any file would be seen."""
    return _SEAL in state and all("sha256" in record for record in state["files"].values())


def parse_state(checkpoint: Path) -> dict[str, Any]:
    """state.json of a checkpoint, whatever else is in its folder. Raises as `read_state`."""
    path = checkpoint / STATE_FILE
    found = read_json(
        path, max_bytes=MAX_STATE_BYTES, expected=f"the state of a checkpoint; {REMEDY}", error=BundleError
    )
    state = found.object()
    if (seal := found.get(_SEAL)) is not None:
        rest = {key: value for key, value in state.items() if key != _SEAL}
        if seal.text() != _hash_of(rest):
            raise seal.wrong("the hash of what stands beside it: the file was damaged or changed")
    found["step"].whole(0, MAX_STEP)
    found["describe"].object()
    for key in ("loop", "versions"):
        if (value := found.get(key)) is not None:
            value.object()
    if (processes := found.get("processes")) is not None:
        processes.whole(1, 1 << 20)
    if (seconds := found.get("seconds")) is not None:
        seconds.number(0, 1e12)
    if (figures := found.get("figures")) is not None:
        for _, figure in figures.items():
            figure.number(-math.inf, math.inf)
    return {**state, "files": {name: _record(name, value) for name, value in found["files"].items()}}


def _record(name: str, value: JsonValue) -> dict[str, Any]:
    if name not in (MODEL_FILE, EMA_FILE, OPTIMIZER_FILE):
        raise value.wrong(f"records of {MODEL_FILE}, {EMA_FILE} and {OPTIMIZER_FILE} only", "another file")
    if type(value.value) is int:  # without a hash, as they were until 2026-11-30
        return {"bytes": value.whole(0, MAX_FILE_BYTES)}
    digest = value["sha256"]
    if not re.fullmatch("[0-9a-f]{64}", digest.text()):
        raise digest.wrong("64 digits of 0-9 a-f")
    return {"bytes": value["bytes"].whole(0, MAX_FILE_BYTES), "sha256": digest.text()}


def _sha256(path: Path) -> str:
    with open_regular(path, error=BundleError) as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 22):
            digest.update(part)
        return digest.hexdigest()


def _hash_of(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
