"""`genie-rt bench quality --versus` from flags to files, on a world of 12 x 16 pictures."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import broken_weight, make_config, make_model

from genie_rt.bench.quality import setup
from genie_rt.bench.quality.commands import QualityCommand
from genie_rt.bench.quality.computation import Computation
from genie_rt.cli import main
from genie_rt.errors import DeviceError, GenieError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.data.writer import ClipStoreWriter

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = make_config(grid=(6, 8), window=2)
    path = tmp_path_factory.mktemp("world") / "tiny"
    plans = {"default": Plan(passes=2, temperature=0.8), "once": Plan(order="halton", passes=1)}
    write_bundle(
        path, name="tiny", config=config, weights=make_model(config).state_dict(), action_names=NAMES,
        default_action="a", plans=plans, prompts=[], provenance={}, model_card="# tiny\n",
    )  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("clips") / "store"
    with ClipStoreWriter(path, source="noise", height=12, width=16, action_names=NAMES) as writer:
        for episode in range(9):
            frames = random.integers(0, 256, (20, 12, 16, 3), dtype=np.uint8)
            actions = np.array([-1, *random.integers(0, 3, 19)])
            writer.append(frames, actions, split="heldout" if episode % 3 == 0 else "train")
    return path


@pytest.fixture
def command(bundle: str, store: Path, tmp_path: Path) -> QualityCommand:
    return QualityCommand(
        bundle=bundle, data=store, out=tmp_path / "out" / "precision.csv", clips=4, reference_clips=8,
        backend="reference", versus=("float64",), iterations=1, batch=4,
    )  # fmt: skip


def record_of(command: QualityCommand) -> dict[str, Any]:
    return json.loads(command.out.with_suffix(".json").read_text())


def test_every_computation_of_every_plan_gets_a_row(
    command: QualityCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("reference:bfloat16", "cuda:float32", "cuda:int8")
    command = dataclasses.replace(command, versus=asked, plan=("default", "once"), emulate=True)
    code = command.run()
    record = record_of(command)
    expected = ["reference float32", "reference bfloat16", "cuda float32 (emulated)", "cuda int8 (emulated)"]
    found = [(row["plan"], Computation(**row["computation"])) for row in record["body"]["rows"]]
    names = [(plan, computation.name) for plan, computation in found]
    assert names == [(plan, name) for plan in ("default", "once") for name in expected]
    for row in record["body"]["rows"]:
        assert row["failure"] is None and len(row["quality"]["psnr"]) == 3
        assert (row["ms"] is None) == row["computation"]["emulated"]  # it would be the references' speed
        assert np.isfinite([*row["cost"]["psnr_db"], row["cost"]["distance"], row["cost"]["nll"]]).all()
    assert record["kind"] == "precision" and "emulated" in record["warnings"][0]
    assert "--versus reference:bfloat16 cuda:float32 cuda:int8" in record["command"]
    assert "--emulate" in record["command"]
    with command.out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["computation"] for row in rows] == expected * 2
    assert [row["ms_p50"] == "" for row in rows] == [False, False, True, True] * 2
    passed = [row["psnr_within"] == row["distance_within"] == "True" for row in rows]
    assert code == (0 if all(passed) else 1)
    printed = capsys.readouterr().out
    assert "plan once" in printed and "cuda int8 (emulated)" in printed


def test_what_computes_alike_costs_nothing(command: QualityCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other computation is the baseline's under another name."""
    load = Computation.load
    same = dataclasses.replace(Computation.of("reference", "float32", None))
    monkeypatch.setattr(Computation, "load", lambda _, source: load(same, source))
    assert dataclasses.replace(command, times="none").run() == 0
    first, other = record_of(command)["body"]["rows"]
    assert other["cost"] == first["cost"] and first["quality"] == other["quality"]
    assert not any([*other["cost"]["psnr_db"], other["cost"]["distance"], other["cost"]["nll"]])


def test_a_broken_computation_is_told_and_the_others_are_measured(
    command: QualityCommand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, broken = Computation.load, []

    def breaking(computation: Computation, source: str) -> World:
        world = load(computation, source)
        if computation.dtype == "bfloat16":
            broken.append(broken_weight(world))
            broken[-1].__enter__()
        return world

    monkeypatch.setattr(Computation, "load", breaking)
    command = dataclasses.replace(command, versus=("bfloat16", "float64"), times="none")
    assert command.run() == 1
    first, stopped, other = record_of(command)["body"]["rows"]
    assert broken and "NaN" in stopped["failure"] and stopped["cost"] is None
    assert first["failure"] is None and other["failure"] is None and other["cost"] is not None
    assert "reference bfloat16: the dynamics" in capsys.readouterr().out
    with pytest.raises(DeviceError, match="NaN"):  # nothing can be held against a broken baseline
        dataclasses.replace(command, dtype="bfloat16", versus=("float64",)).run()


def test_what_is_known_is_not_measured_again(
    command: QualityCommand, monkeypatch: pytest.MonkeyPatch
) -> None:

    dataclasses.replace(command, times="none").run()
    before = record_of(command)["body"]
    decoded: list[Any] = []
    real = setup.measure_plan
    monkeypatch.setattr(setup, "measure_plan", lambda *given: (decoded.append(given[2]), real(*given))[1])
    dataclasses.replace(command, times="none").run()
    assert not decoded and record_of(command)["body"] == before
    grid = dataclasses.replace(
        command, versus=(), plans=("maskgit",), passes=(2,), reuse=("none",), times="none"
    )
    grid.run()
    assert len(decoded) == 1  # the grid's work is its own


def test_one_world_can_be_emulated_alone(command: QualityCommand) -> None:
    words = ["--data", str(command.data), "--out", str(command.out), "--clips", "4"]
    words += ["--reference-clips", "8", "--backend", "cuda", "--dtype", "float16", "--emulate"]
    words += ["--plans", "maskgit", "--passes", "1", "--reuse", "none"]
    assert main(["bench", "quality", command.bundle, *words]) == 0
    with command.out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["ms_p50"] == "" and float(row["psnr_t4_pooled_db"]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versus": ("tpu:int8",)}, "--versus: expected some of"),
        ({"versus": ("int9",)}, "--versus: expected some of"),
        ({"versus": ("int8",)}, "does not compute in 'int8'"),
        ({"versus": ("reference",)}, "computations that differ"),
        ({"versus": ("float64", "reference:float64")}, "computations that differ"),
        ({"backend": "tpu"}, "unknown back end 'tpu'"),
        ({"emulate": True}, 'expected the back end "cuda"'),
        ({"versus": ("cuda:int8",), "emulate": True, "device": "meta"}, "meta"),
        ({"plan": ("best",)}, "unknown plan 'best'"),
        ({"passes": (2,)}, "--passes: expected in a comparison of plans"),
        ({"versus": (), "plan": ("once",)}, "--plan: expected in a comparison with --versus"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    command: QualityCommand, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(GenieError, match=message):
        dataclasses.replace(command, **change).run()
    assert not command.out.exists()
