"""Every command line that a document shows is one that genie-rt takes, and does what it should."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from documented import ROOT, Documented, documented
from makers import make_config, make_model, make_pictures
from tiny_runs import ACTIONS as RUN_ACTIONS
from tiny_runs import TINY, TinyRuns, tiny_loop

from genie_rt.errors import UnsupportedError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan
from genie_rt.training.data.writer import ClipStoreWriter

LINES = documented()
CONFIG = make_config(grid=(6, 8), window=2)
ACTIONS = ("left", "right", "right+jump")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What small runs use in place of the documented files.

    Attributes:
        bundle: a tiny world with the demo's plans and some of its actions.
        clips: a clip store of that world's size and actions.
        run_clips: one of the size and actions of `runs`.
        runs: what training commands left.
        out: an empty folder.
    """

    bundle: str
    clips: Path
    run_clips: Path
    runs: TinyRuns
    out: Path


def test_documents_show_commands() -> None:
    """Else the tests below would test nothing."""
    pages = {line.where.partition(":")[0] for line in LINES}
    assert {
        "README.md",
        "kernels/README.md",
        "docs/backends.md",
        "docs/benchmarks.md",
        "docs/plans.md",
        "docs/tensorrt.md",
        "docs/training.md",
        "Makefile",
        "genie-rt export --help",
    } <= pages
    assert {line.name for line in LINES} >= {("bench",), ("train", "dynamics"), ("export",), ("compare",)}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_documented_line_is_one_that_genie_rt_takes(line: Documented) -> None:
    assert line.name, f"{line}: there is no such command"
    flags = {f"--{name.replace('_', '-')}" for name in _field_names(line.kind)} | {"--help"}
    named = {word.partition("=")[0] for word in line.arguments if word.startswith("--")}
    assert named <= flags | {f"--no-{flag[2:]}" for flag in flags}, f"{line}: no flag {named - flags}"
    if all(word.startswith("--") for word in line.arguments) and _parse(line) is None:
        return  # no line to type, but the name of a command or flag within a sentence
    assert _parse(line) is not None, line


def _field_names(kind: type) -> set[str]:
    """The flags of a command, those of the training loop too."""
    names = set()
    for field in dataclasses.fields(kind):
        names.add(field.name)
        if field.name == "loop":
            names |= {each.name for each in dataclasses.fields(tiny_loop())}
    return names


def _parse(line: Documented) -> Any:
    """The command with its flags; None where words are missing; True for its help."""
    try:
        return tyro.cli(line.kind, args=list(line.arguments), console_outputs=False)
    except SystemExit as error:
        return None if error.code else True


# --- small runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The tiny bundle, its clips, and those of the runs."""
    root = tmp_path_factory.mktemp("documented")
    plans = {name: Plan(passes=2) for name in ("default", "quality", "balanced", "fast")}
    write_bundle(
        root / "world",
        name="tiny",
        config=CONFIG,
        weights=make_model(CONFIG).state_dict(),
        action_names=ACTIONS,
        default_action="left",
        plans=plans,
        prompts=list(make_pictures(CONFIG, 8)),
        provenance={},
        model_card="# tiny\n",
    )
    clips = _write_clips(root / "clips", CONFIG, ACTIONS)
    return str(root / "world"), clips, _write_clips(root / "run-clips", TINY, RUN_ACTIONS)


def _write_clips(path: Path, config: ModelConfig, actions: tuple[str, ...]) -> Path:
    """As many episodes as the calibration of int8 wants."""
    height, width = config.tokenizer.height, config.tokenizer.width
    chance = np.random.default_rng(0)
    with ClipStoreWriter(path, source="noise", height=height, width=width, action_names=actions) as writer:
        for episode in range(44):
            frames = chance.integers(0, 256, (20, height, width, 3), dtype=np.uint8)
            split = "heldout" if episode % 4 == 0 else "train"
            writer.append(frames, np.array([-1, *chance.integers(0, 3, 19)]), split=split)
    return path


@pytest.fixture
def place(files: tuple[str, Path, Path], tiny_runs: TinyRuns, tmp_path: Path) -> Place:
    return Place(*files, tiny_runs, tmp_path)


Small = Callable[[Place, Any], dict[str, Any]]


def _trained(place: Place, command: Any, **changes: Any) -> dict[str, Any]:
    loop = tiny_loop(optimizer=command.loop.optimizer, beta2=command.loop.beta2)
    return {"data": place.runs.store, "out": place.out / "run", "preset": "tiny", "loop": loop, **changes}


def _exported(place: Place, command: Any) -> dict[str, Any]:
    is_run = "dynamics" in command.source or command.metrics is not None  # whose provenance a card needs
    return {
        "source": str(place.runs.logged) if is_run else place.bundle,
        "out": place.out / "bundle",
        "prompt": tuple(sorted(Path(ROOT / "runtime/bundles/demo/prompts").glob("*.png"))[:2])
        if command.prompt
        else (),
        "clips": command.clips and (place.run_clips if is_run else place.clips),
        "plans": command.plans and ROOT / command.plans,
        "metrics": command.metrics and ROOT / "docs/demo-evaluation.json",
        "precisions": None,  # of graphs that the tiny world has not
        "plan": command.plan if not is_run or command.plans else (),
        "overwrite": True,
    }


