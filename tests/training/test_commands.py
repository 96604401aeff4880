"""`genie-rt train`: what each command refuses, records for the export, and takes up again after a stop."""

import dataclasses
import json
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro
from tiny_runs import ACTIONS, TINY, TinyRuns, tiny_loop, write_store

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime import presets
from genie_rt.runtime.config import LamConfig, ModelConfig, to_dict
from genie_rt.runtime.presets import preset
from genie_rt.training.checkpoint import load_weights
from genie_rt.training.commands import DynamicsCommand, LamCommand, TokenizerCommand, clip_length
from genie_rt.training.dynamics import DynamicsObjective
from genie_rt.training.frozen import run_state
from genie_rt.training.tokenizer import TokenizerObjective

COMMANDS = (TokenizerCommand, LamCommand, DynamicsCommand)


def dynamics(runs: TinyRuns, out: Path, **changes: Any) -> DynamicsCommand:
    """A command that would train, but for the changes."""
    arguments: dict[str, Any] = {"data": runs.store, "tokenizer": runs.tokenizer, "preset": "tiny"}
    arguments |= {"actions": "logged", "loop": tiny_loop()}
    return DynamicsCommand(out=out, **(arguments | changes))


def with_wider_encoder(config: ModelConfig) -> ModelConfig:
    encoder = dataclasses.replace(config.tokenizer.encoder, width=24)
    return dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, encoder=encoder))


def with_token_lam(config: ModelConfig) -> ModelConfig:
    side = config.tokenizer.encoder
    lam = LamConfig(patch=4, num_actions=4, codebook_dim=4, encoder=side, decoder=side, inputs="tokens")
    return dataclasses.replace(config, lam=lam)


def without_lam(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, lam=None)


@pytest.fixture
def other_preset(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelConfig], str]:
    """Adds a preset for one test and returns its name."""

    def add(config: ModelConfig) -> str:
        monkeypatch.setitem(presets._PRESETS, "other", lambda: config)
        return "other"

    return add


@pytest.mark.parametrize("kind", COMMANDS)
def test_settings_of_the_loop_are_flat_flags(kind: type[Any]) -> None:
    flags = "--data d --out o --steps 1600 --batch 8 --learning-rate 2e-3 --optimizer muon --compile"
    words = flags.split()
    words += ["--tokenizer", "t"] if kind is DynamicsCommand else []
    loop = tyro.cli(kind, args=words).loop
    assert (loop.steps, loop.batch, loop.learning_rate) == (1600, 8, 2e-3)
    assert (loop.optimizer, loop.compile) == ("muon", True)


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_rate_rises_after_the_warm_up(kind: type[Any]) -> None:
    words = ["--data", "d", "--out", "o", *(["--tokenizer", "t"] if kind is DynamicsCommand else [])]
    loop = tyro.cli(kind, args=words).loop
    assert 0 < loop.final_learning_rate <= loop.learning_rate


def test_every_run_says_what_it_is(tiny_runs: TinyRuns) -> None:
    for kind, clip in (("tokenizer", 4), ("lam", 3)):
        describe = run_state(getattr(tiny_runs, kind))["describe"]
        assert (describe["kind"], describe["clip"], describe["action_names"]) == (kind, clip, [])
        assert describe["data"] == {"source": "noise", "frames": 36, "provenance": {}}


def test_the_dynamics_record_what_they_stand_on(tiny_runs: TinyRuns) -> None:
    logged, latent = (run_state(run)["describe"] for run in (tiny_runs.logged, tiny_runs.latent))
    assert (logged["actions"], logged["action_names"]) == ("logged", list(ACTIONS))
    assert (latent["actions"], latent["action_names"]) == ("latent", [])
    assert (latent["context"], latent["corruption"]) == ("clean", 0.1)
    assert logged["config"]["dynamics"]["num_actions"] == 3 and logged["config"]["lam"] is None
    assert latent["config"]["dynamics"]["num_actions"] == 4
    assert "lam" not in logged
    for stage, run in (("tokenizer", tiny_runs.tokenizer), ("lam", tiny_runs.lam)):
        summary, state = latent[stage], run_state(run)
        assert (summary["steps"], summary["figures"]) == (2, state["figures"])
        assert (summary["seconds"], summary["loop"]) == (state["seconds"], state["loop"])


