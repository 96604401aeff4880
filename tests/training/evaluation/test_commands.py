"""`genie-rt evaluate` and `genie-rt compare` from flags to files."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_i3d import StandIn, saved
from makers import make_config, make_model
from PIL import Image
from tiny_runs import TinyRuns

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.export.bundle import write_bundle
from genie_rt.export.commands import ExportCommand
from genie_rt.export.run_card import card_metrics
from genie_rt.install import install_hint
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play.action_log import ActionLog, write_log
from genie_rt.training.data import game as game_module
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.evaluation.commands import EvaluateCommand
from genie_rt.training.evaluation.compare import CompareCommand

COINRUN = ("left", "right", "stay", "jump", "left+jump", "right+jump")


def write_world(path: Path, config: ModelConfig, names: tuple[str, ...]) -> str:
    dynamics = dataclasses.replace(config.dynamics, num_actions=len(names))
    config = dataclasses.replace(config, dynamics=dynamics)
    write_bundle(
        path,
        name="tiny",
        config=config,
        weights=make_model(config).state_dict(),
        action_names=names,
        default_action=names[0],
        plans={"default": Plan(passes=2)},
        prompts=[],
        provenance={"data": {"visuals": "plain"}},
        model_card="# tiny\n",
    )
    return str(path)


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A world of 12 x 16 pictures, W = 2."""
    return write_world(
        tmp_path_factory.mktemp("small") / "world", make_config(grid=(6, 8), window=2), ("a", "b", "c")
    )


@pytest.fixture(scope="module")
def game_world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A world of the game's pictures and actions, W = 2."""
    config = make_config(grid=(4, 4), window=2)
    tokenizer = dataclasses.replace(config.tokenizer, height=64, width=64, patch=16, decoder_patch=16)
    config = dataclasses.replace(config, tokenizer=tokenizer)
    return write_world(tmp_path_factory.mktemp("game") / "world", config, COINRUN)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    with ClipStoreWriter(
        tmp_path / "store", source="noise", height=12, width=16, action_names=("c", "b", "a")
    ) as writer:
        for _ in range(3):
            frames = random.integers(0, 256, (30, 12, 16, 3), dtype=np.uint8)
            writer.append(frames, np.array([-1, *random.integers(0, 3, 29)]), split="heldout")
    return tmp_path / "store"


