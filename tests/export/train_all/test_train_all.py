"""`genie-rt train all`, from a film of a game to a world that plays, with budgets of seconds."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from little_game import write_film
from tiny_runs import TINY
from torch import nn

from genie_rt.errors import DeviceError, InputError
from genie_rt.export.actions.commands import ActionsCommand
from genie_rt.export.train_all.budget import _seconds_a_step
from genie_rt.export.train_all.commands import TrainAllCommand
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.config import ModelConfig, to_dict
from genie_rt.runtime.presets import preset
from genie_rt.runtime.world import World
from genie_rt.training.data.commands import VideoCommand
from genie_rt.training.data.store import ClipStore
from genie_rt.training.frozen import run_state
from genie_rt.training.loop_config import LoopConfig
from genie_rt.training.out_of_memory import OutOfMemoryError

pytest.importorskip("av")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of the little game, 24 x 16 pixels, as a stranger would import it."""
    folder = tmp_path_factory.mktemp("film")
    write_film(folder / "game.mp4", 500, seed=3)
    VideoCommand(files=(folder,), out=folder / "clips", height=16, width=24).run()
    return folder / "clips"


@pytest.fixture
def tiny_file(tmp_path: Path) -> str:
    """The preset "tiny" as a file."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(to_dict(TINY)))
    return str(path)


def command(clips: Path, out: Path, preset: str, **changes: object) -> TrainAllCommand:
    settings: dict[str, object] = {"minutes": 0.2, "num_actions": 4}
    return TrainAllCommand(data=clips, out=out, preset=preset, **(settings | changes))  # type: ignore[arg-type]


def test_a_film_becomes_a_world(
    clips: Path, tmp_path: Path, tiny_file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(clips, tmp_path / "run", tiny_file).run() == 0
    printed = capfd.readouterr().out
    for words in (
        "done at about",
        "held out: next frame",
        "latent actions of",
        "what helps",
        "next: genie-rt play",
    ):
        assert words in printed, words
    bundle = open_bundle(tmp_path / "run" / "world")
    assert bundle.config.lam is not None and len(bundle.action_names) == 4
    assert (bundle.config.tokenizer.height, bundle.config.tokenizer.width) == (16, 24)
    assert bundle.prompts and bundle.graphs is not None and "int8" in bundle.graphs.precisions
    world = World.load(bundle.path)
    session = world.session()
    session.reset(world.prompt(0))
    assert session.step(1).shape == (16, 24, 3)


def test_a_finished_run_is_not_trained_again(
    clips: Path, tmp_path: Path, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = command(clips, tmp_path / "run", tiny_file)
    plan = whole._plan(_asked(whole))
    dataclasses.replace(plan, steps=dict.fromkeys(plan.steps, 2)).write(tmp_path / "run")
    monkeypatch.setattr(TrainAllCommand, "_judge", lambda self, console: None)
    assert whole.run() == 0
    states = {stage: run_state(tmp_path / "run" / stage) for stage in ("tokenizer", "lam", "dynamics")}
    assert {state["step"] for state in states.values()} == {2}
    ActionsCommand(bundle=str(tmp_path / "run" / "world"), names="a,-,b", out=tmp_path / "a.png").run()
    assert whole.run() == 0
    assert open_bundle(tmp_path / "run" / "world").action_names[:2] == ("a", "b")  # nobody's work is lost
    again = {stage: run_state(tmp_path / "run" / stage) for stage in states}
    assert again == states


def _asked(whole: TrainAllCommand):  # type: ignore[no-untyped-def]
    from genie_rt.export.train_all.plan import Asked

    return Asked(
        data=str(whole.data.resolve()), minutes=whole.minutes, preset=whole.preset, actions=whole.actions,
        num_actions=whole.num_actions, seed=whole.seed,
    )  # fmt: skip


def test_other_settings_do_not_go_on(clips: Path, tmp_path: Path, tiny_file: str) -> None:
    whole = command(clips, tmp_path / "run", tiny_file)
    whole._plan(_asked(whole)).write(tmp_path / "run")
    with pytest.raises(InputError, match=r"holds a run with --minutes 0\.2, now asked for with 5"):
        dataclasses.replace(whole, minutes=5.0).run()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"minutes": 0.0}, "--minutes: expected"), ({"actions": "logged"}, "holds no actions")],
)
def test_bad_settings_are_refused(
    clips: Path, tmp_path: Path, tiny_file: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        command(clips, tmp_path / "run", tiny_file, **changes).run()


def test_a_preset_without_latent_actions_is_refused(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(to_dict(ModelConfig(tokenizer=TINY.tokenizer, dynamics=TINY.dynamics))))
    with pytest.raises(InputError, match="expected one with a latent action model"):
        command(clips, tmp_path / "run", str(path)).run()


def test_a_short_time_takes_half_of_the_layers(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "genie_rt.export.train_all.budget.measure_stages",
        lambda config, *_: {
            name: float(config.dynamics.transformer.num_layers) for name in ("tokenizer", "lam", "dynamics")
        },
    )
    for minutes, layers in ((600.0, 6), (2.0, 3)):
        whole = command(clips, tmp_path / str(layers), "auto", minutes=minutes)
        plan = whole._plan(_asked(whole))
        assert plan.preset == ("demo" if layers == 6 else "demo-half")
        stages = whole._stages(plan)
        sizes = {preset(stage.preset).dynamics.transformer.num_layers for stage in stages}
        assert sizes == {layers}


def test_too_little_memory_takes_half_of_the_layers_and_then_says_what_would_help(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(config: ModelConfig, *_: object) -> dict[str, float]:
        if config.dynamics.transformer.num_layers > 3:
            raise OutOfMemoryError("expected enough memory, found too little", "try --batch 4")
        return {"tokenizer": 0.1, "lam": 0.1, "dynamics": 0.1}

    monkeypatch.setattr("genie_rt.export.train_all.budget.measure_stages", measure)
    whole = command(clips, tmp_path / "half", "auto", minutes=60.0)
    assert whole._plan(_asked(whole)).preset == "demo-half"
    with pytest.raises(DeviceError, match="found too little; try a --preset file") as raised:
        command(clips, tmp_path / "demo", "demo", minutes=60.0).run()
    assert "--batch" not in str(raised.value)  # which this command has not got


def test_a_measurement_that_runs_out_of_memory_says_so(clips: Path) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 2))

        def forward(self, *_: object) -> dict[str, torch.Tensor]:
            raise MemoryError

    store, loop = ClipStore.open(clips), LoopConfig(batch=4, steps=10)
    with pytest.raises(OutOfMemoryError, match=r"^step 1: expected enough memory on cpu for --batch 4"):
        _seconds_a_step(Greedy(), store, loop, 2, torch.device("cpu"))


def test_a_plan_that_somebody_changed_is_refused(clips: Path, tmp_path: Path, tiny_file: str) -> None:
    whole = command(clips, tmp_path / "run", tiny_file)
    plan = whole._plan(_asked(whole))
    dataclasses.replace(plan, steps={"tokenizer": 3}).write(tmp_path / "run")
    with pytest.raises(InputError, match="expected the stages dynamics, lam, tokenizer"):
        whole.run()
