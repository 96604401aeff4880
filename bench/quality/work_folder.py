"""The work folder of a long measurement: what is known of a plan is a file, so a stopped run goes on.

    OUT.work/<key>/<plan>-<digest>.npz     one `Outcome`
    OUT.work/<key>/truth.npz               the clips' own figures
    OUT.work/<key>/reference.npz           descriptors of other real clips
    OUT.work/<key>/times.json              milliseconds per frame

The key is a digest of all that an outcome depends on besides its plan: weights, back end, number format,
clips, seed, protocol. Other weights or other settings have another key and never meet these files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from genie_rt.bench.quality.measure import Outcome, Protocol, Truth, plan_name
from genie_rt.errors import InputError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.config import to_dict
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.stored_archive import check_stored
from genie_rt.runtime.untrusted_json import parse_json, read_json
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clip_distance import Descriptors
from genie_rt.training.evaluation.clips import TrueClips

MEASUREMENT_VERSION = 1
"""Changes when the same plan on the same clips would give another outcome."""

MAX_TIMES_BYTES = 16 * 2**20
MAX_MS = 1e9

Arrays = TypeVar("Arrays", Outcome, Truth)


class Work:
    """The files of one key.

    Args:
        folder: `OUT.work`; made when the first file is written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self.folder = folder / key

    @classmethod
    def of(cls, folder: Path, world: World, clips: TrueClips, protocol: Protocol, computed: str = "") -> Work:
        """The files of a measurement.

        Args:
            computed: how, where the `reference` back end with its own tokenizer did not: part of the key.
        """
        weights = world.bundle.files.get(WEIGHTS)
        settings: dict[str, Any] = {
            "version": MEASUREMENT_VERSION,
            "weights": weights.sha256 if weights else world.bundle.digest,  # plans of the bundle may change
            "dtype": world.dtype,
            "frames": hashlib.sha256(clips.frames.tobytes()).hexdigest(),
            "actions": hashlib.sha256(clips.actions.tobytes()).hexdigest(),
            "shape": clips.frames.shape,
            "protocol": dataclasses.asdict(protocol),
        }
        if computed:
            settings["computed"] = computed
        return cls(folder, _digest(settings))

    def outcome(self, plan: Plan) -> Outcome | None:
        """Return the stored outcome of a plan, or None.

        Raises:
            InputError: its file is broken.
        """
        return self._read(Outcome, self._path(plan))

    def keep(self, plan: Plan, outcome: Outcome) -> None:
        """Write an outcome atomically."""
        self._write(self._path(plan), _arrays(outcome))

    def truth(self) -> Truth | None:
        return self._read(Truth, self.folder / "truth.npz")

    def keep_truth(self, truth: Truth) -> None:
        self._write(self.folder / "truth.npz", _arrays(truth))

    def reference(self, num_clips: int) -> Descriptors | None:
        """Descriptors of so many reference clips."""
        found = _load(self.folder / f"reference-{num_clips}.npz")
        return None if found is None else found["descriptors"]

    def keep_reference(self, num_clips: int, descriptors: Descriptors) -> None:
        self._write(self.folder / f"reference-{num_clips}.npz", {"descriptors": descriptors})

    def times(self, settings: dict[str, Any]) -> dict[str, dict[str, float]] | None:
        """Milliseconds by plan, if they were taken under just these settings."""
        path = self.folder / "times.json"
        if not path.exists():
            return None
        found = read_json(path, max_bytes=MAX_TIMES_BYTES, expected="times of plans; delete it")
        if found["settings"].object() != parse_json(json.dumps(settings)):
            return None
        return {
            name: {key: ms.number(0, MAX_MS) for key, ms in row.items()}
            for name, row in found["times"].items()
        }

    def keep_times(self, settings: dict[str, Any], times: dict[str, dict[str, float]]) -> None:
        with atomic_file(self.folder / "times.json") as temporary:
            temporary.write_text(json.dumps({"settings": settings, "times": times}, indent=1) + "\n")

    def _path(self, plan: Plan) -> Path:
        return self.folder / f"{plan_name(plan)}-{_digest(_read_by(plan))}.npz"

    def _write(self, path: Path, arrays: dict[str, Any]) -> None:
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def _read(self, kind: type[Arrays], path: Path) -> Arrays | None:
        found = _load(path)
        if found is None:
            return None
        names = {field.name for field in dataclasses.fields(kind)}
        if found.keys() != names:
            raise InputError(f"{path}: expected {', '.join(sorted(names))}, found {', '.join(sorted(found))}")
        return kind(**found)


def _read_by(plan: Plan) -> dict[str, Any]:
    """The fields that decide what a plan does: another default of one that it does not read is no matter."""
    unread = set() if plan.adapts else {"threshold"}
    unread |= {"noise"} if plan.static_order else set()
    unread |= {"fresh"} if plan.reuse != "frames" else set()
    return {name: value for name, value in to_dict(plan).items() if name not in unread}


def _load(path: Path) -> dict[str, Any] | None:
    """The arrays of a file, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        check_stored(path, expected="arrays of an earlier run", error=InputError)
    except InputError as error:
        raise InputError(f"{error}; delete it") from error
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected arrays of an earlier run, found {error}; delete it") from error


def _arrays(values: Outcome | Truth) -> dict[str, Any]:
    return {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
