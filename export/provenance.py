"""Provenance of a world in its bundle: data, recipe, time and device of each stage, commit."""

from __future__ import annotations

import datetime
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import genie_rt
from genie_rt.errors import BundleError
from genie_rt.export.checkpoint import DynamicsCheckpoint
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.presets import PRESETS, preset
from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import JsonValue
from genie_rt.training.checkpoint_state import STATE_FILE

_STAGE = ("steps", "seconds", "device", "clip", "loop", "figures")


def provenance_of(checkpoint: DynamicsCheckpoint) -> dict[str, Any]:
    """JSON values; what the run did not record is None, or absent.

    Returns:
        data: source, frames, provenance of the clip store; `visuals` where it is a recorded game.
        recipe: actions, context, corruption, and whether the weights are averaged.
        stages: of "tokenizer", "lam" (where there is one) and "dynamics": steps, seconds, device, clip, loop,
            and the figures that were measured on held-out clips while it trained.
        versions: that trained the dynamics. export: date, versions and commit of the export.
    """
    state = checkpoint.state
    describe = state["describe"]
    data = describe.get("data")
    if not isinstance(data, dict):
        raise BundleError(
            f"{checkpoint.path / STATE_FILE}: describe.data: expected an object, found {brief(repr(data))}"
        )
    dynamics = {key: state.get(key, describe.get(key)) for key in _STAGE}
    stages = {"dynamics": {**dynamics, "steps": state.get("step"), "precision": state.get("precision")}}
    for name in ("lam", "tokenizer"):
        stage = describe.get(name)
        if isinstance(stage, dict):
            stages = {name: {key: stage.get(key) for key in _STAGE}, **stages}
    visuals = [recording.get("visuals") for recording in recordings_of(data).values()]
    if visuals and visuals.count(visuals[0]) == len(visuals):
        data = {**data, "visuals": visuals[0]}
    recipe = {key: describe.get(key) for key in ("actions", "context", "corruption")}
    return {
        "data": data,
        "recipe": {**recipe, "averaged_weights": checkpoint.averaged},
        "stages": stages,
        "versions": state.get("versions"),
        "export": {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": {"genie-rt": genie_rt.__version__, "python": platform.python_version()},
            "commit": source_commit(),
        },
    }


def check_provenance(provenance: Mapping[str, Any]) -> None:
    """Check that a provenance has the structure that `provenance_of` gives, as a model card needs.

    A run's state and a bundle's manifest may hold anything there.

    Raises:
        BundleError: it has another; the message names the key.
    """
    found = JsonValue(
        dict(provenance), "provenance", "what genie-rt records of a trained world", error=BundleError
    )
    found["data"].object()
    recipe, export = found["recipe"], found["export"]
    for key in ("actions", "context", "corruption", "averaged_weights"):
        _ = recipe[key]
    if (corruption := recipe.get("corruption")) is not None:
        corruption.number(0, 1)
    for _, stage in found["stages"].items():
        if (loop := stage.get("loop")) is not None:
            loop.object()
    for versions in (found.get("versions"), export["versions"]):
        if versions is not None:
            versions.object()
    _ = export["commit"], export["date"]


def recordings_of(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recording settings of each split of a recorded game; empty for other data."""
    provenance = data.get("provenance")
    recordings = provenance.get("recordings") if isinstance(provenance, dict) else None
    if not isinstance(recordings, dict):
        return {}
    return {split: recording for split, recording in recordings.items() if isinstance(recording, dict)}


def preset_of(config: ModelConfig) -> str:
    """The preset that has these sizes, whatever the actions are; "custom" where none has."""

    def without_actions(sizes: ModelConfig) -> ModelConfig:
        return replace(sizes, lam=None, dynamics=replace(sizes.dynamics, num_actions=1))

    wanted = without_actions(config)
    return next((name for name in PRESETS if without_actions(preset(name)) == wanted), "custom")


def source_commit() -> str | None:
    """`git describe` of the checkout that this package runs from; None where it is no checkout.

    An installed package may lie in somebody else's checkout, so git is first asked whether it tracks this
    file.
    """
    git, here = shutil.which("git"), Path(__file__).resolve()
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        command = [git, "--no-optional-locks", "-C", str(here.parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if ask("ls-files", "--error-unmatch", here.name) is None:
        return None
    return ask("describe", "--always", "--dirty")
