"""`genie-rt actions` on a tiny latent world: the picture, names by hand and from labels, and what they do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TinyRuns, write_store

from genie_rt.errors import InputError
from genie_rt.export.actions.commands import ActionsCommand
from genie_rt.export.commands import ExportCommand
from genie_rt.runtime.bundle import Bundle, open_bundle
from genie_rt.runtime.manifest import LAM_WEIGHTS, MODEL_CARD
from genie_rt.runtime.play.keys import KeyMap
from genie_rt.runtime.world import World


@pytest.fixture(scope="module")
def exported(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("actions")
    pictures = []
    for index in range(2):
        picture = np.random.default_rng(index).integers(0, 256, (8, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
        pictures.append(folder / f"{index}.png")
    ExportCommand(source=str(tiny_runs.latent), out=folder / "world", prompt=tuple(pictures), onnx=True).run()
    return folder / "world"


@pytest.fixture
def world(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "world"))


def run(world: Path, **changes: object) -> Bundle:
    out = world.parent / "actions.png"
    arguments: dict[str, object] = {"bundle": str(world), "out": out, "steps": 2, "starts": 2}
    ActionsCommand(**(arguments | changes)).run()  # type: ignore[arg-type]
    assert Image.open(out).size[1] > 4 * 64  # a row a code
    return open_bundle(world)


def test_a_look_changes_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = open_bundle(world)
    assert run(world).digest == before.digest
    printed = capsys.readouterr().out
    assert "code 3" in printed and "% of steps" in printed


def test_names_by_hand_are_keys_and_steps(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = open_bundle(world)
    bundle = run(world, names="right,-,left,stay")
    assert bundle.action_names == ("right", "left", "stay", "latent-1")
    assert bundle.action_codes == (0, 2, 3, 1)
    assert bundle.default_action == "stay"
    assert "`right`, `left`, `stay`, `latent-1`." in (world / MODEL_CARD).read_text()
    unchanged = before.files.keys() - {MODEL_CARD}
    assert {name: before.files[name] for name in unchanged} == {
        name: bundle.files[name] for name in unchanged
    }
    assert "next: genie-rt play" in capsys.readouterr().out

    keys = KeyMap(bundle.action_names, bundle.default_action)
    assert bundle.action_names[keys.action({"left"})] == "left"
    assert bundle.action_names[keys.action(set())] == "stay"


def test_a_name_plays_its_code(world: Path) -> None:
    plain = World.load(world, backend="reference", dtype="float32")
    run(world, names="right,-,left,stay")
    named = World.load(world, backend="reference", dtype="float32")
    for name, code in (("left", 2), ("right", 0), ("latent-1", 1)):
        frames = []
        for each, action in ((plain, code), (named, name), (named, named.action_names.index(name))):
            session = each.session(seed=3)
            session.reset(each.prompt(0))
            frames.append(session.step(action))
        assert np.array_equal(frames[0], frames[1]) and np.array_equal(frames[0], frames[2])
    session = named.session(seed=3)
    session.reset(named.prompt(0))
    peeked = session.peek()
    assert list(peeked) == list(named.action_names)
    assert np.array_equal(peeked["left"], session.step("left"))


def test_names_from_labelled_transitions(
    world: Path, tiny_runs: TinyRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = run(world, map=tiny_runs.store, labels=3)
    assert bundle.action_names[:3] == ("left", "right", "stay")
    assert set(bundle.action_codes) == {0, 1, 2, 3}
    assert "lift P(code | key)" in capsys.readouterr().out


def test_two_names_may_share_a_code(world: Path) -> None:
    from genie_rt.export.actions.rename import rename_actions

    bundle = rename_actions(open_bundle(world), world, ("a", "b", "c"), (1, 1, 0))
    loaded = World.load(world, backend="reference", dtype="float32")
    assert (loaded.action("a"), loaded.action("b"), loaded.action(2)) == (1, 1, 0)
    assert bundle.default_action == "c"  # code 0, as before
    assert sorted(loaded.session().world.action_names) == ["a", "b", "c"]


def test_the_carried_model_infers_what_the_run_does(world: Path, tiny_runs: TinyRuns) -> None:
    import torch

    from genie_rt.runtime.model.world_model import WorldModel
    from genie_rt.training.data.store import ClipStore
    from genie_rt.training.evaluation.definition import load_definition
    from genie_rt.training.evaluation.latent import infer_actions, lam_of

    bundle = open_bundle(world)
    assert LAM_WEIGHTS in bundle.files
    model: WorldModel = load_definition(bundle, torch.device("cpu"))
    frames, _ = ClipStore.open(tiny_runs.store).clips(length=8).batch(np.array([0, 3]))
    carried, trained = (
        infer_actions(lam_of(bundle, run, model), model, frames, 1) for run in (None, tiny_runs.lam)
    )
    assert carried.shape == (2, 8) and (carried[:, 0] == -1).all()
    assert np.array_equal(carried, trained)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": "a,b,c,d,e"}, "--names: expected at most 4"),
        ({"names": "a", "keys": True}, "found --names and --keys"),
        ({"steps": 0}, "--steps: expected a number from 1"),
        ({"labels": 0}, "--labels: expected at least 1"),
        ({"bundle": "demo", "names": "a"}, "--save-as"),
        ({"bundle": "demo-logged", "map": Path("x"), "save_as": Path("y")}, "world of latent actions"),
    ],
)
def test_bad_flags_are_named(world: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(world, **changes)


def test_labels_without_actions_are_refused(world: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", actions=())
    with pytest.raises(InputError, match="expected clips with recorded actions, found none"):
        run(world, map=store)


def test_more_labels_than_there_are_is_refused(world: Path, tiny_runs: TinyRuns) -> None:
    with pytest.raises(InputError, match="--labels: expected at most"):
        run(world, map=tiny_runs.store, labels=10_000)


def test_the_named_bundle_may_go_elsewhere(world: Path, tmp_path: Path) -> None:
    before = open_bundle(world)
    run(world, names="left", save_as=tmp_path / "named")
    assert open_bundle(world).digest == before.digest
    assert open_bundle(tmp_path / "named").action_names[0] == "left"


def test_no_key_means_the_name_that_says_so_or_what_it_meant(world: Path) -> None:
    assert run(world, names="left,right,Idle").default_action == "Idle"
    assert run(world, names="left,right,up").default_action == "up"  # code 2, as before


def test_codes_that_get_no_name_keep_theirs(world: Path) -> None:
    run(world, names="left,-,jump")
    bundle = run(world, names="right,stay")
    assert dict(zip(bundle.action_names, bundle.action_codes, strict=True)) == {
        "right": 0, "stay": 1, "jump": 2, "latent-3": 3,
    }  # fmt: skip


def test_a_bundle_without_prompts_is_named_all_the_same(
    tiny_runs: TinyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ExportCommand(source=str(tiny_runs.latent), out=tmp_path / "w").run()
    ActionsCommand(bundle=str(tmp_path / "w"), names="left", out=tmp_path / "a.png").run()
    assert open_bundle(tmp_path / "w").action_names[0] == "left"
    assert "no picture" in capsys.readouterr().out and not (tmp_path / "a.png").exists()
