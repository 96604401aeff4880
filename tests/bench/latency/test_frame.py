"""A bench of a tiny world tells a whole record, and times what it says."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from makers import (
    ACTIONS,
    counted_calls,
    make_config,
    make_model,
    make_pictures,
    make_world,
)

from genie_rt.bench.command_line import words
from genie_rt.bench.commands import BenchCommand
from genie_rt.bench.latency import frame, workloads
from genie_rt.bench.latency.compiled import CompiledRollout
from genie_rt.bench.latency.frame_record import COMPARED, COMPILED, IDLE_COMMIT, RECOMPUTED, STEP, FrameBody
from genie_rt.bench.record import read_record
from genie_rt.bench.timer import Candidate
from genie_rt.cli import main
from genie_rt.errors import ConfigError, DeviceError, InputError, UnsupportedError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.backends.protocol import FrameStats, MemoryUse
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.cost import model_cost
from genie_rt.runtime.images import Picture
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.presets import preset
from genie_rt.runtime.random_weights import random_bundle
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

pytestmark = pytest.mark.usefixtures("no_library")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_config(window=3, decoder_window=2)
    out = tmp_path_factory.mktemp("bench") / "tiny"
    write_bundle(
        out, name="tiny", config=config, weights=make_model(config).state_dict(), action_names=ACTIONS,
        default_action="stay", plans={
            "default": Plan(passes=9, temperature=0.7),
            "even": Plan(order="halton", passes=4, reuse="passes"),
            "moving": Plan(passes=3, reuse="frames", fresh=0.4),
        },
        prompts=list(make_pictures(config, 1)), provenance={}, model_card="# tiny\n",
    )  # fmt: skip
    return out


# --- what goes on from a full window ---------------------------------------------------------------------


def test_all_that_is_timed_goes_on_from_a_full_window() -> None:
    world = make_world(make_config(window=4, decoder_window=6))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    past = workloads.Past.fill(session)
    row = past.snapshot.row
    assert (len(row.dynamics), len(row.decoder)) == (3, 5)
    assert len(past.tokens) == len(past.actions) == row.frame_index + 1
    assert torch.equal(past.tokens[-1], row.tokens)
    memory = frame._memory(world.backend)
    backend = world.backend
    assert memory.page_bytes == 3 * backend.dynamics_pages.page_bytes + 5 * backend.decoder_pages.page_bytes
    assert memory.pool_bytes > memory.page_bytes
    assert memory.weight_bytes == sum(p.numel() * 8 for p in backend.model.parameters())


def test_a_session_from_the_past_plays_on_as_the_first_one_does() -> None:
    world = make_world(make_config(window=3))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    past = workloads.Past.fill(session)
    first = [session.step(action).copy() for action in (0, 1, 2)]
    second = past.session(Plan(passes=2))
    assert [np.array_equal(a, second.step(action)) for a, action in zip(first, (0, 1, 2), strict=True)]


def test_only_the_idle_commit_is_off_the_clock() -> None:
    world = make_world(make_config(window=3))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    with counted_calls(world) as calls:

        def calls_in(candidate: Candidate) -> list[str]:
            calls.clear()
            candidate.run()
            return [name for name, _ in calls]

        fused = workloads.Workload.of(STEP, session).candidate
        assert [calls_in(fused), calls_in(fused), fused.after] == [["frame"], ["frame"], None]
        assert session.row.pending
        idle = workloads.Workload.of(IDLE_COMMIT, session, idle_commit=True).candidate
        assert idle.after is not None
        for _ in range(2):
            assert not session.row.pending
            assert calls_in(idle) == ["frame"]
            assert session.row.pending
            idle.after()


def test_a_frame_that_made_something_ready_is_told_of() -> None:
    stats = [FrameStats(passes=1, tokens=4)]
    cold = iter([False, True, True])

    def run() -> None:
        stats.append(FrameStats(passes=1, tokens=4, cold=next(cold)))

    player = workloads.Workload(
        candidate=Candidate(name=IDLE_COMMIT, run=run), plan=Plan(passes=1), stats=stats
    )
    _, _, notes = frame._time([player], 3, warm_up_s=0, on_round=None)
    assert notes == ["commit in idle time: 2 of 3 measured frames included one-time preparation"]


def test_only_the_frames_that_count_are_counted() -> None:
    world = make_world(make_config(window=3))
    session = world.session(plan=Plan(order="adaptive", passes=5, threshold=0.4))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    player = workloads.Workload.of(STEP, session)
    for _ in range(4):
        player.candidate.run()  # as a warm-up does
    _, (series,), notes = frame._time([player], 3, warm_up_s=0, on_round=None)
    assert notes == []
    assert len(player.stats) == 7
    assert series.passes_per_frame == sum(stats.passes for stats in player.stats[4:]) / 3
    assert series.tokens_per_frame == sum(stats.tokens for stats in player.stats[4:]) / 3


# --- the command -----------------------------------------------------------------------------------------


def bench(bundle: Path, *words: str) -> int:
    return main(["bench", str(bundle), "--iterations", "2", "--duration", "0", "--warm-up", "0", *words])


@pytest.mark.parametrize("asked", [["none"], []])
def test_no_sweep_is_none(asked: list[str]) -> None:
    command = tyro.cli(BenchCommand, args=["--sweep", *asked])
    assert command._sweep() == ()
    assert words("bench", command) == " ".join(["genie-rt bench --sweep", *asked])


def test_passes_and_none_are_no_sweep() -> None:
    with pytest.raises(InputError, match="--sweep: expected passes such as 1 4, or none alone"):
        tyro.cli(BenchCommand, args=["--sweep", "1", "none"]).run()


def test_a_bench_of_a_tiny_world(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = ("--json", str(tmp_path / "r.json"), "--export-times", str(tmp_path / "t.json"))
    assert bench(bundle, "--passes", "3", "--sweep", "1", "2", "--percentile", "50", "90", *outputs) == 0
    printed = capsys.readouterr().out
    for text in ("tiny, 3 passes per frame, order maskgit, reference float32 on ", "commit in idle time",
                 "p90", "commit in the step", "paper's recipe, 3 frames",
                 "times faster than the paper's recipe",
                 "tokens computed per frame: 45, by the paper's recipe 135",
                 "passes per frame", "cold start", "memory"):  # fmt: skip
        assert text in printed
    assert "p95" not in printed.partition("times faster")[0]
    record = read_record(tmp_path / "r.json", FrameBody)
    body = record.body
    assert [series.name for series in body.series] == [*COMPARED, "sweep_1", "sweep_2"]
    assert [series.plan.passes for series in body.series] == [3, 3, 3, 1, 2]
    assert [series.passes_per_frame for series in body.series] == [3, 3, 3, 1, 2]
    assert [series.tokens_per_frame for series in body.series] == [45, 45, 135, 15, 30]
    assert {series.plan.temperature for series in body.series} == {0.7}
    assert {len(series.run_ns) for series in body.series} == {2}
    assert all(ns > 0 for ns in body.find(IDLE_COMMIT).after_ns)
    assert not any((*body.find(STEP).after_ns, *body.find(RECOMPUTED).after_ns))
    assert body.times_faster is not None and body.times_faster > 0
    assert (body.subject.bundle, body.subject.window, body.subject.dtype) == ("tiny", 3, "float32")
    assert len(body.subject.digest) == 64
    assert record.header.command == (
        f"genie-rt bench {bundle} --passes 3 --iterations 2 --duration 0.0 --warm-up 0 --percentile 50 90 "
        "--sweep 1 2"
    )
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2


def test_a_bench_without_baseline_and_sweep(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--no-baseline", "--dtype", "bfloat16", "--json", str(tmp_path / "r.json"), "--sweep")
    assert bench(bundle, *words) == 0
    printed = capsys.readouterr().out
    assert "9 passes per frame, order maskgit, reference bfloat16 on " in printed and "paper" not in printed
    record = read_record(tmp_path / "r.json", FrameBody)
    assert [series.name for series in record.body.series] == [STEP, IDLE_COMMIT]
    assert record.body.times_faster is None
    assert record.header.command.endswith("--sweep --no-baseline --dtype bfloat16")


def test_a_bench_of_every_plan(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--plan", "moving", "--compare-plans", "--sweep", "1", "--json", str(tmp_path / "r.json"))
    assert bench(bundle, *words) == 0
    printed = capsys.readouterr().out
    assert "order maskgit, reuse of frames" in printed
    body = read_record(tmp_path / "r.json", FrameBody).body
    names = [series.name for series in body.series]
    assert names == [*COMPARED, "sweep_1", "plan_default", "plan_even", "plan_moving"]
    assert body.find("sweep_1").plan.reuse == "none"  # one pass leaves nothing to reuse
    assert body.find("plan_even").plan.order == "halton"
    assert body.find("plan_even").tokens_per_frame < 4 * 15
    assert body.find("plan_moving").tokens_per_frame == 6 + 2 * 15  # 0.4 of 15, then all twice
    assert body.find(RECOMPUTED).tokens_per_frame == 3 * 3 * 15


def test_flags_have_the_names_that_trtexec_gave_them(bundle: Path, tmp_path: Path) -> None:
    times = tmp_path / "t.json"
    words = ["bench", str(bundle), "--iterations=3", "--warmUp=1", "--duration=0", "--percentile=99"]
    assert main([*words, "--sweep", "--no-baseline", f"--exportTimes={times}"]) == 0
    assert len(json.loads(times.read_text())) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"percentile": (0,)}, InputError, "--percentile"),
        ({"iterations": 0}, InputError, "iterations"),
        ({"warm_up": -1}, InputError, "warm up"),
        ({"duration": -1.0}, InputError, "seconds to measure"),
        ({"threads": 0}, InputError, "--threads"),
        ({"passes": 0}, ConfigError, "passes"),
        ({"passes": 16}, ConfigError, "at most 15"),
        ({"sweep": (2, -1)}, ConfigError, "passes"),
        ({"plan": "worst"}, InputError, "unknown plan 'worst'"),
        ({"device": "abacus"}, UnsupportedError, "abacus"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    bundle: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BenchCommand(bundle=str(bundle), **change).run()


def test_a_world_without_prompts_is_measured_from_grey() -> None:
    world = make_world(make_config())
    picture = workloads.first_picture(world)
    session: Session = world.session()
    assert session.reset(picture).shape == (*world.output_size, 3)


# --- random weights --------------------------------------------------------------------------------------


BRIEF = ("--iterations", "2", "--duration", "0", "--warm-up", "0", "--sweep")


def test_a_bench_of_random_weights_needs_no_bundle(
    tiny_preset: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--preset", "tiny", "--random-weights", *BRIEF, "--json", str(tmp_path / "r.json")]
    assert main(["bench", *words]) == 0
    printed = capsys.readouterr().out
    for text in ("tiny-random, 4 passes per frame", "paper's recipe", "weights ", "session "):
        assert text in printed
    record = read_record(tmp_path / "r.json", FrameBody)
    subject = record.body.subject
    assert (subject.bundle, subject.backend) == ("tiny-random", "reference")
    assert subject.digest == random_bundle("tiny", seed=0, device="cpu").digest
    assert subject.digest.startswith("random:")
    assert record.body.memory.weight_bytes == model_cost(preset("tiny")).weight_bytes("fp32")
    assert record.body.memory.page_bytes > 0
    assert record.header.device.name == "cpu"
    assert record.header.command == (
        "genie-rt bench --preset tiny --random-weights --iterations 2 --duration 0.0 --warm-up 0 --sweep"
    )


def test_the_demo_is_measured_where_nothing_is_named() -> None:
    assert BenchCommand()._words() == "genie-rt bench demo"
    assert BenchCommand(bundle="my worlds/one", passes=2)._words() == (
        "genie-rt bench 'my worlds/one' --passes 2"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "tiny"], "--preset: expected --random-weights"),
        (["--random-weights"], "--random-weights: expected --preset"),
        (["demo", "--random-weights"], "--random-weights: expected --preset"),
        (["demo", "--preset", "tiny", "--random-weights"], "found 'demo' and 'tiny'"),
        (["--preset", "tniy", "--random-weights"], "unknown preset 'tniy'"),
    ],
)
def test_a_preset_and_random_weights_belong_together(
    words: list[str], message: str, tiny_preset: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("sources", [{}, {"source": "demo", "preset": "demo"}])
def test_one_world_is_measured(sources: dict[str, str]) -> None:
    with pytest.raises(InputError, match="expected a bundle or a preset"):
        frame.FrameBench(iterations=1, duration_s=0, warm_up_s=0, **sources)


# --- the compiled baseline -------------------------------------------------------------------------------


def test_a_bench_beside_torch_compile(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workloads, "COMPILER", None)  # the function as it is: compiling takes minutes
    words = ("--passes", "3", "--sweep", "--compiled", "--json", str(tmp_path / "r.json"))
    assert bench(bundle, *words, "--export-times", str(tmp_path / "t.json")) == 0
    printed = capsys.readouterr().out
    assert "torch.compile and SDPA" in printed and "times the speed of the same model under" in printed
    record = read_record(tmp_path / "r.json", FrameBody)
    body = record.body
    assert [series.name for series in body.series] == [*COMPARED, COMPILED]
    series = body.find(COMPILED)
    assert (len(series.run_ns), series.passes_per_frame, series.tokens_per_frame) == (2, 3, 45)
    assert body.times_faster_than_compiled is not None and body.times_faster_than_compiled > 0
    assert record.header.command.endswith("--sweep --compiled")
    assert "compiled_ms" in json.loads((tmp_path / "t.json").read_text())[0]


def test_torch_compile_is_left_out_on_a_cpu(bundle: Path, tmp_path: Path) -> None:
    assert bench(bundle, "--passes", "2", "--sweep", "--json", str(tmp_path / "r.json")) == 0
    body = read_record(tmp_path / "r.json", FrameBody).body
    assert [series.name for series in body.series] == [*COMPARED]
    assert body.times_faster_than_compiled is None


def test_a_plan_that_the_compiled_baseline_cannot_decode_is_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(bundle, "--plan", "even", "--compiled") == 1
    assert "maskgit" in capsys.readouterr().err


def test_the_compiled_baseline_goes_on_where_the_bench_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(make_config(window=3, decoder_window=2))
    plan = Plan(passes=2, temperature=0.8)
    session = world.session(plan=plan, seed=4)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    first = session.row
    session.step(0)  # as `bench_frames` does, to time it
    past = workloads.Past.fill(session, before=[first])
    pictures: list[Picture] = []
    step = CompiledRollout.step

    def noted(self: CompiledRollout, action: int) -> None:
        pictures.append(step(self, action))

    monkeypatch.setattr(CompiledRollout, "step", noted)
    monkeypatch.setattr(workloads, "COMPILER", None)
    player = past.compiled(plan, world.backend.model)
    for action in itertools.islice(workloads.held_actions(world), 5):
        player.candidate.run()
        assert np.array_equal(pictures[-1], session.step(action))
    assert [stats.passes for stats in player.stats] == [2] * 5


# --- other back ends -------------------------------------------------------------------------------------


class SealedBackend:
    """A back end that tells of itself what it has to, and has no torch model."""

    def __init__(self, inner: ReferenceBackend) -> None:
        self._inner = inner
        self.name, self.device, self.arithmetic, self.definition = "sealed", inner.device, None, None
        self.memory_use = MemoryUse(weight_bytes=7, page_bytes=8, pool_bytes=9)

    def __getattr__(self, name: str) -> object:
        if name == "model":
            raise AttributeError(name)
        return getattr(self._inner, name)


def sealed(load: Callable[..., World]) -> Callable[..., World]:
    """`World.load` as if `SealedBackend` were its default."""

    def load_sealed(*arguments: object, backend: str = "auto", **options: object) -> World:
        world = load(*arguments, **options)
        return world if backend == "reference" else World(world.bundle, SealedBackend(world.backend), "int8")

    return load_sealed


def test_another_back_end_is_measured_beside_the_same_weights_in_torch(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "load", sealed(World.load))
    what = frame.FrameBench(source=str(bundle), passes=2, iterations=1, duration_s=0, warm_up_s=0)
    record = frame.bench_frames(what, import_ms=0, command="x")
    body = record.body
    assert (body.subject.backend, body.subject.dtype) == ("sealed", "int8")
    memory = body.memory
    assert (memory.weight_bytes, memory.page_bytes, memory.pool_bytes) == (7, 8, 9)
    names = [STEP, IDLE_COMMIT, "versus reference float32", RECOMPUTED]
    assert [series.name for series in body.series] == names
    assert list(body.times_faster_than) == ["reference float32"]
    assert body.times_faster_than["reference float32"] > 0


@pytest.mark.parametrize(
    ("dtype", "said"), [("int8", ["what is not int8 is computed in bfloat16"]), ("bfloat16", [])]
)
def test_a_record_says_what_the_rest_of_an_int8_graph_is_computed_in(
    dtype: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(make_config())
    backend = SealedBackend(world.backend)
    backend.arithmetic = "bfloat16"
    monkeypatch.setattr(World, "load", lambda *_, **__: World(world.bundle, backend, dtype))
    what = frame.FrameBench(
        source="x", passes=2, iterations=1, duration_s=0, warm_up_s=0, baseline=False, versus=()
    )
    warnings = frame.bench_frames(what, import_ms=0, command="x").header.warnings
    assert [line for line in warnings if "is computed in" in line] == said


def test_other_back_ends_are_timed_beside_it_once_each(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--versus", "reference:bfloat16", "reference", "reference:float32")
    words = ("--passes", "2", "--sweep", "--no-baseline", *asked, "--json", str(tmp_path / "r.json"))
    assert bench(bundle, *words, "--export-times", str(tmp_path / "t.json")) == 0
    printed = capsys.readouterr().out
    body = read_record(tmp_path / "r.json", FrameBody).body
    others = ["reference bfloat16", "reference float32"]
    assert [series.name for series in body.series] == [
        STEP, IDLE_COMMIT, *(f"versus {name}" for name in others)
    ]  # fmt: skip
    assert list(body.times_faster_than) == others
    for name in others:
        assert f"{body.times_faster_than[name]:.2f} times the speed of {name}\n" in printed
    own, other = (body.find(name) for name in (STEP, "versus reference bfloat16"))
    ratios = sorted(b / a for a, b in zip(own.run_ns, other.run_ns, strict=True))
    assert ratios[0] <= body.times_faster_than["reference bfloat16"] <= ratios[-1]
    assert "versus reference float32_ms" in json.loads((tmp_path / "t.json").read_text())[0]


@pytest.mark.parametrize("other", ["nothing", "reference:int8", "cuda:float64", ":float32"])
def test_another_back_end_that_there_is_not_is_named(other: str) -> None:
    with pytest.raises(InputError, match=f"--versus: expected some of reference:float64, .*found '{other}'"):
        frame.FrameBench(source="demo", iterations=1, duration_s=0, warm_up_s=0, versus=(other,))


@pytest.mark.parametrize("error", [DeviceError, torch.OutOfMemoryError])
def test_baselines_that_do_not_fit_are_left_out_with_a_line(
    bundle: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = sealed(World.load)

    def full(*arguments: object, backend: str = "auto", **options: object) -> World:
        if backend == "reference":
            raise error("memory is full\nand more of it")
        return load(*arguments, backend=backend, **options)

    monkeypatch.setattr(World, "load", full)
    assert bench(bundle, "--passes", "2", "--sweep", "--compiled") == 0
    printed = capsys.readouterr().out
    assert "note: reference float32 was left out: memory is full\n" in printed
    assert "note: the paper's recipe was left out: memory is full\n" in printed
    assert "note: torch.compile was left out: memory is full\n" in printed
    assert "times faster" not in printed


def test_a_number_format_that_torch_lacks_is_compared_with_float32_on_a_cpu(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "load", sealed(World.load))
    what = frame.FrameBench(source=str(bundle), iterations=1, duration_s=0, warm_up_s=0, dtype="int8")
    world = World(make_world(make_config()).bundle, SealedBackend(make_world(make_config()).backend), "int8")
    worlds = frame._Worlds(what, world)
    model, notes = worlds.model()
    assert worlds.other("reference", "float32").backend.model is model  # type: ignore[attr-defined]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert notes == ["the baselines compute in float32, not in int8"]
