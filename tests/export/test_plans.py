"""Recommended plans go from the record of `bench quality` into the bundle, checked on the way."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny_runs import TinyRuns

from genie_rt.errors import ConfigError, InputError
from genie_rt.export.commands import ExportCommand
from genie_rt.export.plans import read_recommended
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.plan import Plan

RECOMMENDED = {
    "quality": Plan(passes=3, temperature=0.7),
    "balanced": Plan(order="adaptive", passes=3, threshold=0.8),
    "fast": Plan(order="halton", passes=2, reuse="passes"),
}


def write(path: Path, **changes: object) -> Path:
    plans = {name: asdict(plan) for name, plan in RECOMMENDED.items()}
    path.write_text(json.dumps({"schema": "genie-rt/quality", "recommended": plans} | changes))
    return path


def test_recommended_plans_stand_in_the_bundle_beside_the_default(
    tiny_runs: TinyRuns, tmp_path: Path
) -> None:
    record = write(tmp_path / "quality.json")
    ExportCommand(source=tiny_runs.logged, out=tmp_path / "world", passes=1, plans=record).run()
    assert dict(open_bundle(tmp_path / "world").plans) == RECOMMENDED | {"default": Plan(passes=1)}


def test_a_plan_that_the_model_cannot_run_leaves_nothing_behind(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    record = write(tmp_path / "quality.json", recommended={"quality": asdict(Plan(passes=4000))})
    with pytest.raises(ConfigError, match=r"4000"):
        ExportCommand(source=tiny_runs.logged, out=tmp_path / "world", passes=1, plans=record).run()
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": "genie-rt/evaluation"}', '{"schema": "genie-rt/quality"}',
     '{"schema": "genie-rt/quality", "recommended": {}}',
     '{"schema": "genie-rt/quality", "recommended": {"fast": {"passes": 0}}}',
     '{"schema": "genie-rt/quality", "recommended": {"fast": {"pases": 2}}}',
     '{"schema": "genie-rt/quality", "recommended": {"fast": 2}}'],
)  # fmt: skip
def test_a_file_that_recommends_nothing_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"quality\.json: .*the JSON record of `genie-rt bench quality`"):
        read_recommended(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json"):
        read_recommended(tmp_path / "none.json")
