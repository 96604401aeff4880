"""`genie-rt export BUNDLE`: what is not said stays; graphs, plans and figures come in."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_config, make_model, make_pictures

from genie_rt.cli import main
from genie_rt.errors import ConfigError, InputError
from genie_rt.export import graph_writer as graphs_module
from genie_rt.export.actions.rename import rename_actions
from genie_rt.export.bundle import write_bundle
from genie_rt.export.commands import ExportCommand
from genie_rt.export.graph_writer import MAX_PLAN_NAME, NewGraphs, read_psnr_changes
from genie_rt.export.source import MAX_CARD_BYTES, read_source
from genie_rt.runtime.backends.exported.onnx_model import read_model
from genie_rt.runtime.bundle import Bundle, load_weights, open_bundle, shipped_bundles
from genie_rt.runtime.images import load_image
from genie_rt.runtime.manifest import GRAPH_FORMATS, GraphManifest, graph_file
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.random_weights import RandomWeights
from genie_rt.training.data.writer import ClipStoreWriter

WORLDS = Path(__file__).parents[2] / "examples" / "worlds"
CONFIG = make_config(grid=(2, 3), window=3)
PLANS = {
    "default": Plan(passes=2, temperature=0.7, noise=0.5),
    "fast": Plan(passes=1),
    "moving": Plan(passes=3, reuse="frames", fresh=0.4),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(
        out, name="tiny", preset="demo", config=CONFIG, weights=make_model(CONFIG).state_dict(),
        action_names=ACTIONS, default_action="stay", plans=PLANS, prompts=list(make_pictures(CONFIG, 2)),
        provenance={"data": {"of": "nothing"}}, model_card="# tiny, as it is\n",
    )  # fmt: skip
    return out


def export(source: Path | str, out: Path, *words: str) -> Bundle:
    assert main(["export", str(source), "--out", str(out), *words]) == 0
    return open_bundle(out)


def refuse(capsys: pytest.CaptureFixture[str], source: Path, out: Path, *words: str) -> str:
    assert main(["export", str(source), "--out", str(out), *words]) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_what_is_not_said_stays(bundle: Path, tmp_path: Path) -> None:
    before, after = open_bundle(bundle), export(bundle, tmp_path / "again")
    assert after.digest == before.digest
    other = export(bundle, tmp_path / "other", "--passes", "3", "--name", "other")
    assert other.name == "other" and other.files["weights.safetensors"] == before.files["weights.safetensors"]
    assert other.plans == {**PLANS, "default": Plan(passes=3, temperature=0.7, noise=0.5)}
    assert (other.path / "README.md").read_text() == "# tiny, as it is\n"
    assert (other.provenance, other.action_names, other.preset) == (
        before.provenance, before.action_names, before.preset
    )  # fmt: skip
    for one, two in zip(before.prompts, other.prompts, strict=True):
        assert np.array_equal(load_image(one), load_image(two))


def test_another_number_format(bundle: Path, tmp_path: Path) -> None:
    wide = export(bundle, tmp_path / "wide", "--dtype", "fp32")
    shapes = parameter_shapes(CONFIG)
    before, after = load_weights(open_bundle(bundle), shapes), load_weights(wide, shapes)
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert all(torch.equal(before[name].float(), after[name]) for name in shapes)
    assert read_source(wide.path).dtype == "fp32" and read_source(bundle).dtype == "bf16"
    assert export(wide.path, tmp_path / "back", "--dtype", "bf16").digest == open_bundle(bundle).digest


def test_a_bundle_is_replaced_by_itself_with_more(bundle: Path, tmp_path: Path) -> None:
    mine = export(bundle, tmp_path / "mine")
    again = export(mine.path, mine.path, "--passes", "1", "--overwrite")
    assert again.path == mine.path and again.plans["default"].passes == 1


def test_a_limit_needs_a_card_that_is_written_anew(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--limit: expected --metrics FILE"):
        ExportCommand(source=str(bundle), out=tmp_path / "w", limit=("It is blind.",)).run()


def test_a_new_name_stands_on_the_card(tmp_path: Path) -> None:
    card = (export("demo", tmp_path / "mine", "--name", "mine").path / "README.md").read_text()
    old = (open_bundle("demo").path / "README.md").read_text()
    assert "\n# mine\n" in card and 'World.load("mine")' in card and 'World.load("demo")' not in card
    assert len(card.splitlines()) == len(old.splitlines())


@pytest.mark.parametrize("card", ["Größe\r\n".encode(), b""])
def test_a_card_stays_byte_for_byte(bundle: Path, tmp_path: Path, card: bytes) -> None:
    source = with_card(bundle, tmp_path / "source", card)
    assert (export(source, tmp_path / "w").path / "README.md").read_bytes() == card


@pytest.mark.parametrize(
    ("card", "found"),
    [(b"# \xff\xfe", "UTF-8, found"), (b"#" * (MAX_CARD_BYTES + 1), "at most 1048576 bytes")],
)
def test_a_card_that_nobody_can_read_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], card: bytes, found: str
) -> None:
    source = with_card(bundle, tmp_path / "source", card)
    error = refuse(capsys, source, tmp_path / "no")
    assert "README.md: expected" in error and found in error


def with_card(bundle: Path, out: Path, card: bytes) -> Path:
    """A copy of a bundle with another model card, which its bundle.json says is right."""
    shutil.copytree(bundle, out)
    (out / "README.md").write_bytes(card)
    manifest = json.loads((out / "bundle.json").read_text())
    manifest["files"]["README.md"] = {"sha256": hashlib.sha256(card).hexdigest(), "size": len(card)}
    (out / "bundle.json").write_text(json.dumps(manifest))
    return out


def test_names_that_nothing_can_have_are_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 300
    for source, out in ((bundle, tmp_path / long), (Path(long), tmp_path / "no")):
        assert main(["export", str(source), "--out", str(out)]) == 1
        assert "too long" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_what_was_there(bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    mine = export(bundle, tmp_path / "mine")
    code = f"""
