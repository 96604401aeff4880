"""`genie-rt bench quality` from flags to files, on a world of 12 x 16 pictures."""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import make_config, make_model

from genie_rt.bench.quality import setup
from genie_rt.bench.quality.commands import QualityCommand
from genie_rt.cli import main
from genie_rt.errors import ConfigError, InputError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.plan import Plan
from genie_rt.training.data.writer import ClipStoreWriter

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = make_config(grid=(6, 8), window=2, merge=2)
    path = tmp_path_factory.mktemp("world") / "tiny"
    write_bundle(
        path,
        name="tiny",
        config=config,
        weights=make_model(config).state_dict(),
        action_names=NAMES,
        default_action="a",
        plans={"default": Plan(passes=2, temperature=0.8)},
        prompts=[],
        provenance={},
        model_card="# tiny\n",
    )
    return str(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that scrolls; its actions stand in another order than the world's."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("clips") / "store"
    with ClipStoreWriter(path, source="noise", height=12, width=16, action_names=NAMES[::-1]) as writer:
        for episode in range(12):
            ground = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            frames = np.stack([np.roll(ground, step, axis=1) for step in range(30)])
            split = "heldout" if episode % 3 == 0 else "train"
            writer.append(frames, np.array([-1, *random.integers(0, 3, 29)]), split=split)
    return path


@pytest.fixture
def command(bundle: str, store: Path, tmp_path: Path) -> QualityCommand:
    return QualityCommand(
        bundle=bundle,
        data=store,
        out=tmp_path / "out" / "quality.csv",
        clips=6,
        reference_clips=10,
        plans=("maskgit", "halton"),
        passes=(1, 2),
        iterations=1,
        batch=4,
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the plans that are decoded from now on."""
    names: list[str] = []
    real = setup.measure_plan

    def watched(rollouts: Any, batches: Any, plan: Plan, *others: Any) -> Any:
        names.append(setup.plan_name(plan))
        return real(rollouts, batches, plan, *others)

    monkeypatch.setattr(setup, "measure_plan", watched)
    return names


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_plan_gets_a_row_and_every_row_its_figures(
    command: QualityCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run()
    rows = read(command.out)
    assert [row["plan"] for row in rows] == [
        "maskgit-k1", "halton-k1", "maskgit-k2", "halton-k2", "halton-k2-passes", "maskgit-k2-frames",
    ]  # fmt: skip
    optional = {"same_as", "threshold", "fresh", "passes_used_static"}
    words = {"plan", "order", "reuse"}
    for row in rows:
        reuses = row["reuse"] != "none"
        for name, value in row.items():
            if name in words:
                assert value
            elif name in optional or (reuses and name.startswith("nll")):
                continue
            else:
                assert math.isfinite(float(value)), name
        assert (row["nll_after_2_nats"] == "") == reuses
        assert float(row["ms_p50"]) > 0 and float(row["clip_distance"]) > 0
        assert row["temperature"] == "0.8"
    maskgit, halton = rows[:2]
    assert halton["same_as"] == "maskgit-k1" and maskgit["same_as"] == ""
    assert {k: v for k, v in maskgit.items() if k not in ("plan", "order", "same_as")} == {
        k: v for k, v in halton.items() if k not in ("plan", "order", "same_as")
    }
    assert [float(row["tokens_computed"]) for row in rows] == [48, 48, 96, 96, 96, 84]
    record = json.loads(command.out.with_suffix(".json").read_text())
    assert record["schema"] == "genie-rt/quality" and record["num_rows"] == 6
    assert record["command"].startswith("genie-rt bench quality") and "--passes 1 2" in record["command"]
    assert record["baselines"]["floor"] > 0 and record["baselines"]["floor_noise"] > 0
    assert set(record["recommended"]) == {"quality", "balanced", "fast"} and "fast" in record["rule"]
    assert record["clips"]["split"] == "heldout" and len(record["bundle"]["digest"]) == 64
    assert command.out.with_suffix(".png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "maskgit-k2-frames" in printed and "balanced" in printed and "tokenizer" in printed


def test_what_is_known_is_not_measured_again(command: QualityCommand, measured: list[str]) -> None:
    short = dataclasses.replace(command, passes=(1,), times="none")
    short.run()
    assert measured == ["maskgit-k1"]
    assert read(command.out)[0]["ms_p50"] == ""
    measured.clear()
    command.run()
    assert measured == ["maskgit-k2", "halton-k2", "halton-k2-passes", "maskgit-k2-frames"]
    first = command.out.read_text()
    measured.clear()
    dataclasses.replace(command, batch=2).run()
    assert measured == [] and command.out.read_text() == first  # the times, too, are those of before
    dataclasses.replace(command, seed=1, passes=(1,), times="none").run()
    assert measured == ["maskgit-k1"]
    measured.clear()
    command.run()
    assert measured == [] and command.out.read_text() == first


def test_known_plans_can_be_judged_alone(command: QualityCommand, measured: list[str]) -> None:
    with pytest.raises(InputError, match="found none"):
        dataclasses.replace(command, known_only=True).run()
    dataclasses.replace(command, passes=(1,), times="none").run()
    measured.clear()
    dataclasses.replace(command, known_only=True, times="none").run()
    assert measured == []
    assert [row["plan"] for row in read(command.out)] == ["maskgit-k1", "halton-k1"]


def test_a_run_that_is_stopped_leaves_what_it_had(
    command: QualityCommand, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = setup.measure_plan

    def stopped(*arguments: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        return watched(*arguments)

    monkeypatch.setattr(setup, "measure_plan", stopped)
    with pytest.raises(KeyboardInterrupt):
        command.run()
    assert [row["plan"] for row in read(command.out)] == ["maskgit-k1", "halton-k1", "maskgit-k2"]
    monkeypatch.setattr(setup, "measure_plan", watched)
    measured.clear()
    dataclasses.replace(command, times="none").run()
    assert measured == ["halton-k2", "halton-k2-passes", "maskgit-k2-frames"]
    assert len(read(command.out)) == 6


def test_flags_change_the_plans(command: QualityCommand) -> None:
    words = [
        "--data",
        str(command.data),
        "--out",
        str(command.out),
        "--clips",
        "4",
        "--reference-clips",
        "10",
    ]
    words += ["--plans", "adaptive", "--passes", "3", "--reuse", "none", "--times", "none", "--threads", "1"]
    words += ["--temperature", "0.5", "--noise", "0.25", "--threshold", "0.125", "--dtype", "float64"]
    assert main(["bench", "quality", command.bundle, *words]) == 0
    (row,) = read(command.out)
    assert (row["plan"], row["temperature"], row["noise"], row["threshold"]) == (
        "adaptive-k3",
        "0.5",
        "0.25",
        "0.125",
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": 0}, InputError, "--clips"),
        ({"reference_clips": 0}, InputError, "--reference-clips"),
        ({"batch": 0}, InputError, "--batch"),
        ({"threads": 0}, InputError, "--threads"),
        ({"seed": -1}, InputError, "--seed"),
        ({"prompt_frames": 0}, InputError, "--prompt-frames"),
        ({"out": Path("figures.json")}, InputError, "--out"),
        ({"passes": (1,), "reuse": ("passes",)}, InputError, "no order"),
        ({"passes": (0,)}, ConfigError, "passes"),
        ({"clips": 50}, InputError, "--clips: expected 1 to .*, the held-out clips"),
        ({"reference_clips": 50}, InputError, "50 training clips"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    command: QualityCommand, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(command, **change).run()
    assert not command.out.exists()