def test_without_a_number_evaluate_takes_the_clips_that_there_are(
    small_world: str, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    EvaluateCommand(bundle=small_world, data=store, passes=(1,), json=out).run()
    assert figures(out)["num_clips"] == 9  # of 9 frames each, in three episodes of 30


def figures(path: Path) -> dict:
    return json.loads(path.read_text())["figures"]


def test_evaluate_prints_every_figure_and_writes_the_record(
    small_world: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "figures.json"
    EvaluateCommand(bundle=small_world, data=store, clips=5, passes=(1, 3), json=out, batch=2).run()
    printed = capsys.readouterr().out
    for text in (
        "whole frame",
        "changed pixels",
        "K = 3",
        "copy of last",
        "Δ_4 PSNR",
        "5 held-out clips",
    ):
        assert text in printed
    assert "prompt of 1 real frame." in " ".join(printed.split())
    record = json.loads(out.read_text())
    assert record["schema"] == "genie-rt/evaluation" and record["schema_version"] == 2
    assert len(record["bundle"]["digest"]) == 64 and record["bundle"]["name"] == "tiny"
    assert {"torch", "numpy", "genie-rt"} <= record["versions"].keys()
    assert record["clips"]["source"] == "noise" and record["clips"]["episodes"] == 3
    assert record["settings"]["plan"]["passes"] == 2 and record["settings"]["window"] == 2
    assert (record["backend"], record["dtype"]) == ("reference", "float32")
    assert record["device"] and record["date"] and record["command"].startswith("genie-rt evaluate")
    assert [step["t"] for step in record["figures"]["rollout"]] == [1, 2, 4, 8]
    assert record["figures"]["num_clips"] == 5
    whole = record["figures"]["tokenizer"]["whole"]
    low, high = whole["pooled_db_interval"]
    assert low <= whole["pooled_db"] <= high and f"±{(high - low) / 2:.1f}" in printed


def test_evaluate_computes_as_it_is_told(
    small_world: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    words = {"bundle": small_world, "data": store, "clips": 2, "passes": (1,), "json": out}
    EvaluateCommand(**words, backend="reference", dtype="float64", device="cpu").run()
    record = json.loads(out.read_text())
    assert (record["backend"], record["dtype"]) == ("reference", "float64")
    assert "--backend reference --dtype float64 --device cpu" in record["command"]
    assert "reference in float64" in capsys.readouterr().out


def test_the_figures_follow_from_the_seed(small_world: str, store: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        EvaluateCommand(
            bundle=small_world, data=store, clips=4, passes=(1,), seed=seed, json=tmp_path / name
        ).run()
    assert figures(tmp_path / "a") == figures(tmp_path / "b") != figures(tmp_path / "c")


def test_a_world_of_latent_actions_brings_its_action_model(
    tiny_runs: TinyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    ExportCommand(source=tiny_runs.latent, out=bundle).run()
    out = tmp_path / "figures.json"
    command = EvaluateCommand(bundle=str(bundle), data=tiny_runs.store, clips=1, passes=(1,), json=out)
    command.run()
    dataclasses.replace(command, lam=tiny_runs.lam, json=tmp_path / "run.json").run()
    assert figures(out) == figures(tmp_path / "run.json")
    printed = capsys.readouterr().out
    assert "Δ_4 PSNR" in printed and "Perplexity" in printed
    use = figures(out)["code_use"]
    assert sum(code["share"] for code in use["actions"]) == pytest.approx(1)
    assert 1 <= use["perplexity"] <= len(use["actions"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "--clips: expected at least 1"),
        ({"clips": 50}, "--clips: expected 1 to .*, the held-out clips of 9 frames"),
        ({"branch_starts": -1}, "--branch-starts: expected 0 or more, found -1"),
        ({"key_starts": -1}, "--key-starts: expected 0 or more, found -1"),
        ({"drift_picture": Path("drift.png")}, "--drift-picture: expected --drift beside it"),
        ({"drift": True}, "--drift: expected at least 2. real clips for 8 sessions, found 2"),
        ({"drift": True, "drift_steps": 1}, "--drift-steps of at least 2"),
        ({"i3d": Path("none.pt")}, "--i3d: expected a TorchScript file, found none at none.pt"),
        ({"game": True}, "expected a world of 64x64 pictures"),
        ({"plan": "best"}, "unknown plan 'best': this bundle has default"),
        ({"passes": (0,)}, "Plan.passes"),
        ({"prompt_frames": 0}, "at least 1 prompt frame"),
        ({"backend": "tpu"}, "unknown back end 'tpu': expected auto or reference"),
        ({"backend": "reference", "dtype": "int8"}, "does not compute in 'int8'"),
        ({"data": None}, r"expected a world of 64x64 pictures.*found 12x16; .*--data STORE"),
    ],
)
def test_bad_flags_of_evaluate(small_world: str, store: Path, change: dict, message: str) -> None:
    with pytest.raises(GenieError, match=message):
        EvaluateCommand(**({"bundle": small_world, "data": store, "clips": 2} | change)).run()


@pytest.mark.parametrize("command", [EvaluateCommand, CompareCommand])
def test_without_procgen_both_say_what_to_install(
    game_world: str, monkeypatch: pytest.MonkeyPatch, command: type
) -> None:
    def refuse() -> None:
        raise UnsupportedError(f"the real game needs procgen; install it with: {install_hint('coinrun')}")

    monkeypatch.setattr(game_module, "import_procgen", refuse)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("coinrun"))):
        command(bundle=game_world).run()


def test_evaluate_on_the_real_game(game_world: str, tmp_path: Path) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    out = tmp_path / "figures.json"
    EvaluateCommand(bundle=game_world, clips=3, passes=(1,), branch_starts=2, key_starts=3, json=out).run()
    assert json.loads(out.read_text())["clips"]["visuals"] == "plain"
    assert figures(out)["next_frame"][0]["all"]["mean_db"] > 10  # copying in the real game is no bad guess


def test_evaluate_beside_the_real_game(
    game_world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    random = np.random.default_rng(0)
    with ClipStoreWriter(
        tmp_path / "store", source="noise", height=64, width=64, action_names=COINRUN
    ) as writer:
        for _ in range(2):
            frames = random.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
            writer.append(frames, np.array([-1, *random.integers(0, 6, 11)]), split="heldout")
    words = {"bundle": game_world, "data": tmp_path / "store", "clips": 2, "passes": (1,)}
    out = tmp_path / "with.json"
    EvaluateCommand(**words, game=True, branch_starts=2, key_starts=3, json=out).run()
    printed = capsys.readouterr().out
    assert "True branches" in printed and "Plays as the game does" in printed
    record = json.loads(out.read_text())
    branches, plays = (record["figures"][key] for key in ("true_branches", "plays_as_the_game"))
    assert [step["t"] for step in branches["steps"]] == [1, 2, 4, 8] and branches["num_starts"] == 2
    assert [key["name"] for key in plays["keys"]] == ["left", "right", "jump"] and plays["num_starts"] == 3
    assert "--game" in record["command"] and "--branch-starts 2 --key-starts 3" in record["command"]
    card = card_metrics(record["figures"])
    assert "true branches, steps, t = 8, model" in card
    assert not any("interval" in name or "num " in name for rows in card.values() for name in rows)
    EvaluateCommand(**words, json=tmp_path / "without.json").run()
    assert {"true_branches", "plays_as_the_game"}.isdisjoint(figures(tmp_path / "without.json"))
    assert "--key-starts" not in json.loads((tmp_path / "without.json").read_text())["command"]


def test_beside_the_game_a_world_needs_the_game_s_actions(store: Path, tmp_path: Path) -> None:
    config = make_config(grid=(4, 4), window=2)
    tokenizer = dataclasses.replace(config.tokenizer, height=64, width=64, patch=16, decoder_patch=16)
    world = write_world(
        tmp_path / "world", dataclasses.replace(config, tokenizer=tokenizer), ("left", "right", "jump")
    )
    with pytest.raises(InputError, match=r"--game: .* found one without stay, left\+jump, right\+jump"):
        EvaluateCommand(bundle=world, data=store, game=True).run()


def test_evaluate_tells_effects_realism_and_drift(
    small_world: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "figures.json", tmp_path / "deep" / "drift.png"
    EvaluateCommand(
        bundle=small_world, data=store, clips=9, passes=(1,), drift=True, drift_steps=40, drift_sessions=2,
        drift_picture=picture, json=out,
    ).run()  # fmt: skip
    printed = capsys.readouterr().out
    for text in ("Action consistency", "clip distance", "Drift: 2 sessions of 40 random steps", "floor"):
        assert text in printed
    found = figures(out)
    assert [action["name"] for action in found["action_effects"]["actions"]] == ["a", "b", "c"]
    assert found["action_effects"]["num_starts"] == 9
    assert found["realism"]["clip_distance"]["floor"] > 0 and found["realism"]["fvd"] is None
    assert [step["t"] for step in found["drift"]["steps"]] == [32, 40]
    assert "code_use" not in found
    with Image.open(picture) as strip:
        assert strip.width == 3 * 32 + 2 * 4 and strip.height > 24
    assert "--drift-steps 40 --drift-sessions 2 --drift" in json.loads(out.read_text())["command"]


def test_evaluate_computes_fvd_only_with_the_user_s_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = write_world(tmp_path / "world", make_config(grid=(6, 8), window=3), ("a", "b", "c"))
    random = np.random.default_rng(0)
    with ClipStoreWriter(
        tmp_path / "store", source="noise", height=12, width=16, action_names=("a", "b", "c")
    ) as writer:
        for _ in range(4):
            frames = random.integers(0, 256, (14, 12, 16, 3), dtype=np.uint8)
            writer.append(frames, np.array([-1, *random.integers(0, 3, 13)]), split="heldout")
    out = tmp_path / "figures.json"
    command = EvaluateCommand(bundle=world, data=tmp_path / "store", clips=4, passes=(1,), json=out)
    command.run()
    assert "FVD" not in capsys.readouterr().out
    net = saved(StandIn(), tmp_path)
    dataclasses.replace(command, i3d=net).run()
    fvd = figures(out)["realism"]["fvd"]
    assert fvd["num_frames"] == 12 and fvd["num_clips"] == 2 and fvd["floor"] >= 0
    assert f"--i3d {net}" in json.loads(out.read_text())["command"] and "FVD" in capsys.readouterr().out
    with pytest.raises(InputError, match="found 1 of 12"):
        dataclasses.replace(command, i3d=net, clips=3).run()


LOG = ActionLog(
    bundle="demo", bundle_sha256=None, seed=0, plan=Plan(passes=1), prompt="p", prompt_crc32=0,
    actions=("left",) * 5, passes=(1,) * 5, frames_crc32=(0,) * 6,
)  # fmt: skip


def test_compare_writes_a_strip_and_a_gif(
    game_world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')
    out = tmp_path / "deep" / "pictures"
    log = tmp_path / "game.json"
    write_log(log, LOG)
    CompareCommand(bundle=game_world, branches=("right*5", str(log)), out=out, columns=6).run()
    printed = capsys.readouterr().out
    assert "right*5" in printed and "left*5" in printed and "copy dB" in printed
    with Image.open(out.with_name("pictures.png")) as strip, Image.open(out.with_name("pictures.gif")) as gif:
        assert strip.width > 6 * 128 and strip.height > 4 * 128
        assert gif.n_frames == 6 and gif.width >= 2 * 256 and gif.height >= 2 * 256


@pytest.mark.parametrize("out", ["c.png", "c.gif", "c.PNG", "c"])
def test_compare_writes_the_file_that_was_named(tmp_path: Path, out: str) -> None:
    pair = (tmp_path / "c.png", tmp_path / "c.gif")
    assert CompareCommand(out=tmp_path / out)._outputs() == pair
    assert CompareCommand(out=tmp_path)._outputs() == (tmp_path / "compare.png", tmp_path / "compare.gif")
    assert CompareCommand(out=tmp_path / "v1.2")._outputs()[0] == tmp_path / "v1.2.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": "right", "branches": ("left",)}, "expected one of --actions, --branches, found all"),
        ({"columns": 1}, "--columns: expected a number from 2 to 64"),
        ({"actions": "fly*3"}, "unknown action 'fly'"),
        ({"skip": 2, "prompt_frames": 4}, "1 to 3 prompt frames after 2 steps"),
        ({"skip": 0, "prompt_frames": 0}, "1 to 1 prompt frames after 0 steps"),
    ],
)
def test_bad_flags_of_compare(game_world: str, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompareCommand(**({"bundle": game_world} | change)).run()


def test_compare_follows_clips_where_there_is_no_game(
    small_world: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clips"
    CompareCommand(bundle=small_world, data=store, clips=2, steps=5, prompt_frames=2, out=out).run()
    assert capsys.readouterr().out.count("mean of dB") == 2
    with Image.open(out.with_name("clips.gif")) as gif:
        assert gif.n_frames == 6


def test_a_latent_world_follows_clips_by_what_its_action_model_sees(
    tiny_runs: TinyRuns, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    ExportCommand(source=tiny_runs.latent, out=bundle).run()
    command = CompareCommand(
        bundle=str(bundle), data=tiny_runs.store, clips=1, steps=3, prompt_frames=2, out=tmp_path / "c"
    )
    command.run()
    assert (tmp_path / "c.png").exists()
    with pytest.raises(InputError, match="--clips from 1 to 16"):
        dataclasses.replace(command, clips=0).run()


def test_compare_refuses_other_worlds(small_world: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a world of 64x64 pictures"):
        CompareCommand(bundle=small_world).run()


def test_a_latent_world_without_its_action_model_asks_for_it(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    ExportCommand(source=tiny_runs.latent, out=bundle).run()
    (bundle / "lam.safetensors").unlink()
    values = json.loads((bundle / "bundle.json").read_text())
    del values["files"]["lam.safetensors"]  # as exported before bundles carried it
    (bundle / "bundle.json").write_text(json.dumps(values))
    command = EvaluateCommand(bundle=str(bundle), data=tiny_runs.store, clips=1, passes=(1,))
    with pytest.raises(InputError, match="--lam RUN"):
        command.run()
    dataclasses.replace(command, lam=tiny_runs.lam).run()


def test_evaluate_judges_a_run_alone(
    tiny_runs: TinyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    for run, words in ((tiny_runs.tokenizer, "encoded and decoded"), (tiny_runs.lam, "the cost of another")):
        command = EvaluateCommand(bundle=str(run), data=tiny_runs.store, json=out, clips=1)
        if run == tiny_runs.tokenizer:
            with pytest.raises(InputError, match="no heldout clip of 16 frames"):
                command.run()
            continue
        dataclasses.replace(command, clips=4).run()
        assert words in " ".join(capsys.readouterr().out.split())
        record = json.loads(out.read_text())
        assert record["kind"] == "lam" and "delta_db" in record["figures"]
        assert record["command"].startswith("genie-rt evaluate ")
    with pytest.raises(InputError, match="found a run of the dynamics"):
        EvaluateCommand(bundle=str(tiny_runs.logged), data=tiny_runs.store).run()
    with pytest.raises(InputError, match="expected --data beside the run"):
        EvaluateCommand(bundle=str(tiny_runs.lam)).run()


def test_a_tokenizer_alone_is_judged_as_a_world_s_is(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    from tiny_runs import ACTIONS

    from genie_rt.training.data.writer import ClipStoreWriter
    from genie_rt.training.evaluation.runs import judge_run

    random = np.random.default_rng(0)
    with ClipStoreWriter(
        tmp_path / "long", source="noise", height=8, width=16, action_names=ACTIONS
    ) as writer:
        for split in ("train", "heldout"):
            frames = random.integers(0, 256, (16, 8, 16, 3), dtype=np.uint8)
            writer.append(frames, np.array([-1, *[0] * 15]), split=split)
    kind, _, values = judge_run(tiny_runs.tokenizer, tmp_path / "long", clips=None, seed=0, batch=2)
    assert kind == "tokenizer"
    assert 0 < values["whole"]["pooled_db"] < 30 and values["whole"]["num_frames"] == 16