def test_only_the_first_of_several_processes_prints(
    tiny_runs: TinyRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = DynamicsCommand(
        data=tiny_runs.store,
        out=tmp_path / "dynamics",
        tokenizer=tiny_runs.tokenizer,
        lam=tiny_runs.lam,
        preset="tiny",
        loop=tiny_loop(),
    )
    monkeypatch.setenv("RANK", "1")
    command.stage()
    assert capfd.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    command.stage()
    assert "latent actions of" in capfd.readouterr().out


def test_the_dynamics_carry_their_tokenizer(tiny_runs: TinyRuns) -> None:
    tokenizer = TokenizerObjective(TINY)
    tokenizer.load_state_dict(load_weights(tiny_runs.tokenizer))
    carried = load_weights(tiny_runs.latent)
    for name, weight in tokenizer.weights().items():
        assert torch.equal(carried[f"tokenizer.{name}"], weight)


@pytest.mark.parametrize("kind", COMMANDS)
def test_pictures_of_a_size_that_no_grid_has_are_refused(
    kind: type[Any], tiny_runs: TinyRuns, tmp_path: Path
) -> None:
    store = write_store(tmp_path / "store", height=12)
    more = {"tokenizer": tiny_runs.tokenizer} if kind is DynamicsCommand else {}
    command = kind(data=store, out=tmp_path / "run", preset="tiny", loop=tiny_loop(), **more)
    with pytest.raises(InputError, match=r"multiples of 8 pixels .*found 16x12"):
        command.run()
    assert not (tmp_path / "run").exists()


def test_a_model_has_the_size_of_its_data(tmp_path: Path, tiny_preset: None) -> None:
    store = write_store(tmp_path / "store", height=16, width=24)
    command = TokenizerCommand(data=store, out=tmp_path / "run", preset="tiny", loop=tiny_loop(steps=1))
    assert command.run() == 0
    tokenizer = run_state(tmp_path / "run")["describe"]["config"]["tokenizer"]
    assert (tokenizer["height"], tokenizer["width"]) == (16, 24)


def test_a_preset_may_be_a_file(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    path.write_text(json.dumps(to_dict(TINY)))
    assert preset(str(path)) == TINY
    path.write_text(json.dumps(to_dict(TINY) | {"lamm": None}))
    with pytest.raises(ConfigError, match=r"my.json: unknown key 'lamm'; did you mean 'lam'"):
        preset(str(path))
    with pytest.raises(ConfigError, match=r"or a file NAME\.json"):
        preset("my")


def test_logged_actions_that_nobody_logged_are_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", actions=())
    with pytest.raises(InputError, match="holds no actions: train a LAM"):
        dynamics(tiny_runs, tmp_path / "run", data=store).run()


def test_latent_actions_without_a_lam_are_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="latent actions need --lam RUN"):
        dynamics(tiny_runs, tmp_path / "run", actions="latent").run()


def test_a_lam_that_sees_tokens_needs_the_tokenizer(
    tiny_runs: TinyRuns, tmp_path: Path, other_preset: Callable[[ModelConfig], str]
) -> None:
    name = other_preset(with_token_lam(TINY))
    command = LamCommand(
        data=tiny_runs.store, out=tmp_path / "lam", preset=name, min_delta=0.0, loop=tiny_loop(steps=1)
    )
    with pytest.raises(InputError, match="--tokenizer"):
        command.run()
    assert dataclasses.replace(command, tokenizer=tiny_runs.tokenizer).run() == 0
    latent = dynamics(tiny_runs, tmp_path / "run", preset=name, actions="latent", lam=tmp_path / "lam")
    assert dataclasses.replace(latent, loop=tiny_loop(steps=1)).run() == 0


def test_a_preset_without_lam_cannot_train_one(
    tiny_runs: TinyRuns, tmp_path: Path, other_preset: Callable[[ModelConfig], str]
) -> None:
    name = other_preset(without_lam(TINY))
    with pytest.raises(InputError, match="'other' has no latent action model"):
        LamCommand(data=tiny_runs.store, out=tmp_path, preset=name, loop=tiny_loop()).run()


def test_a_run_of_another_kind_is_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a run of the tokenizer, found one of the lam"):
        dynamics(tiny_runs, tmp_path, tokenizer=tiny_runs.lam).run()
    with pytest.raises(ConfigError, match="expected a run of the lam, found one of the tokenizer"):
        dynamics(tiny_runs, tmp_path, actions="latent", lam=tiny_runs.tokenizer).run()


def test_a_tokenizer_of_another_size_is_refused(
    tiny_runs: TinyRuns, tmp_path: Path, other_preset: Callable[[ModelConfig], str]
) -> None:
    name = other_preset(with_wider_encoder(TINY))
    with pytest.raises(ConfigError, match=r"its tokenizer was trained as .*train it again"):
        dynamics(tiny_runs, tmp_path, preset=name).run()


def test_clips_too_short_to_learn_from_are_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    assert (clip_length(None, 8), clip_length(5, 8), clip_length(1, 8, least=1)) == (8, 5, 1)
    with pytest.raises(InputError, match="--clip: expected 2 frames or more, found 0"):
        dynamics(tiny_runs, tmp_path, clip=0).run()


@pytest.mark.parametrize(
    "change", [{"context": "dirty"}, {"corruption": 1.5}, {"corruption": float("nan")}, {"own_context": -1}]
)
def test_a_recipe_that_does_not_exist_is_refused(
    change: dict[str, Any], tiny_runs: TinyRuns, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=next(iter(change)).replace("_", ".")):
        dynamics(tiny_runs, tmp_path, **change).run()


def test_a_run_in_two_parts_equals_a_run_in_one(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings: dict[str, Any] = {"schedule": "constant", "optimizer": "muon", "warmup": 0.0}
    for out, steps in ((whole, 4), (parts, 2), (parts, 4)):
        command = dynamics(tiny_runs, out, loop=tiny_loop(steps=steps, **settings))
        assert command.run() == 0
    expected, found = load_weights(whole), load_weights(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert run_state(parts)["seconds"] > 0


def test_time_that_was_not_measured_stays_unknown(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_runs.tokenizer, tmp_path / "run"))
    (state,) = out.glob("checkpoint-*/state.json")
    values = json.loads(state.read_text())
    del values["seconds"], values["state_sha256"]  # as one from before hashes were kept
    state.write_text(json.dumps(values))
    loop = tiny_loop(steps=3)
    assert TokenizerCommand(data=tiny_runs.store, out=out, preset="tiny", loop=loop).run() == 0
    assert run_state(out)["step"] == 3 and run_state(out)["seconds"] is None


def test_another_recipe_does_not_go_on_from_this_one(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    dynamics(tiny_runs, tmp_path, loop=tiny_loop(steps=1)).run()
    with pytest.raises(ConfigError, match=r"describe\.corruption was 0\.1, is now 0\.2"):
        dynamics(tiny_runs, tmp_path, corruption=0.2).run()


def test_a_signal_ends_the_command_with_its_number(
    tiny_runs: TinyRuns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forward = DynamicsObjective.forward

    def stopped(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return forward(*arguments)

    monkeypatch.setattr(DynamicsObjective, "forward", stopped)
    command = dynamics(tiny_runs, tmp_path)
    assert command.run() == 128 + signal.SIGTERM
    assert "stopped at step 1; the same command resumes" in capsys.readouterr().out
    monkeypatch.undo()
    assert "tiny" in presets._PRESETS
    assert command.run() == 0
    assert run_state(tmp_path)["step"] == 2


@pytest.mark.parametrize("kind", ["conv", "plain", "tokens"])
def test_the_next_command_is_one_that_goes_on(
    kind: str,
    tiny_runs: TinyRuns,
    tmp_path: Path,
    other_preset: Callable[[ModelConfig], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a stage prints at its end is typed as it stands, until the dynamics are trained."""
    config = {"conv": TINY, "plain": without_lam(TINY), "tokens": with_token_lam(TINY)}[kind]
    name = other_preset(config)
    command: Any = TokenizerCommand(
        data=tiny_runs.store, out=tmp_path / "tokenizer", preset=name, loop=tiny_loop(steps=1)
    )
    trained = []
    while True:
        trained.append(type(command))
        assert command.run() == 0
        following = capsys.readouterr().out.split("next: ")[1].split("\n")[0]
        words = shlex.split(following)
        if words[:3] == ["genie-rt", "data", "prompts"]:
            break
        kinds = {"lam": LamCommand, "dynamics": DynamicsCommand}
        command = tyro.cli(kinds[words[2]], args=words[3:])
        changes = {"min_delta": 0.0} if words[2] == "lam" else {}
        command = dataclasses.replace(command, loop=tiny_loop(steps=1), **changes)
    assert trained[-1] is DynamicsCommand and (LamCommand in trained) == (kind != "plain")
    assert (tmp_path / "dynamics").is_dir()


def test_a_lam_needs_two_steps_in_a_batch(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    command = LamCommand(
        data=tiny_runs.store, out=tmp_path / "lam", preset="tiny", past_frames=1, loop=tiny_loop(batch=1)
    )
    with pytest.raises(InputError, match="--batch 1: expected clips with 2 steps or more"):
        command.run()
    with pytest.raises(InputError, match=r"--num-actions 6.*: expected"):
        dataclasses.replace(command, num_actions=6).run()


def test_a_lam_of_other_pictures_is_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", width=24)
    tokenizer = TokenizerCommand(data=store, out=tmp_path / "tok", preset="tiny", loop=tiny_loop(steps=1))
    assert tokenizer.run() == 0
    with pytest.raises(ConfigError, match="its lam was trained on pictures of 16x8, these are 24x8"):
        dynamics(
            tiny_runs, tmp_path / "run", data=store, tokenizer=tmp_path / "tok", actions="latent",
            lam=tiny_runs.lam,
        ).run()  # fmt: skip
