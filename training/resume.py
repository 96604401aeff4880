"""Check that a checkpoint belongs to the run that resumes from it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genie_rt.errors import ConfigError
from genie_rt.runtime.untrusted import brief
from genie_rt.training.checkpoint import Checkpoint
from genie_rt.training.loop_config import MAY_CHANGE_ON_RESUME, LoopConfig


def as_json(describe: dict[str, Any]) -> dict[str, Any]:
    """`describe` as it reads back from a file, so that tuples equal the lists that they become."""
    try:
        return dict(json.loads(json.dumps(describe)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"describe must hold JSON types only: {error}") from error


def refuse_other_run(checkpoint: Checkpoint, config: LoopConfig, describe: dict[str, Any], out: Path) -> None:
    """Raise ConfigError, naming the differences, if the checkpoint is of another experiment."""
    kept = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE_ON_RESUME}
    loop = checkpoint.state.get("loop") or {}
    saved = {n: v for n, v in loop.items() if n not in MAY_CHANGE_ON_RESUME}
    was = _flat({"loop": saved, "describe": checkpoint.state["describe"]})
    now = _flat({"loop": as_json(kept), "describe": describe})
    missing = "nothing"
    changes = [
        f"{name} was {brief(repr(was.get(name, missing)))}, is now {now.get(name, missing)!r}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name, missing) != now.get(name, missing)
    ]
    if changes:
        raise ConfigError(
            f"{out} holds a checkpoint of another run: {'; '.join(changes)}. "
            f"Use another folder, or the old values"
        )
    if config.steps < checkpoint.step:
        raise ConfigError(
            f"{out} is already at step {checkpoint.step}, beyond steps {config.steps}: raise steps"
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
