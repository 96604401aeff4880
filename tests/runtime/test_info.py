"""`genie-rt info` finds what was asked for, and tells the same in tables and in JSON."""

import json
from pathlib import Path

import pytest
from makers import ACTIONS, make_config, make_model, make_pictures

from genie_rt.cli import main
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime import bundle as bundle_module
from genie_rt.runtime.backends.cuda.budget import MemoryBudget
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.presets import PRESETS, preset
from genie_rt.runtime.units import counted, plural, scaled


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_config(with_lam=True)
    out = tmp_path_factory.mktemp("shipped") / "tiny"
    write_bundle(
        out, name="tiny", config=config, weights=make_model(config).state_dict(), action_names=ACTIONS,
        default_action="stay", plans={"default": Plan(passes=7, temperature=0.5)},
        prompts=list(make_pictures(config, 2)),
        provenance={"recipe": {"steps": 5}, "long": "x" * 500, "evil": "a\x1b[31mb"}, model_card="# tiny\n",
    )  # fmt: skip
    return out


def info(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["info", *words]) == 0
    return capsys.readouterr().out


def test_a_preset_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    printed = info(capsys, "coinrun")
    for text in ("coinrun (preset)", "64 x 64 pixels", "16 x 16 = 256 tokens", "50.7M", "training only",
                 "27.6 GFLOP", "6.29 MB", "K=25", "16 frames per pass", "on one GPU",
                 "KV cache"):  # fmt: skip
        assert text in printed
    assert "digest" not in printed


def test_a_bundle_in_tables(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = info(capsys, str(bundle))
    for text in ("tiny (bundle)", "digest", "left, stay, right (no key pressed: stay)", "000.png, 001.png",
                 "plan default", "7 passes, temperature 0.5", "steps 5", "K=7", "on one GPU"):  # fmt: skip
        assert text in printed
    assert "x" * 200 not in printed
    assert "\x1b" not in printed and "a?[31mb" in printed


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in bundle_module.shipped_bundles():
        pytest.skip(f"the shipped bundle {name!r} goes before the preset")
    values = json.loads(info(capsys, name, "--json"))
    assert values["kind"] == "preset" and "bundle" not in values
    at_play = [part for part in values["parts"] if part["at_play"]]
    assert sum(part["num_parameters"] for part in at_play) == values["num_parameters"]
    assert sum(part["cache_bytes"]["bf16"] for part in at_play) == values["cache_bytes"]["bf16"]
    assert [part["name"] for part in values["parts"] if not part["at_play"]] == ["latent action model"]
    assert set(values["frame_flops"]) == {"1", "2", "4", "8", "25"}
    assert list(values["on_one_gpu"]) == ["fp32", "bf16", "fp8", "int8"]
    for precision, sizes in values["on_one_gpu"].items():
        budget = MemoryBudget.of(preset(name), Precision.of(precision))
        assert sizes["total_bytes"] == budget.total_bytes
        assert sum(sizes.values()) == 2 * budget.total_bytes


def test_a_bundle_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads(info(capsys, str(bundle), "--json"))
    found = values["bundle"]
    assert values["kind"] == "bundle" and "7" in values["frame_flops"]
    assert (found["name"], found["action_names"], len(found["digest"])) == ("tiny", list(ACTIONS), 64)
    assert found["prompts"] == ["prompts/000.png", "prompts/001.png"]
    assert found["provenance"]["recipe"] == {"steps": 5}
    assert found["graphs"] == [] and found["int8_limits"] == {}


def test_what_a_bundle_has_for_its_back_ends_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(info(capsys, "demo", "--json"))["bundle"]
    assert found["graphs"] == ["float32", "int8"] and len(found["int8_limits"]) == 38
    told = " ".join(info(capsys, "demo").split())
    assert "graphs float32, int8" in told and "int8 limits of 38 linear layers" in told


def test_a_shipped_bundle_goes_before_a_preset_and_both_before_a_folder(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "coinrun").mkdir()
    monkeypatch.chdir(tmp_path)
    assert json.loads(info(capsys, "coinrun", "--json"))["kind"] == "preset"
    monkeypatch.setattr(bundle_module, "_SHIPPED", bundle.parent)
    bundle.rename(bundle.with_name("coinrun"))
    try:
        assert json.loads(info(capsys, "coinrun", "--json"))["bundle"]["name"] == "tiny"
    finally:
        bundle.with_name("coinrun").rename(bundle)


def test_an_unknown_name_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "coinrum"]) == 1
    error = capsys.readouterr().err
    assert "genie-10b" in error and "did you mean 'coinrun'?" in error


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 1
    assert "bundle.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (7, "7 B"), (999, "999 B"), (999.4, "999 B"), (999.6, "1.00 kB"), (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9996, "10.0 kB"), (99_960, "100 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (40.3e9, "40.3 GB"),
        (1e21, "1000 EB"), (0.5, "0.50 B"),
    ],
)  # fmt: skip
def test_quantities_have_three_digits(value: float, text: str) -> None:
    assert scaled(value, "B") == text


def test_counts_have_the_suffix_of_papers() -> None:
    assert [counted(n) for n in (256, 50_656_321, 10_072_936_513)] == ["256", "50.7M", "10.1B"]


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("frame",), "0 frames"),
        (1, ("frame",), "1 frame"),
        (1234, ("frame",), "1,234 frames"),
        (1, ("pass", "passes"), "1 pass"),
        (2, ("pass", "passes"), "2 passes"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, words: tuple[str, ...], text: str) -> None:
    assert plural(count, *words) == text
