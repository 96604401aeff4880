"""A record comes back as it was written, and what is no record is refused."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from genie_rt.bench.kernels.ceilings import CeilingsBody
from genie_rt.bench.kernels.compile import CompileBody
from genie_rt.bench.kernels.times import KernelsBody
from genie_rt.bench.latency.frame_record import COMPARED, ColdStart, FrameBody, Memory
from genie_rt.bench.latency.long import LongBody
from genie_rt.bench.latency.peek import PeekBody
from genie_rt.bench.parity.verify import VerifyBody
from genie_rt.bench.record import (
    Device,
    Header,
    Record,
    Software,
    Subject,
    _commit,
    now,
    read_record,
    write_json,
    write_record,
)
from genie_rt.bench.series import Series, write_times
from genie_rt.bench.timer import Times
from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.config import from_dict, to_dict
from genie_rt.runtime.plan import Plan

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def series(name: str = "step", *run_ns: int) -> Series:
    run_ns = run_ns or (30_000_000, 10_000_000, 50_000_000)
    plan = Plan(order="halton", passes=2, reuse="passes")
    stats = [FrameStats(passes=2, tokens=400), FrameStats(passes=3, tokens=401)]
    return Series.of(name, plan, Times(run_ns=run_ns, after_ns=(0,) * len(run_ns)), stats)


RECORD = Record(
    header=Header(
        kind="frame",
        created=now(),
        command="genie-rt bench demo",
        software=Software(genie_rt="0.1.0", torch="2.13.0", python="3.11.7", commit=None),
        device=Device(
            name="cpu", model="A CPU", cpu_model="A CPU", num_cores=2, num_threads=1, system="Linux x86_64"
        ),
        warnings=("busy",),
    ),
    body=FrameBody(
        subject=Subject(bundle="demo", digest="0" * 64, window=8, backend="reference", dtype="float32"),
        cold_start=ColdStart(import_ms=1.5, load_ms=2.0, warm_up_ms=8.0, reset_ms=3.0, first_step_ms=4.0),
        memory=Memory(peak_rss_bytes=None, weight_bytes=1, page_bytes=2, pool_bytes=3),
        series=(series(), series("recomputed")),
        times_faster=2.5,
    ),
)


def test_a_record_comes_back(tmp_path: Path) -> None:
    write_record(tmp_path / "deep" / "record.json", RECORD)
    assert read_record(tmp_path / "deep" / "record.json", FrameBody) == RECORD


def test_absent_figures_come_back_absent(tmp_path: Path) -> None:
    header, body = (
        replace(RECORD.header, warnings=()),
        replace(RECORD.body, times_faster=None, series=(Series.of("a", Plan(), series().times),)),
    )
    record = Record(header=header, body=body)
    assert (body.find("a").passes_per_frame, body.find("a").tokens_per_frame) == (None, None)
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json", FrameBody) == record


def test_records_from_before_the_warm_up_was_told_apart_are_still_read(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", RECORD)
    values = json.loads((tmp_path / "record.json").read_text())
    del values["body"]["cold_start"]["warm_up_ms"]
    (tmp_path / "record.json").write_text(json.dumps(values))
    start = read_record(tmp_path / "record.json", FrameBody).body.cold_start
    assert start.warm_up_ms is None and start.total_ms == 10.5


def test_figures_stand_beside_their_times() -> None:
    found = series()
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (30.0, 50.0, 50.0)
    assert found.per_second == pytest.approx(3000 / 90)
    assert (found.missed_30_hz, found.missed_60_hz) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found.times.run_ns == (30_000_000, 10_000_000, 50_000_000)
    assert (found.passes_per_frame, found.tokens_per_frame) == (2.5, 400.5)
    assert RECORD.body.cold_start.total_ms == 18.5
    assert RECORD.body.find("recomputed") == series("recomputed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a record"),
        ("[]", "expected an object, found a list of 0"),
        ('{"kind": "frame"}', "is missing"),
        ("[" * 100_000, "expected a record"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path / "record.json", FrameBody)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema_version: expected 2, found 1"),
        ({"kind": "peek"}, "record.kind: expected 'frame', found 'peek'"),
        ({"body": None}, "record.body: expected an object"),
        ({"bodi": {}}, "unknown key 'bodi'"),
        ({"warnings": "busy"}, "record.warnings: expected a list"),
        ({"body": {"subjekt": {}}}, "unknown key 'subjekt'; did you mean 'subject'"),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "record.json"
    write_record(path, RECORD)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_record(path, FrameBody)


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", RECORD)
    with pytest.raises(InputError, match="expected 'ceilings', found 'frame'"):
        read_record(tmp_path / "record.json", CeilingsBody)
    with pytest.raises(ConfigError, match="kind"):
        Record(header=replace(RECORD.header, kind="peek"), body=RECORD.body)


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        read_record(tmp_path / "nothing.json", FrameBody)


KINDS = (CeilingsBody, CompileBody, FrameBody, KernelsBody, LongBody, PeekBody, VerifyBody)
BODIES = {body.KIND: body for body in KINDS}
COMMITTED = sorted(RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_records_can_be_read(path: Path) -> None:
    header = json.loads(path.read_bytes())
    record = read_record(path, BODIES[header["kind"]])
    assert not str(record.header.software.commit).endswith("-dirty")
    assert "/" not in record.header.command  # no path of somebody's machine


DOCUMENTED = sorted((RESULTS.parents[1] / "docs").glob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.name)
def test_documented_records_are_of_a_commit(path: Path) -> None:
    software = json.loads(path.read_bytes()).get("software")
    if software is None:
        pytest.skip("it names no commit: it was taken before records did")
    assert not str(software["commit"]).endswith("-dirty")


def test_the_committed_latency_is_that_of_its_times() -> None:
    body = read_record(RESULTS / "demo-cpu-k2.json", FrameBody).body
    assert [item.name for item in body.series] == [*COMPARED, "sweep_1", "sweep_2", "sweep_4", "sweep_8"]
    for item in body.series:
        assert [item.p50_ms, item.p95_ms] == [item.times.percentile_ms(50), item.times.percentile_ms(95)]
    assert (body.subject.bundle, body.find("step").plan.passes) == ("demo", 2)


def test_no_figure_is_written_that_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "record.json", {"figure": float("inf")})
    assert not (tmp_path / "record.json").exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can be written"):
        write_record(tmp_path / "file" / "record.json", RECORD)


def test_times_are_exported_round_by_round(tmp_path: Path) -> None:
    both = [series("step", 1_000_000, 2_500_000), series("recomputed", 3_000_000, 4_000_000)]
    write_times(tmp_path / "times.json", both)
    assert json.loads((tmp_path / "times.json").read_text()) == [
        {"round": 0, "step_ms": 1.0, "recomputed_ms": 3.0},
        {"round": 1, "step_ms": 2.5, "recomputed_ms": 4.0},
    ]


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_files_own_checkout(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.py", tmp_path / "installed.py"
    ours.write_text("1")
    other.write_text("1")
    assert _commit(ours) is None  # no checkout at all
    git(tmp_path, "init")
    git(tmp_path, "add", "ours.py")
    git(tmp_path, "commit", "-m", "first")
    clean = _commit(ours)
    assert clean is not None and len(clean) == 40
    assert _commit(other) is None  # a package that is installed inside somebody's checkout
    ours.write_text("2")
    assert _commit(ours) == f"{clean}-dirty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A body with a list that may be missing."""

    figures: tuple[float, ...] | None


@pytest.mark.parametrize("figures", [None, (), (1.0, 2.5)])
def test_a_list_that_may_be_missing_reads_back(figures: tuple[float, ...] | None) -> None:
    assert from_dict(Measured, json.loads(json.dumps(to_dict(Measured(figures=figures))))) == Measured(
        figures=figures
    )
