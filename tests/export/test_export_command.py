"""`genie-rt export`: from a run that the real commands trained to a bundle that plays."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_runs import ACTIONS, TinyRuns

from genie_rt.errors import BundleError, ConfigError, GenieError, InputError
from genie_rt.export import provenance
from genie_rt.export.checkpoint import read_checkpoint
from genie_rt.export.commands import ExportCommand
from genie_rt.export.provenance import preset_of, provenance_of, source_commit
from genie_rt.export.run_card import card_metrics, card_of_run
from genie_rt.runtime.bundle import load_weights, open_bundle
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.presets import PRESETS, preset
from genie_rt.runtime.world import World

COINRUN_DATA = {
    "source": "coinrun",
    "frames": 400054,
    "provenance": {
        "procgen": "0.10.7",
        "recordings": {
            "train": {"env": "coinrun", "visuals": "plain", "seed": 0, "start_level": 0, "num_levels": 10000},
            "heldout": {"env": "coinrun", "visuals": "plain", "start_level": 10000, "num_levels": 1000},
        },
    },
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of another size than the model's."""
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(tiny_runs: TinyRuns, tmp_path: Path) -> Path:
    """A copy of the dynamics run on logged actions, to be damaged."""
    return Path(shutil.copytree(tiny_runs.logged, tmp_path / "run"))


def part(run: Path, name: str) -> Path:
    """A file of the run's only checkpoint."""
    (path,) = run.glob(f"checkpoint-*/{name}")
    return path


