"""The baseline computes what it claims to, and a bench of a tiny world tells a whole record."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_actions, make_config, make_model, make_pictures, make_world

from genie_rt.bench import frame
from genie_rt.bench.baseline import RecomputedRollout
from genie_rt.bench.commands import BenchCommand
from genie_rt.bench.record import COMPARED, IDLE_COMMIT, RECOMPUTED, STEP, read_record
from genie_rt.bench.timer import Candidate
from genie_rt.cli import main
from genie_rt.errors import ConfigError, InputError
from genie_rt.export.bundle import write_bundle
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.naive import naive_rollout
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_config(window=3, decoder_window=2)
    out = tmp_path_factory.mktemp("bench") / "tiny"
    write_bundle(
        out, name="tiny", config=config, weights=make_model(config).state_dict(), action_names=ACTIONS,
        default_action="stay", plans={"default": Plan(passes=9, temperature=0.7)},
        prompts=list(make_pictures(config, 1)), provenance={}, model_card="# tiny\n",
    )  # fmt: skip
    return out


# --- the baseline ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("known", [1, 3, 6])
def test_the_baseline_is_the_papers_recipe(window: int, known: int) -> None:
    config = make_config(window=window)
    backend = make_world(config).backend
    prompt, actions = torch.from_numpy(make_pictures(config, known)), make_actions(known + 6)
    plan = Plan(passes=3)
    expected = naive_rollout(backend.model, prompt, actions, plan, 5, last=window)
    tokens, _ = backend.model.tokenizer.encode(prompt[None], causal_ages(known, window))
    rollout = RecomputedRollout(backend, tokens[0], [-1, *actions[: known - 1]], known - 1, plan=plan, seed=5)
    for action, wanted in zip(actions[known - 1 :], expected, strict=True):
        picture = rollout.step(action)
        assert torch.equal(rollout.tokens[0, -1], wanted.tokens)
        assert picture.shape == tuple(wanted.picture.shape) and picture.dtype == np.uint8


def test_the_baseline_recomputes_a_full_window_and_decodes_its_own() -> None:
    world = make_world(make_config(window=4, decoder_window=2))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    past = frame.Past.fill(session)
    seen: list[tuple[str, int]] = []
    model = world.backend.model
    for name, module in (("dynamics", model.dynamics.transformer), ("decoder", model.tokenizer.decoder)):
        module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[0].shape[1])))
    past.recomputed(Plan(passes=2)).run()
    assert seen == [("dynamics", 4), ("dynamics", 4), ("decoder", 2)]


# --- what goes on from a full window ---------------------------------------------------------------------


def test_all_that_is_timed_goes_on_from_a_full_window() -> None:
    world = make_world(make_config(window=4, decoder_window=6))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    past = frame.Past.fill(session)
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
    past = frame.Past.fill(session)
    first = [session.step(action).copy() for action in (0, 1, 2)]
    second = past.session(Plan(passes=2))
    assert [np.array_equal(a, second.step(action)) for a, action in zip(first, (0, 1, 2), strict=True)]


def test_only_the_idle_commit_is_off_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(make_config(window=3))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    commits: list[str] = []
    commit = world.backend.commit
    monkeypatch.setattr(world.backend, "commit", lambda rows: commits.append("commit") or commit(rows))

    def commits_in(candidate: Candidate) -> int:
        commits.clear()
        candidate.run()
        return len(commits)

    on_path = frame._step(STEP, session)
    assert [commits_in(on_path), commits_in(on_path), on_path.after] == [1, 1, None]
    off_path = frame._step(IDLE_COMMIT, session, idle_commit=True)
    assert off_path.after is not None
    for _ in range(2):
        assert commits_in(off_path) == 0
        off_path.after()


# --- the command -----------------------------------------------------------------------------------------


def bench(bundle: Path, *words: str) -> int:
    return main(["bench", str(bundle), "--iterations", "2", "--warm-up", "1", *words])


def test_a_bench_of_a_tiny_world(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = ("--json", str(tmp_path / "r.json"), "--export-times", str(tmp_path / "t.json"))
    assert bench(bundle, "--passes", "3", "--sweep", "1", "2", "--percentile", "50", "90", *outputs) == 0
    printed = capsys.readouterr().out
    for text in ("tiny, 3 passes a frame, float32", "commit in idle time", "commit in the step", "p90",
                 "paper's recipe, 3 frames", "times faster than the paper's recipe", "passes a frame",
                 "cold start", "memory"):  # fmt: skip
        assert text in printed
    assert "p95" not in printed
    record = read_record(tmp_path / "r.json")
    assert [series.name for series in record.series] == [*COMPARED, "sweep_1", "sweep_2"]
    assert [series.plan.passes for series in record.series] == [3, 3, 3, 1, 2]
    assert {series.plan.temperature for series in record.series} == {0.7}
    assert {len(series.run_ns) for series in record.series} == {2}
    assert all(ns > 0 for ns in record.find(IDLE_COMMIT).after_ns)
    assert not any((*record.find(STEP).after_ns, *record.find(RECOMPUTED).after_ns))
    assert record.times_faster is not None and record.times_faster > 0
    assert (record.subject.bundle, record.subject.window, record.subject.dtype) == ("tiny", 3, "float32")
    assert len(record.subject.digest) == 64
    assert record.command == (
        f"genie-rt bench {bundle} --passes 3 --iterations 2 --warm-up 1 --percentile 50 90 --sweep 1 2"
    )
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2


def test_a_bench_without_baseline_and_sweep(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--no-baseline", "--dtype", "bfloat16", "--json", str(tmp_path / "r.json"), "--sweep")
    assert bench(bundle, *words) == 0
    printed = capsys.readouterr().out
    assert "9 passes a frame, bfloat16" in printed and "paper" not in printed
    record = read_record(tmp_path / "r.json")
    assert [series.name for series in record.series] == [STEP, IDLE_COMMIT]
    assert record.times_faster is None
    assert record.command.endswith("--sweep --no-baseline --dtype bfloat16")


def test_flags_have_the_names_that_trtexec_gave_them(bundle: Path, tmp_path: Path) -> None:
    times = tmp_path / "t.json"
    words = ["bench", str(bundle), "--iterations", "1", "--warmUp", "0", "--sweep", "--no-baseline"]
    assert main([*words, "--exportTimes", str(times)]) == 0
    assert len(json.loads(times.read_text())) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"percentile": (0,)}, InputError, "--percentile"),
        ({"iterations": 0}, InputError, "iterations"),
        ({"warm_up": -1}, InputError, "warm up"),
        ({"threads": 0}, InputError, "--threads"),
        ({"passes": 0}, ConfigError, "passes"),
        ({"sweep": (2, -1)}, ConfigError, "passes"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    bundle: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BenchCommand(bundle=str(bundle), **change).run()


def test_a_world_without_prompts_is_measured_from_grey() -> None:
    world = make_world(make_config())
    picture = frame._first_picture(world)
    session: Session = world.session()
    assert session.reset(picture).shape == (*world.output_size, 3)
