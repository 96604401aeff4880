"""What a run of `genie-rt train all` decided when it began, so that it goes on with the same after a stop."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.untrusted_json import read_json

PLAN_FILE = "plan.json"
MAX_PLAN_BYTES = 1 << 20
MAX_STEPS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Settings of the command that decide what is trained."""

    data: str
    minutes: float
    preset: str
    actions: str
    num_actions: int | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Settings, the preset that they led to, and the steps of each stage.

    Attributes:
        preset: name of a preset, path of a file, or "demo-half".
        seconds_a_step: as measured when the run began, by stage.
    """

    asked: Asked
    preset: str
    steps: dict[str, int]
    seconds_a_step: dict[str, float]

    def write(self, out: Path) -> None:
        """Write the plan into the run's folder."""
        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(out / PLAN_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_plan(out: Path, asked: Asked) -> TrainingPlan | None:
    """Read the plan of a run that began earlier; None where none did.

    Raises:
        InputError: it was asked for with other settings, or is broken.
    """
    path = out / PLAN_FILE
    if not path.exists():
        return None
    found = read_json(path, max_bytes=MAX_PLAN_BYTES, expected="the plan of `genie-rt train all`")
    was = found["asked"].object()
    for name, value in asdict(asked).items():
        if was.get(name) != value:
            flag = name.replace("_", "-")
            raise InputError(
                f"{out} holds a run with --{flag} {was.get(name)}, now asked for with {value}: use another "
                "--out, or the same settings to go on"
            )
    stages = {"tokenizer", "dynamics"} | ({"lam"} if asked.actions == "latent" else set())
    for key in ("steps", "seconds_a_step"):
        if set(found[key].object()) != stages:
            raise found[key].wrong(f"the stages {', '.join(sorted(stages))}")
    return TrainingPlan(
        asked=asked,
        preset=found["preset"].text(),
        steps={name: value.whole(1, MAX_STEPS) for name, value in found["steps"].items()},
        seconds_a_step={name: value.number(0, 1e9) for name, value in found["seconds_a_step"].items()},
    )