import signal, sys
from genie_rt import __main__, interrupt
import genie_rt.export.bundle as writer
writer._sync = lambda folder: signal.raise_signal({int(number)})
sys.argv[1:] = ["export", {str(bundle)!r}, "--out", {str(mine.path)!r}, "--passes", "1", "--overwrite"]
sys.exit(__main__.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stderr == {signal.SIGINT: "interrupted\n", signal.SIGTERM: "terminated\n"}[number]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert open_bundle(mine.path).digest == mine.digest


def test_graphs_are_written_in_every_format_that_is_asked_for(bundle: Path, tmp_path: Path) -> None:
    world = export(bundle, tmp_path / "world", "--onnx", "--fp16", "--plan", "fast", "default")
    assert world.graphs == GraphManifest(
        opset=23, precisions=("float32", "float16"), frame_plans=("fast", "default")
    )
    names = ("encode", "commit", "pass", "pass-at", "decode", "frame-fast", "frame-default")
    expected = {graph_file(name, precision) for name in names for precision in ("float32", "float16")}
    assert {name for name in world.files if name.endswith(".onnx")} == expected
    assert world.files["weights.safetensors"] == open_bundle(bundle).files["weights.safetensors"]
    again = export(bundle, tmp_path / "again", "--onnx", "--fp16", "--plan", "fast", "default")
    assert again.digest == world.digest  # the same bytes every time


def test_graphs_stay_where_weights_and_plans_do(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = export(bundle, tmp_path / "world", "--onnx", "--opset", "20", "--plan", "fast")
    kept = export(world.path, tmp_path / "kept", "--passes", "1")
    assert kept.graphs == world.graphs
    assert {n: r for n, r in kept.files.items() if n.endswith(".onnx")} == {
        n: r for n, r in world.files.items() if n.endswith(".onnx")
    }
    assert "add --onnx" in refuse(capsys, world.path, tmp_path / "no", "--dtype", "fp32")
    record = tmp_path / "quality.json"
    plans = {"fast": asdict(Plan(passes=2))}
    record.write_text(json.dumps({"schema": "genie-rt/quality", "recommended": plans}))
    assert "'fast'" in refuse(capsys, world.path, tmp_path / "no", "--plans", str(record))
    assert export(world.path, tmp_path / "new", "--dtype", "fp32", "--onnx").graphs == GraphManifest(
        opset=23, precisions=("float32",)
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--int8",), ("--int8: expected --clips",)),
        (("--clips", "x"), ("--clips: expected --int8",)),
        (("--plan", "fast"), ("--plan: expected --onnx",)),
        (("--onnx", "--plan", "slow"), ("default, fast, moving", "'slow'")),
        (("--onnx", "--plan", "moving"), ("'moving'", "frames")),
        (("--int8", "--clips", "nowhere"), ("nowhere",)),
        (("--precisions", "nowhere"), ("nowhere",)),
    ],
)
def test_what_does_not_belong_together_is_refused(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    error = refuse(capsys, bundle, tmp_path / "no", *words)
    for part in parts:
        assert part in error


def test_a_plan_whose_name_is_too_long_for_its_graphs_is_refused_at_once(tmp_path: Path) -> None:
    def named(length: int) -> NewGraphs:
        plans = {**PLANS, "p" * length: Plan(passes=1)}
        return NewGraphs(
            config=CONFIG, plans=plans, precisions=("float32", "float16"), frame_plans=("p" * length,)
        )

    with pytest.raises(ConfigError, match=r"at most 53 characters.* of 54; give"):
        named(MAX_PLAN_NAME + 1)
    longest = named(MAX_PLAN_NAME)
    bundle = write_bundle(
        tmp_path / "w", name="tiny", config=CONFIG, weights=make_model(CONFIG).state_dict(),
        action_names=ACTIONS, default_action="stay", plans=longest.plans, prompts=[], provenance={},
        model_card="", graphs=longest,
    )  # fmt: skip
    assert bundle.graphs is not None and bundle.graphs.frame_plans == ("p" * MAX_PLAN_NAME,)


@pytest.mark.parametrize(
    "words",
    [(), ("--preset", "demo"), ("--random-weights",), ("demo", "--preset", "demo", "--random-weights")],
)
def test_one_world_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["export", *words, "--out", str(tmp_path / "no")]) == 1
    assert "--preset NAME with --random-weights" in capsys.readouterr().err


def test_random_weights_of_a_preset_are_a_bundle_to_measure_with(tmp_path: Path) -> None:
    out = tmp_path / "coins"
    assert main(["export", "--preset", "demo", "--random-weights", "--out", str(out), "--onnx"]) == 0
    bundle = open_bundle(out)
    assert (bundle.name, bundle.preset, bundle.prompts) == ("coins", "demo", ())
    assert bundle.graphs is not None and bundle.graphs.precisions == ("float32",)
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    expected = RandomWeights(bundle.config, seed=0, dtype=torch.bfloat16, device="cpu")
    assert torch.equal(weights["dynamics.token_in.weight"], expected["dynamics.token_in.weight"])


# --- int8 ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of short episodes in the bundle's actions."""
    out = tmp_path_factory.mktemp("clips") / "store"
    height, width = CONFIG.tokenizer.height, CONFIG.tokenizer.width
    with ClipStoreWriter(
        out, source="test", height=height, width=width, action_names=ACTIONS, provenance={}
    ) as writer:
        for episode in range(31):
            frames = make_pictures(CONFIG, 16, seed=episode)
            actions = np.array([-1, *(np.arange(15) % 3)], np.int64)
            writer.append(frames, actions, split="train")
    return out


def test_int8_is_calibrated_by_real_clips(bundle: Path, clips: Path, tmp_path: Path) -> None:
    world = export(bundle, tmp_path / "world", "--int8", "--clips", str(clips))
    assert world.graphs is not None
    assert world.graphs.precisions == ("float32", "int8") and set(world.graphs.bounds) == {"int8"}
    assert set(GRAPH_FORMATS) > set(world.graphs.precisions)
    assert world.files["pass.int8.onnx"] != world.files["pass.onnx"]
    check_limits(world)
    kept = export(world.path, tmp_path / "kept", "--passes", "1")
    assert kept.int8 == world.int8 and kept.graphs == world.graphs
    assert rename_actions(kept, tmp_path / "named", ("a", "b", "c"), (0, 1, 2)).int8 == world.int8
    assert export(world.path, tmp_path / "anew", "--onnx").int8 is None


@pytest.mark.parametrize("name", [*shipped_bundles(), "little-game"])
def test_limits_of_the_worlds_in_this_repository_are_those_of_their_graphs(name: str) -> None:
    check_limits(open_bundle(name if name in shipped_bundles() else WORLDS / name))


def check_limits(bundle: Bundle) -> None:
    """What stands in bundle.json gives, in float32, exactly the scales that stand in the graphs."""
    assert bundle.int8 is not None and bundle.graphs is not None
    found: dict[str, np.float32] = {}
    for graph in (name for name in bundle.graphs.files if name.endswith(graph_file("", "int8"))):
        model = read_model((bundle.path / graph).read_bytes(), max_nodes=10_000)
        made_by = {output: node for node in model.nodes for output in node.outputs}
        constants = {tensor.name: tensor for tensor in model.initializers}
        for node in (node for node in model.nodes if node.op == "Gemm"):
            x, weight = (made_by.get(name) for name in node.inputs[:2])
            if x is not None and x.op == "DequantizeLinear":
                assert weight is not None and weight.op == "DequantizeLinear"
                linear = made_by[weight.inputs[0]].inputs[0].removesuffix(".wide").removesuffix(".weight")
                (scale,) = np.frombuffer(constants[x.inputs[1]].data or b"", np.float32)
                assert found.setdefault(linear, scale) == scale, (graph, linear)
    limits = {name: np.float32(limit) for name, limit in bundle.int8.limits.items()}
    assert {name: limit / np.float32(127) for name, limit in limits.items()} == found
    assert {name: float(limit) for name, limit in limits.items()} == bundle.int8.limits


@pytest.mark.parametrize(("plan", "found"), [("default", "notes.txt"), ("slow", "'slow'")])
def test_nothing_is_calibrated_for_an_export_that_must_fail(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plan: str,
    found: str,
) -> None:
    def calibrate(*_: object) -> None:
        raise AssertionError("minutes of work")

    monkeypatch.setattr(graphs_module, "calibration_of", calibrate)
    out = export(bundle, tmp_path / "out").path
    if plan == "default":
        (out / "notes.txt").touch()
    words = ["export", str(bundle), "--out", str(out), "--int8", "--clips", "x", "--plan", plan]
    assert main([*words, "--overwrite"]) == 1
    assert found in capsys.readouterr().err


# --- what number formats cost ----------------------------------------------------------------------------


def cost(backend: str, dtype: str, *psnr_db: float, distance: float = 0.0) -> dict[str, object]:
    how = {"backend": backend, "dtype": dtype, "device": "cpu", "emulated": False}
    figures = {"psnr_db": psnr_db, "distance": distance} if psnr_db else None
    return {"computation": how, "cost": figures, "allowed_distance": 0.5}


def write_record(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text(json.dumps({"kind": "precision", "body": {"rows": rows}}))
    return path


def test_the_largest_change_of_each_format_counts(bundle: Path, tmp_path: Path) -> None:
    record = write_record(
        tmp_path / "r.json",
        cost("reference", "float32", 0.0, 0.0),
        cost("onnx", "int8", 0.1, -0.3),
        cost("openvino", "int8", 0.2, 0.0),
        cost("openvino", "bfloat16", -0.05, 0.0),
        cost("cuda", "fp8", 4.0, 4.0),
        cost("onnx", "float16"),
    )
    assert read_psnr_changes(record) == {"int8": 0.3, "bfloat16": 0.05}
    world = export(bundle, tmp_path / "world", "--onnx", "--precisions", str(record))
    assert world.graphs is not None and world.graphs.psnr_change_db == {"int8": 0.3, "bfloat16": 0.05}
    later = export(bundle, tmp_path / "bare", "--onnx")
    with_figures = export(later.path, tmp_path / "figures", "--precisions", str(record))
    assert with_figures.graphs == world.graphs
    worse = write_record(
        tmp_path / "w.json", cost("reference", "float32", 0.0), cost("onnx", "int8", 0.1, distance=9.0)
    )
    without = export(with_figures.path, tmp_path / "without", "--precisions", str(worse))
    assert without.graphs is not None and without.graphs.psnr_change_db == {}
    assert export(with_figures.path, tmp_path / "kept").graphs == world.graphs


def test_a_format_that_looks_less_real_is_left_out_whatever_its_psnr(tmp_path: Path) -> None:
    record = write_record(
        tmp_path / "r.json",
        cost("reference", "float32", 0.0),
        cost("onnx", "int8", 0.1, distance=0.6),
        cost("openvino", "int8", 0.1),
        cost("openvino", "bfloat16", 0.2, distance=0.4),
    )
    assert read_psnr_changes(record) == {"bfloat16": 0.2}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [cost("reference", "bfloat16", 0.0)],
        [cost("reference", "float32", 0.0), cost("cuda", "fp8", 0.0)],
        [{"computation": 3}],
        [
            cost("reference", "float32", 0.0),
            {"computation": {"backend": "onnx", "dtype": "int8"}, "cost": {}},
        ],
    ],
)
def test_a_record_that_does_not_say_it_is_refused(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    with pytest.raises(InputError, match="bench quality --versus"):
        read_psnr_changes(write_record(tmp_path / "r.json", *rows))


def test_figures_without_graphs_are_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_record(tmp_path / "r.json", cost("reference", "float32", 0.0), cost("onnx", "int8", 0.1))
    assert "or --onnx to write some" in refuse(capsys, bundle, tmp_path / "no", "--precisions", str(record))


def test_an_opset_that_nobody_writes_is_refused() -> None:
    with pytest.raises(ConfigError, match="20, 23"):
        NewGraphs(config=CONFIG, plans=PLANS, precisions=("float32",), opset=21)


def test_formats_that_nobody_measured_are_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(bundle, tmp_path / "plain", "--onnx")
    assert "is not measured" not in capsys.readouterr().out
    export(bundle, tmp_path / "half", "--fp16")
    assert "the quality loss of float16 is not measured" in capsys.readouterr().out
