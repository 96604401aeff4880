"""The bench of `peek` times what it says, and its formula counts the work."""

from pathlib import Path

import pytest
from makers import counted_calls, make_config, make_world

from genie_rt.bench.latency import peek
from genie_rt.bench.latency.peek import ALONE, DECODED, PEEK, UNDECODED, PeekBody, bench_peek, work_ratio
from genie_rt.bench.record import Record, read_record
from genie_rt.bench.timer import Candidate, Times
from genie_rt.cli import main
from genie_rt.runtime.cost import DECODER, DYNAMICS, model_cost
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CONFIG = make_config(window=3)
PLAN = Plan(passes=2)


def run(world: World, plan: Plan = PLAN) -> Record[PeekBody]:
    return bench_peek(world, plan, command="x", iterations=2)


@pytest.mark.parametrize(
    ("num_actions", "passes", "decoder", "expected"),
    [(1, 2, 0.5, 1.0), (6, 2, 0.0, 13 / 18), (6, 1, 1.0, 13 / 18), (8, 25, 0.67, 206.36 / 213.36)],
)
def test_the_formula_counts_passes_decoders_and_commits(
    num_actions: int, passes: int, decoder: float, expected: float
) -> None:
    assert work_ratio(num_actions, passes, decoder) == pytest.approx(expected)


@pytest.mark.parametrize("plan", [PLAN, Plan(passes=2, reuse="frames")], ids=["plain", "reuse"])
def test_each_candidate_does_its_work_from_the_same_moment(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(CONFIG)
    seen: dict[str, list[tuple[str, int]]] = {}

    def measure(candidates: list[Candidate], **options: object) -> dict[str, Times]:
        with counted_calls(world) as calls:
            for candidate in candidates * 2:  # the second time must not find what the first one left
                calls.clear()
                candidate.run()
                seen[candidate.name] = list(calls)
                calls.clear()
                if candidate.after is not None:
                    candidate.after()
                    seen["after"] = list(calls)
        return {candidate.name: Times(run_ns=(10, 20), after_ns=(1, 2)) for candidate in candidates}

    monkeypatch.setattr(peek, "measure", measure)
    run(world, plan)
    assert seen == {
        PEEK: [("frame", 3)],
        "after": [],  # the step that follows is free
        ALONE: [("frame", 1)] * 3,
        DECODED: [("frame", 1)],
        UNDECODED: [("frame", 1)],
    }


def test_figures_are_those_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {PEEK: (30, 40, 50), ALONE: (60, 80, 50), DECODED: (26, 26, 26), UNDECODED: (20, 20, 20)}

    def measure(candidates: list[Candidate], **options: object) -> dict[str, Times]:
        return {name: Times(run_ns=run_ns, after_ns=(1, 3, 2)) for name, run_ns in taken.items()}

    monkeypatch.setattr(peek, "measure", measure)
    body = run(make_world(CONFIG)).body
    assert body.num_actions == 3
    assert body.ratio == 0.5
    assert body.measured_decoder_passes == pytest.approx(0.6)  # 6 of a pass of 10
    assert body.measured_expected_ratio == pytest.approx(work_ratio(3, 2, 0.6))
    cost = model_cost(CONFIG)
    by_operations = cost.part(DECODER).pass_flops / cost.part(DYNAMICS).pass_flops
    assert body.decoder_passes == by_operations
    assert body.expected_ratio == work_ratio(3, 2, by_operations)
    assert body.following_step_ms == pytest.approx(2e-6)


def test_a_decoder_that_costs_nothing_measurable_is_no_negative_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = Times(run_ns=(20, 20), after_ns=(0, 0))
    faster = Times(run_ns=(19, 19), after_ns=(0, 0))
    monkeypatch.setattr(
        peek, "measure", lambda *_, **__: {PEEK: times, ALONE: times, DECODED: faster, UNDECODED: times}
    )
    assert run(make_world(CONFIG)).body.measured_decoder_passes == 0


def test_the_record_says_which_back_end_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(CONFIG)
    monkeypatch.setattr(world.backend, "name", "openvino", raising=False)
    record = run(world)
    assert (record.body.subject.backend, record.header.device.name) == ("openvino", "cpu")


def test_a_bench_of_peek_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, asked = make_world(CONFIG), dict[str, object]()
    monkeypatch.setattr(World, "load", lambda *_, **how: asked.update(how) or world)
    path = tmp_path / "peek.json"
    words = ["--iterations", "2", "--duration", "0", "--warm-up", "0", "--passes", "4", "--json", str(path)]
    how = ["--backend", "reference", "--dtype", "float32", "--device", "cpu"]
    assert main(["bench", "peek", "tiny", *how, *words]) == 0
    assert asked == {"backend": "reference", "dtype": "float32", "device": "cpu"}
    record = read_record(path, PeekBody)
    assert [series.name for series in record.body.series] == [PEEK, ALONE, DECODED, UNDECODED]
    assert {series.plan.passes for series in record.body.series} == {4}
    assert record.header.command == (
        "genie-rt bench peek tiny --passes 4 --iterations 2 --duration 0.0 --warm-up 0 "
        "--backend reference --dtype float32 --device cpu"
    )
    printed = capsys.readouterr().out
    for text in ("all 3 actions", "as one batch", "one by one", "from the decoder's operations",
                 "the step after it", "order maskgit, reference float64 on "):  # fmt: skip
        assert text in printed
