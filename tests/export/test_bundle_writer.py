"""A bundle is written whole or not at all, the same each time, and reads back as it was given."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genie_rt.errors import BundleError, ConfigError, GenieError, InputError
from genie_rt.export import bundle as module
from genie_rt.export.bundle import write_bundle
from genie_rt.export.model_card import COINRUN_ART_SOURCE, COINRUN_ATTRIBUTIONS, render_model_card
from genie_rt.runtime.bundle import load_weights, open_bundle
from genie_rt.runtime.config import DynamicsConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan

SIDE = TransformerConfig(num_layers=1, width=8, num_heads=2, head_width=4, mlp_width=8, window=2)
CONFIG = ModelConfig(
    tokenizer=TokenizerConfig(
        height=8,
        width=12,
        patch=4,
        decoder_patch=4,
        codebook_size=8,
        codebook_dim=4,
        encoder=SIDE,
        decoder=SIDE,
    ),
    dynamics=DynamicsConfig(transformer=SIDE, num_actions=2, embedding_dim=4),
)
SHAPES = parameter_shapes(CONFIG)


def arguments(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    pictures = np.random.default_rng(seed).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    return {
        "name": "tiny",
        "config": CONFIG,
        "weights": {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()},
        "action_names": ("left", "right"),
        "default_action": "left",
        "plans": {"default": Plan(passes=4)},
        "prompts": list(pictures),
        "provenance": {"seed": seed, "note": "Größe"},
        "model_card": "# tiny\n",
    }


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_fp32_is_exact(tmp_path: Path) -> None:
    given = arguments()
    bundle = write_bundle(tmp_path / "out", **given, dtype="fp32")
    weights = load_weights(bundle, SHAPES)
    for name, weight in given["weights"].items():
        assert weights[name].dtype == torch.float32
        assert torch.equal(weights[name], weight)


def test_bf16_rounds_matrices_and_keeps_vectors_and_the_codebook(tmp_path: Path) -> None:
    given = arguments()
    bundle = write_bundle(tmp_path / "out", **given)
    weights = load_weights(bundle, SHAPES)
    assert {weight.ndim for weight in weights.values()} >= {0, 1, 2}
    for name, weight in given["weights"].items():
        rounded = weight.ndim >= 2 and name != "tokenizer.codebook"
        expected = weight.bfloat16() if rounded else weight
        assert weights[name].dtype == expected.dtype
        assert torch.equal(weights[name], expected)


def test_everything_else_comes_back(tmp_path: Path) -> None:
    given = arguments()
    bundle = write_bundle(tmp_path / "deep" / "out", **given, preset="demo")
    assert bundle == open_bundle(tmp_path / "deep" / "out")
    assert (bundle.name, bundle.preset, bundle.config) == ("tiny", "demo", CONFIG)
    assert (bundle.action_names, bundle.default_action) == (("left", "right"), "left")
    assert dict(bundle.plans) == given["plans"] and dict(bundle.provenance) == given["provenance"]
    assert (bundle.path / "README.md").read_text() == "# tiny\n"
    for path, picture in zip(bundle.prompts, given["prompts"], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_the_same_arguments_give_the_same_bytes_in_any_order_of_weights(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", **arguments())
    given = arguments()
    given["weights"] = dict(reversed(given["weights"].items()))
    write_bundle(tmp_path / "b", **given)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(contents(tmp_path / "a")) == {
        "bundle.json", "weights.safetensors", "README.md", "prompts/000.png", "prompts/001.png",
    }  # fmt: skip


def test_the_arguments_are_not_mutated(tmp_path: Path) -> None:
    given, untouched = arguments(), arguments()
    bundle = write_bundle(tmp_path / "out", **given, dtype="fp32")
    load_weights(bundle, SHAPES)["dynamics.position"].zero_()
    for name, weight in untouched["weights"].items():
        assert torch.equal(given["weights"][name], weight)
    assert given["provenance"] == untouched["provenance"]


def test_tied_strided_and_trainable_weights_are_written(tmp_path: Path) -> None:
    given = arguments()
    weights = given["weights"]
    weights["tokenizer.decoder_position"] = weights["tokenizer.encoder_position"]
    turned = weights["dynamics.position"].T.contiguous().T
    weights["dynamics.position"] = torch.nn.Parameter(turned)
    assert not turned.is_contiguous()
    bundle = write_bundle(tmp_path / "out", **given, dtype="fp32")
    assert torch.equal(load_weights(bundle, SHAPES)["dynamics.position"], turned)


def test_no_prompts_are_allowed(tmp_path: Path) -> None:
    given = arguments()
    given["prompts"] = []
    assert write_bundle(tmp_path / "out", **given).prompts == ()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_all_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"")
    write_bundle(tmp_path / "out", **arguments())
    modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_an_existing_bundle_stays_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", **arguments(0))
    before = contents(tmp_path / "out")
    with pytest.raises(BundleError, match="overwrite=True"):
        write_bundle(tmp_path / "out", **arguments(1))
    assert contents(tmp_path / "out") == before
    assert write_bundle(tmp_path / "out", **arguments(1), overwrite=True).provenance["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_bundle(tmp_path / "out", **arguments())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("data")
    for name in ("home", "file"):
        with pytest.raises(BundleError, match=name):
            write_bundle(tmp_path / name, **arguments(), overwrite=overwrite)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "data"


@pytest.mark.parametrize("name", ["notes.txt", "prompts/mine.png", "other.onnx"])
def test_a_file_that_the_old_bundle_does_not_list_is_never_lost(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "out", **arguments(0))
    (tmp_path / "out" / name).write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(BundleError, match=f"found '{name}' in it.*move it"):
        write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    assert contents(tmp_path) == before


def test_a_link_in_the_old_bundle_is_not_followed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", **arguments(0))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "home")
    with pytest.raises(BundleError, match="found 'link' in it"):
        write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    (tmp_path / "out" / "link").unlink()
    write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_a_bundle_of_another_version_is_replaced(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "out", **arguments(0)).path / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))
    assert write_bundle(tmp_path / "out", **arguments(1), overwrite=True).provenance["seed"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', "\xff"])
def test_a_broken_bundle_is_left_to_its_owner(tmp_path: Path, text: str) -> None:
    path = write_bundle(tmp_path / "out", **arguments(0)).path / "bundle.json"
    path.write_bytes(text.encode("latin-1"))
    before = contents(tmp_path)
    with pytest.raises(BundleError, match=r"which its bundle\.json does not list"):
        write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("was_there", "overwrite"),
    [("nothing", False), ("nothing", True), ("an empty folder", False), ("a bundle", True)],
)
def test_a_file_that_came_during_the_export_is_never_lost(
    tmp_path: Path, was_there: str, overwrite: bool
) -> None:
    out = tmp_path / "out"
    if was_there == "an empty folder":
        out.mkdir()
    elif was_there == "a bundle":
        write_bundle(out, **arguments(0))

    def come(_: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("years of work")

    before = contents(out)
    with pytest.raises(BundleError, match="out: expected"):
        write_bundle(out, **arguments(1), graphs=come, overwrite=overwrite)  # type: ignore[arg-type]
    assert contents(out) == {**before, "notes.txt": b"years of work"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_no_folder_can_have_is_an_error(tmp_path: Path, length: int) -> None:
    with pytest.raises(BundleError, match="too long"):
        write_bundle(tmp_path / ("a" * length), **arguments())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dtype": "fp16"}, ConfigError, "dtype: expected fp32 or bf16, found 'fp16'"),
        ({"name": "a/b"}, ConfigError, "name"),
        ({"action_names": ("left",)}, ConfigError, "action_names: expected 2 names"),
        ({"default_action": "up"}, ConfigError, "default_action"),
        ({"plans": {"fast": Plan()}}, ConfigError, '"default"'),
        ({"provenance": {"loss": float("nan")}}, ConfigError, "provenance"),
        ({"provenance": {"path": Path("x")}}, ConfigError, "provenance"),
        ({"provenance": {"text": "x" * 2_000_000}}, ConfigError, "at most 1000000 bytes"),
        ({"prompts": [np.zeros((12, 8, 3), np.uint8)]}, InputError, r"prompts\[0\].*\[8, 12, 3\]"),
        ({"prompts": [np.zeros((8, 12, 3), np.float32)]}, InputError, r"prompts\[0\].*uint8"),
    ],
)
def test_a_bad_argument_leaves_nothing_behind(
    tmp_path: Path, change: dict[str, Any], error: type[GenieError], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_bundle(tmp_path / "out", **{**arguments(), **change})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((8, 4), float("nan")), "code_out.weight: expected finite"),
        (torch.full((8, 4), 3.4e38), "code_out.weight: expected finite numbers in torch.bfloat16"),
        (torch.zeros(8, 4, dtype=torch.int64), "code_out.weight: expected floating point, found torch.int64"),
        (torch.zeros(4, 8), r"code_out.weight: expected shape \[8, 4\], found \[4, 8\]"),
        (None, "'tokenizer.code_out.weight' is missing"),
    ],
)
def test_a_bad_weight_leaves_nothing_behind(tmp_path: Path, value: torch.Tensor | None, message: str) -> None:
    given = arguments()
    given["weights"]["tokenizer.code_out.weight"] = value
    if value is None:
        del given["weights"]["tokenizer.code_out.weight"]
    with pytest.raises((BundleError, ConfigError), match=message):
        write_bundle(tmp_path / "out", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["_records", "_check_readable", "_sync", "save_file"])
def test_a_failure_at_any_stage_leaves_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    write_bundle(tmp_path / "out", **arguments(0))
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(module, stage, fail)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("failure", [PermissionError("held open"), KeyboardInterrupt("held open")])
@pytest.mark.parametrize("at", ["before the new one", "after the old one"])
def test_a_failed_rename_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, failure: BaseException
) -> None:
    monkeypatch.setattr("genie_rt.runtime.replace_folder._exchange", lambda a, b: False)
    write_bundle(tmp_path / "out", **arguments(0))
    before = contents(tmp_path)
    rename: Callable[[Path, Path], Path] = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if at == "after the old one":
            rename(self, target)
        elif target.name != "out":
            return rename(self, target)
        monkeypatch.undo()
        raise failure

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises((BundleError, KeyboardInterrupt), match="held open"):
        write_bundle(tmp_path / "out", **arguments(1), overwrite=True)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- model card ------------------------------------------------------------------------------------------


def card(**change: Any) -> str:
    given: dict[str, Any] = {
        "name": "demo",
        "config": CONFIG,
        "num_parameters": 1_234_567,
        "action_names": ("left", "right"),
        "data": "Frames of CoinRun.",
        "recipe": {"context": "clean", "odd | cell": "two\nlines"},
        "metrics": {"PSNR (dB)": {"t = 8": 21.456789, "t = 16": 19.0}, "codes used": 1000},
        "training_run": {"device": "2 CPU cores", "wall time": "3 h"},
    }
    return render_model_card(**{**given, **change})


def test_the_card_holds_what_was_measured() -> None:
    text = card()
    for line in (
        "# demo",
        "license: apache-2.0",
        "1,234,567 parameters",
        "Actions: `left`, `right`.",
        "| context | clean |",
        "| odd \\| cell | two lines |",
        "| PSNR (dB) | t = 8 | 21.46 |",
        "| PSNR (dB) | t = 16 | 19 |",
        "| codes used |  | 1000 |",
        "| device | 2 CPU cores |",
        "8 high and 12 wide",
    ):
        assert line in text
    assert text.endswith("\n") and "Attributions" not in text


def test_a_card_without_metrics_says_so() -> None:
    assert "None were recorded." in card(metrics={})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_metric_that_nobody_can_have_measured_is_refused(number: float) -> None:
    with pytest.raises(ConfigError, match="PSNR t = 8"):
        card(metrics={"PSNR": {"t = 8": number}})
    with pytest.raises(ConfigError, match="PSNR t = 8"):
        card(metrics={"PSNR": {"t = 8": (1.0, number)}})


def test_the_card_names_who_drew_what_the_model_shows() -> None:
    text = card(attributions=COINRUN_ATTRIBUTIONS, attribution_source=COINRUN_ART_SOURCE)
    assert COINRUN_ART_SOURCE in text
    for item in COINRUN_ATTRIBUTIONS:
        assert f"| {item.work} | {item.author} | {item.licence} | {item.source} |" in text
    assert {"CC0", "CC-BY 3.0", "CC-BY 4.0", "OGA-BY 3.0"} == {item.licence for item in COINRUN_ATTRIBUTIONS}