def change_state(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = part(run, "state.json")
    state = json.loads(path.read_text())
    change(state)
    state.pop("state_sha256", None)  # as good as one that was written so
    path.write_text(json.dumps(state))


def change_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = part(run, "model.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    change_state(run, lambda state: state["files"].update({path.name: path.stat().st_size}))


def play(out: Path, action: str) -> list[Any]:
    session = World.load(out).session(seed=7)
    frames = [session.reset(World.load(out).prompt(0))]
    return frames + [session.step(action) for _ in range(3)]


def test_a_trained_world_plays(tiny_runs: TinyRuns, tmp_path: Path, picture: Path) -> None:
    ExportCommand(source=tiny_runs.logged, out=tmp_path / "world", prompt=(picture,), passes=3).run()
    bundle = open_bundle(tmp_path / "world")
    assert (bundle.name, bundle.preset) == ("world", "custom")
    assert (bundle.action_names, bundle.default_action) == (ACTIONS, "stay")
    assert bundle.plans["default"].passes == 3
    assert bundle.config.lam is None
    frames = play(tmp_path / "world", "left")
    assert [frame.shape for frame in frames] == [(8, 16, 3)] * 4


def test_a_world_of_latent_actions_plays(tiny_runs: TinyRuns, tmp_path: Path, picture: Path) -> None:
    ExportCommand(source=tiny_runs.latent, out=tmp_path / "w", name="latent", prompt=(picture,)).run()
    bundle = open_bundle(tmp_path / "w")
    assert bundle.name == "latent"
    assert bundle.action_names == ("latent-0", "latent-1", "latent-2", "latent-3")
    assert bundle.default_action == "latent-0"
    codebook = load_weights(bundle, parameter_shapes(bundle.config))["lam_codebook"].float()
    assert torch.allclose(codebook.norm(dim=-1), torch.ones(4), atol=1e-2)
    assert len(play(tmp_path / "w", "latent-2")) == 4


@pytest.mark.parametrize("ema", [False, True])
def test_the_bundle_holds_what_was_trained(tiny_runs: TinyRuns, tmp_path: Path, ema: bool) -> None:
    ExportCommand(source=tiny_runs.logged, out=tmp_path / "w", dtype="fp32", ema=ema).run()
    bundle = open_bundle(tmp_path / "w")
    written = load_weights(bundle, parameter_shapes(bundle.config))
    trained = load_file(part(tiny_runs.logged, "ema.safetensors" if ema else "model.safetensors"))
    for name, weight in written.items():
        assert torch.equal(weight, trained[name.replace("dynamics.", "model.", 1)])
    assert bundle.provenance["recipe"]["averaged_weights"] is ema


def test_averaged_weights_differ(tiny_runs: TinyRuns) -> None:
    last, averaged = (read_checkpoint(tiny_runs.logged, averaged=value) for value in (False, True))
    name = "dynamics.token_out.weight"
    assert not torch.equal(last.weights[name], averaged.weights[name])


def test_the_codebook_stays_exact_in_bf16(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    ExportCommand(source=tiny_runs.logged, out=tmp_path / "w").run()
    bundle = open_bundle(tmp_path / "w")
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    trained = load_file(part(tiny_runs.logged, "model.safetensors"))
    assert torch.equal(weights["tokenizer.codebook"], trained["tokenizer.codebook"])
    assert weights["tokenizer.patch_in.weight"].dtype == torch.bfloat16


def test_provenance_and_card_say_how_it_was_trained(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    ExportCommand(source=tiny_runs.latent, out=tmp_path / "w").run()
    values = open_bundle(tmp_path / "w").provenance
    assert list(values["stages"]) == ["tokenizer", "lam", "dynamics"]
    for stage in values["stages"].values():
        assert stage["steps"] == 2 and stage["figures"]
        assert stage["seconds"] > 0 and stage["device"] and stage["loop"]["batch"] == 4
    assert [stage["clip"] for stage in values["stages"].values()] == [4, 3, 4]
    assert values["recipe"] == {
        "actions": "latent",
        "context": "clean",
        "corruption": 0.1,
        "averaged_weights": False,
    }
    assert values["data"] == {"source": "noise", "frames": 36, "provenance": {}}
    card = (tmp_path / "w" / "README.md").read_text()
    for text in (
        "# w\n",
        "36 frames from `noise`",
        "| Latent action model | 2 steps of 4 clips of 3 frames; adamw, learning rate 0.01 to 0.0 (cosine) |",
        "| Corruption | up to 10% of the history's tokens |",
        "| Time of the tokenizer |",
        "None were recorded.",
        f"torch {torch.__version__}",
    ):
        assert text in card
    assert "Attributions" not in card
    assert str(tmp_path) not in card + json.dumps(dict(values))


def test_metrics_come_onto_the_card_by_a_second_export(
    tiny_runs: TinyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {
        "date": "2026-01-02",
        "device": "a chip",
        "dtype": "float32",
        "settings": {"plan": {"passes": 4}},
        "clips": {"provenance": {"heldout_levels": {"levels": 462}}},
        "figures": {
            "num_clips": 200,
            "max_db": 60.0,
            "tokenizer": {"whole": {"pooled_db": 29.125, "mean_db": None, "num_frames": 8}, "ssim": 0.5},
            "delta": {"mean_db": 4.9, "mean_db_interval": [4.0, 6.0]},
            "next_frame": [{"name": "K = 2", "passes": 2, "all": {"mean_db": 21.5}}],
            "rollout": [{"t": 4, "model": {"pooled_db": 20.0}}, {"t": 8, "model": {"pooled_db": 19.0}}],
        },
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    command = ExportCommand(source=tiny_runs.logged, out=tmp_path / "w")
    command.run()
    assert "no prompt image" in capsys.readouterr().out
    again = dataclasses.replace(command, metrics=tmp_path / "record.json")
    with pytest.raises(BundleError, match="--overwrite"):
        again.run()
    limit = "After a while it shows the character on black."
    dataclasses.replace(again, overwrite=True, limit=(limit,)).run()
    card = (tmp_path / "w" / "README.md").read_text()
    for row in (
        "| tokenizer, whole | pooled dB | 29.12 |",
        "| tokenizer | ssim | 0.5 |",
        "| delta | mean dB | 4.9 ± 1 |",
        "| next frame, K = 2, all | mean dB | 21.5 |",
        "| rollout, t = 8, model | pooled dB | 19 |",
        "| Measured | 200 held-out clips, of levels that look like no training level, rollouts of 4 passes a "
        "frame, float32, a chip, 2026-01-02 |",
        "so long rollouts drift.\n- It predicts pictures and is no simulator",
        f"what a real system would do.\n- {limit}\n",
    ):
        assert row in card
    assert card.count("| tokenizer") == 2


def test_intervals_stand_beside_their_figures() -> None:
    figures = {"whole": {"pooled_db": 29.125, "pooled_db_interval": [28.5, 29.5], "mean_db": 30.0}}
    assert card_metrics({"tokenizer": figures}) == {
        "tokenizer, whole": {"pooled dB": (29.125, 0.5), "mean dB": 30.0}
    }
    assert card_metrics({"ssim": 0.5, "ssim_interval": None}) == {"all": {"ssim": 0.5}}


def test_numbers_without_structure_are_metrics_too() -> None:
    assert card_metrics({"psnr": 3, "good": True, "note": "x", "none": None, "list": [1.5]}) == {
        "all": {"psnr": 3},
        "list": {"0": 1.5},
    }


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_record_that_is_none_is_refused(content: str | None, tiny_runs: TinyRuns, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(InputError, match=r"record\.json"):
        ExportCommand(source=tiny_runs.logged, out=tmp_path / "w", metrics=tmp_path / "record.json").run()


def test_coinrun_brings_its_attributions(run: Path) -> None:
    change_state(run, lambda state: state["describe"].update(data=COINRUN_DATA))
    checkpoint = read_checkpoint(run)
    values = provenance_of(checkpoint)
    assert values["data"]["visuals"] == "plain"
    card = card_of_run(
        name="demo", config=checkpoint.config, num_parameters=1, action_names=ACTIONS, provenance=values
    )
    assert "400,054 frames of Procgen's game `coinrun` (0.10.7)" in card
    assert "- heldout: 1,000 levels from 10,000, plain visuals" in card
    assert "## Attributions" in card and "ansimuz" in card
    assert "held out by their numbers alone" in card
    unseen = {"levels": 462, "left_out_by_picture": 336, "left_out_by_layout_alone": 202}
    values["data"]["provenance"]["heldout_levels"] = unseen
    card = card_of_run(
        name="demo", config=checkpoint.config, num_parameters=1, action_names=ACTIONS, provenance=values
    )
    assert "Of the held-out levels 462 are used: 336 were left out because a training level looks" in card


def test_the_card_of_an_unfinished_run_says_so(run: Path, tmp_path: Path) -> None:
    change_state(run, lambda state: state["loop"].update(steps=9))
    change_state(run, lambda state: state.pop("seconds"))
    ExportCommand(source=run, out=tmp_path / "w").run()
    card = (tmp_path / "w" / "README.md").read_text()
    assert "| Dynamics | the first 2 of 9 steps of 4 clips" in card
    assert "| Time of the dynamics | time not recorded, " in card


def test_a_checkpoint_can_be_named(tiny_runs: TinyRuns) -> None:
    folder = part(tiny_runs.logged, "state.json").parent
    assert read_checkpoint(folder).path == read_checkpoint(tiny_runs.logged).path == folder


def test_the_newest_checkpoint_is_taken_or_none(run: Path) -> None:
    old = part(run, "state.json").parent
    new = Path(shutil.copytree(old, run / "checkpoint-00000010"))
    assert read_checkpoint(run).path == new
    (new / "state.json").unlink()
    with pytest.raises(BundleError, match=r"checkpoint-00000010.*an older checkpoint"):
        read_checkpoint(run)
    assert read_checkpoint(old).path == old


def test_the_pickle_is_not_touched(run: Path, tmp_path: Path) -> None:
    part(run, "optimizer.pt").unlink()
    ExportCommand(source=run, out=tmp_path / "w").run()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s["describe"].update(kind="lam"), ConfigError, "found one of 'lam'"),
        (lambda s: s["files"].pop("ema.safetensors"), ConfigError, "--no-ema"),
        (lambda s: s["files"].pop("model.safetensors"), BundleError, "the size of model.safetensors"),
        (lambda s: s.pop("describe"), BundleError, "expected the key 'describe'"),
        (lambda s: s["describe"].pop("data"), BundleError, "describe.data: expected an object"),
        (lambda s: s["describe"]["config"].pop("tokenizer"), BundleError, "'tokenizer' is missing"),
        (lambda s: s["describe"].update(action_names=["left"]), BundleError, "expected 3 names"),
        (lambda s: s["describe"]["config"]["dynamics"].update(embedding_dim=4), BundleError, "shape"),
        (lambda s: s["describe"]["config"]["dynamics"].update(copy_logit=False), BundleError, "unknown"),
        (lambda s: s["describe"]["config"]["dynamics"]["transformer"].update(num_layers=2), BundleError,
         "and 13 more is missing"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object],
    error: type[GenieError],
    message: str,
    run: Path,
    tmp_path: Path,
) -> None:
    change_state(run, change)
    with pytest.raises(error, match=message):
        ExportCommand(source=run, out=tmp_path / "w", ema="--no-ema" in message).run()
    assert not (tmp_path / "w").exists()


def test_other_runs_and_other_folders_are_refused(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a run of the dynamics, found one of 'tokenizer'"):
        read_checkpoint(tiny_runs.tokenizer)
    with pytest.raises(BundleError, match="found no checkpoint in it"):
        read_checkpoint(tmp_path)
    with pytest.raises(BundleError, match="found no such folder"):
        read_checkpoint(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="--ema-decay"):
        read_checkpoint(tiny_runs.latent, averaged=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_a_broken_state_is_refused(text: str, run: Path) -> None:
    part(run, "state.json").write_text(text)
    with pytest.raises(BundleError, match=r"state\.json"):
        read_checkpoint(run)


def test_truncated_and_missing_weights_are_refused(run: Path) -> None:
    path = part(run, "model.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(BundleError, match=f"expected {len(data)} bytes, found {len(data) - 100}"):
        read_checkpoint(run)
    path.write_bytes(b"\xff" * len(data))
    with pytest.raises(BundleError, match="expected sha256"):
        read_checkpoint(run)
    path.unlink()
    with pytest.raises(BundleError, match="found nothing of that name"):
        read_checkpoint(run)


def test_missing_and_foreign_tensors_are_named(run: Path) -> None:
    change_weights(run, lambda weights: weights.pop("tokenizer.codebook"))
    with pytest.raises(BundleError, match=r"'tokenizer\.codebook' is missing"):
        read_checkpoint(run)
    change_weights(
        run,
        lambda weights: weights.update({"tokenizer.codebook": torch.zeros(16, 4), "model.x": torch.ones(1)}),
    )
    with pytest.raises(BundleError, match=r"'model\.x' is unknown"):
        read_checkpoint(run)


def test_weights_that_are_not_finite_are_refused(run: Path, tmp_path: Path) -> None:
    change_weights(run, lambda weights: weights["model.position"].fill_(torch.nan))
    with pytest.raises(ConfigError, match=r"dynamics\.position: expected finite"):
        ExportCommand(source=run, out=tmp_path / "w").run()


def test_presets_are_recognised_whatever_the_actions() -> None:
    for name in PRESETS:
        config = preset(name)
        assert preset_of(config) == name
        dynamics = dataclasses.replace(config.dynamics, num_actions=15)
        assert preset_of(dataclasses.replace(config, lam=None, dynamics=dynamics)) == name


def test_no_commit_is_claimed_outside_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    (tmp_path / "provenance.py").touch()
    assert source_commit() is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert source_commit() is None


def test_flags_are_those_of_the_documentation() -> None:
    words = "RUN --out w --name demo --dtype fp32 --ema --prompt a.png b.png --passes 2 --overwrite"
    command = tyro.cli(ExportCommand, args=words.split())
    assert command == ExportCommand(
        source="RUN",
        out=Path("w"),
        name="demo",
        dtype="fp32",
        ema=True,
        prompt=(Path("a.png"), Path("b.png")),
        passes=2,
        overwrite=True,
    )