SMALL: dict[tuple[str, ...], Small] = {
    ("play",): lambda place, command: {
        "bundle": place.bundle, "headless": True, "steps": 2, "backend": "reference", "dtype": "float32",
        "out": command.out and place.out / command.out.name,
    },
    ("info",): lambda place, command: {},
    ("bench",): lambda place, command: {
        "bundle": None if command.preset else place.bundle, "preset": command.preset and "demo",
        "iterations": 1, "duration": 0.0, "warm_up": 0, "backend": "reference", "dtype": "float32",
        "sweep": (1, 2), "versus": command.versus and ("reference:float64",),
        "json": command.json and place.out / "record.json",
    },
    ("bench", "ceilings"): lambda place, command: {
        "repeats": 1, "device": "cpu", "json": command.json and place.out / "ceilings.json",
    },
    ("bench", "long"): lambda place, command: {
        "bundle": command.bundle and place.bundle, "steps": 200,
    },
    ("bench", "peek"): lambda place, command: {
        "bundle": place.bundle, "iterations": 1, "duration": 0.0, "warm_up": 0, "backend": "reference",
        "dtype": "float32", "json": command.json and place.out / "peek.json",
    },
    ("bench", "quality"): lambda place, command: {
        "bundle": place.bundle, "data": place.clips, "clips": 4, "reference_clips": 6, "iterations": 1,
        "batch": 4, "passes": command.passes if command.versus else (1,), "out": place.out / "quality.csv",
        "versus": command.versus and ("reference:float64",),
    },
    ("verify",): lambda place, command: {
        "bundle": place.bundle, "frames": 2, "iterations": 0, "backend": "reference",
    },
    ("data", "prompts"): lambda place, command: {"data": place.clips, "out": place.out / "prompts"},
    ("train", "tokenizer"): _trained,
    ("train", "lam"): lambda place, command: _trained(place, command, min_delta=0.0),
    ("train", "dynamics"): lambda place, command: _trained(
        place, command, tokenizer=place.runs.tokenizer, lam=command.lam and place.runs.lam
    ),
    ("train", "all"): lambda place, command: {
        "data": place.run_clips, "out": place.out / "run", "preset": "tiny", "minutes": 0.1,
        "num_actions": 4,
    },
    ("actions",): lambda place, command: {
        "bundle": place.bundle, "out": place.out / "actions.png", "steps": 2, "starts": 1, "keys": False,
        "names": command.names and "a,-,b", "map": None,
        "save_as": command.names and place.out / "named",
    },
    ("evaluate",): lambda place, command: {
        "bundle": place.bundle, "data": place.clips, "clips": 2, "passes": (1,), "batch": 2,
        "json": command.json and place.out / "figures.json", "lam": None, "game": False, "drift": False,
        "drift_picture": None, "i3d": None,
    },
    ("export",): _exported,
    ("compare",): lambda place, command: {
        "steps": 2, "skip": 4, "out": place.out / "compare.png",
        **({"bundle": place.bundle, "data": place.clips, "clips": 1} if command.data else {}),
    },
    ("data", "coinrun"): lambda place, command: {"out": place.out / "clips", "frames": 2000, "num_envs": 4},
    ("data", "video"): lambda place, command: {"files": _videos(place.out), "out": place.out / "clips"},
    ("bench", "kernels"): lambda place, command: {},
}  # fmt: skip
"""What is changed of a documented line so that it takes seconds at the most."""

QUICK = {("play",), ("info",), ("data", "prompts"), ("train", "tokenizer"), ("export",), ("bench", "kernels")}
"""Commands whose small runs are for `make test`; int8, which is calibrated, and compilers are not."""


def _videos(folder: Path) -> tuple[Path, ...]:
    from genie_rt.runtime.play.clip import write_clip

    paths = (folder / "a.mp4", folder / "b.mp4")
    wave = np.sin(np.arange(64) * np.pi / 16)  # noise would be a cut a frame
    moving = [np.tile(128 + 100 * np.roll(wave, frame), (64, 1)) for frame in range(60)]
    for path in paths:
        write_clip(path, [np.repeat(frame[:, :, None], 3, 2).astype(np.uint8) for frame in moving], fps=10)
    return paths


def _needs_gpu(command: Any) -> bool:
    name = type(command).__name__
    if name == "KernelsCommand":
        return not (command.compile_only or command.roofline)
    return getattr(command, "backend", None) in ("cuda", "tensorrt", "tensorrt-rtx")


def _runnable() -> list[Any]:
    """Whole lines, each command with each set of flags once."""
    found: dict[tuple[str, ...], Any] = {}
    for line in LINES:
        command = _parse(line) if line.name else None
        if command in (None, True):
            continue
        is_quick = line.name in QUICK and not {"--int8", "--compile", "--compile-only"} & {*line.arguments}
        marks = () if is_quick or _needs_gpu(command) else pytest.mark.slow
        flags = sorted(word for word in line.arguments if word.startswith("-"))
        found.setdefault((*line.name, *flags), pytest.param(line, marks=marks, id=str(line)))
    return list(found.values())


@pytest.mark.parametrize("line", _runnable())
def test_a_documented_line_runs(line: Documented, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    command = _parse(line)
    if line.name in (("compare",), ("data", "coinrun")):
        pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    if _needs_gpu(command):
        if torch.cuda.is_available():
            pytest.skip("a GPU is here, on which this takes minutes")
        with pytest.raises(UnsupportedError):
            command.run()
        return
    if (
        "--compile-only" in line.arguments
    ):  # in a process of its own, where Triton compiles what it interprets here
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        words = [*line.words, "--ops", "patchify", "--arch", "sm_90", "--tuned-folder", str(place.out)]
        subprocess.run([sys.executable, "-m", "genie_rt", *words], env=environment, check=True, timeout=600)
        return
    monkeypatch.chdir(place.out)
    assert not dataclasses.replace(command, **SMALL[line.name](place, command)).run()


def test_every_command_that_is_documented_has_a_small_run() -> None:
    assert {line.name for line in LINES} <= SMALL.keys(), "add it to SMALL"
