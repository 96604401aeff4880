"""A right back end passes the parity check, and one that is wrong in any single way does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from makers import ACTIONS, make_config, make_model, make_pictures, make_world
from torch import Tensor

from genie_rt.bench.command_line import console
from genie_rt.bench.parity import verify
from genie_rt.bench.parity.bounds import BOUNDS
from genie_rt.bench.parity.tally import Tally, cumulative, distance_to_token
from genie_rt.bench.parity.verify import (
    Parity,
    Variant,
    VerifyBody,
    compare,
    runnable,
    variants,
)
from genie_rt.bench.record import read_record
from genie_rt.bench.tables import print_parity
from genie_rt.cli import main
from genie_rt.errors import BundleError, DeviceError, InputError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.backends.protocol import Probe
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CONFIG = make_config(window=4, decoder_window=3)
PLAN = Plan(passes=3, temperature=0.7)
FRAMES = 8

FLOAT32 = Variant(backend="reference", dtype="float32", device="cpu")


def world(dtype: torch.dtype = torch.float32) -> World:
    return make_world(CONFIG, dtype=dtype)


def check(candidate: World, variant: Variant = FLOAT32, plan: Plan = PLAN, **options: Any) -> Parity:
    return compare(world(torch.float64), candidate, variant, plan=plan, frames=FRAMES, **options)


# --- the distance ----------------------------------------------------------------------------------------

CDF = torch.tensor([[0.25, 0.5, 0.5, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("u", "token", "expected"),
    [
        (0.3, 1, 0.0),  # inside
        (0.25, 1, 0.0),  # an interval holds its lower end,
        (0.25, 0, 0.0),  # and touches the upper one
        (0.0, 0, 0.0),
        (0.3, 0, 0.05),  # the token below: u is beyond its upper end
        (0.2, 1, 0.05),  # the token above: u has not reached its lower end
        (0.1, 3, 0.4),  # tokens in between make no difference
        (0.9, 0, 0.65),
        (0.9, 1, 0.4),
        (0.4, 2, 0.1),  # a token of no probability lies where its neighbours meet
        (0.7, 2, 0.2),
        (0.5, 4, float("inf")),  # no token at all
        (0.5, -1, float("inf")),
    ],
)
def test_the_distance_is_that_to_the_tokens_interval(u: float, token: int, expected: float) -> None:
    found = distance_to_token(CDF, torch.tensor([u], dtype=torch.float64), torch.tensor([token]))
    assert found.tolist() == pytest.approx([expected], abs=1e-15)


def test_the_cumulative_distribution_is_in_float64_and_ends_at_one() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    weights = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64).exp()
    found = cumulative(logits, 0.5)
    assert found.dtype == torch.float64
    assert torch.allclose(found[0], weights.cumsum(0) / weights.sum(), rtol=1e-15, atol=0)
    assert found[0, -1] == 1


def test_a_tally_adds_up_what_differs() -> None:
    tally = Tally(temperature=1.0)
    logits = torch.log(torch.tensor([[[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]], dtype=torch.float64))
    u = torch.tensor([[0.3, 0.1]])
    ours = Probe(logits=logits, candidates=torch.tensor([[1, 0]]))
    theirs = Probe(logits=logits + torch.tensor([0.0, 0.0, 0.5]), candidates=torch.tensor([[0, 0]]))
    tally.add_pass(ours, theirs, u)
    tally.add_pass(ours, ours, u)
    assert (tally.passes, tally.tokens) == (2, 4)
    assert tally.distances.tolist() == pytest.approx([0.05], abs=1e-7)  # u itself is a float32
    assert tally.max_logit_error == pytest.approx(0.5)
    assert tally.mean_logit_error == pytest.approx(2 * 0.5 / 12)
    assert tally.logit_std == pytest.approx(float(logits.std(correction=0)))
    half = float(torch.tensor(0.5).exp()) / 2
    assert tally.max_cdf_error == pytest.approx(0.5 - 0.5 / (0.5 + half), abs=1e-7)
    tally.add_picture(torch.zeros(2, 3, dtype=torch.uint8), torch.full((2, 3), 255, dtype=torch.uint8))
    assert tally.psnr_db == pytest.approx(0.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_stop_the_comparison(bad: float) -> None:
    logits = torch.zeros(1, 2, 3)
    ours = Probe(logits=logits, candidates=torch.zeros(1, 2, dtype=torch.int64))
    broken = logits.clone()
    broken[0, 1, 2] = bad
    with pytest.raises(DeviceError, match="NaN or Inf"):
        Tally(1.0).add_pass(ours, Probe(logits=broken, candidates=ours.candidates), torch.zeros(1, 2))
    with pytest.raises(DeviceError, match="expected logits"):
        Tally(1.0).add_pass(ours, Probe(logits=logits[:, :1], candidates=ours.candidates), torch.zeros(1, 2))


def test_bounds_widen_with_the_precision_lost_and_as_the_temperature_falls() -> None:
    def at(dtype: str, temperature: float) -> float:
        return BOUNDS[dtype].cdf(temperature, 5.0, 1024)

    assert at("float64", 1) < 1e-10 < at("float32", 1) < 1e-3 < at("bfloat16", 1) < 0.1
    assert at("float32", 0.5) > at("float32", 1)


# --- candidates that are right ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(order="adaptive", passes=4, threshold=0.3),
        Plan(order="random", passes=3),
        Plan(order="halton", passes=3, reuse="passes"),
        Plan(passes=3, reuse="frames"),
    ],
    ids=["maskgit", "adaptive", "random", "halton", "frames"],
)
def test_float32_passes(plan: Plan) -> None:
    found = check(world(), plan=plan)
    assert found.failure is None and found.passed
    assert 0 < found.max_logit_error < 1e-4 and 0 < found.mean_logit_error < found.max_logit_error
    assert 0 < found.max_cdf_error <= found.bound < 1e-3
    assert found.within == 1
    assert found.logit_std > 0.5
    assert found.psnr_db is None or found.psnr_db > 70
    if plan.order != "adaptive":
        assert found.passes == FRAMES * (plan.passes + 1)  # and one with the commit fused into it
        assert found.tokens == found.passes * 15


def test_bfloat16_passes_and_differs() -> None:
    found = check(world(torch.bfloat16), Variant(backend="reference", dtype="bfloat16", device="cpu"))
    assert found.failure is None
    assert found.mismatches > 0 and found.max_distance > 1e-4
    assert found.free_frames < FRAMES


def test_the_same_computation_is_equal_in_all() -> None:
    found = check(world(torch.float64), replace(FLOAT32, dtype="float64"))
    assert found.passed
    assert (found.mismatches, found.max_distance, found.free_frames) == (0, 0.0, FRAMES)
    assert found.prompt_agreement == 1
    assert found.max_logit_error < 1e-12


def test_the_yardstick_plays_what_a_session_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, shown = world(torch.float64), list[list[int]]()
    show = candidate.backend.show

    def recorded(rows: Any, actions: Any, tokens: Tensor) -> Any:
        shown.append(tokens[0].tolist())
        return show(rows, actions, tokens)

    monkeypatch.setattr(candidate.backend, "show", recorded)
    check(candidate, replace(FLOAT32, dtype="float64"))
    session = world(torch.float64).session(plan=PLAN)
    session.reset(verify.first_picture(candidate))
    played = [session.row.tokens.tolist()]
    for _ in range(FRAMES):
        session.step(0)  # the script holds its first action for so long
        played.append(session.row.tokens.tolist())
    assert shown[-FRAMES - 1 :] == played


def test_times_are_told_when_asked_for() -> None:
    assert check(world()).ms is None
    found = check(world(), iterations=2)
    assert found.ms is not None and found.yardstick_ms is not None and found.times_faster is not None
    assert min(found.ms, found.yardstick_ms, found.times_faster) > 0


@pytest.mark.parametrize("change", [{"frames": 0}, {"iterations": -1}])
def test_a_comparison_of_nothing_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="frames"):
        compare(world(), world(), FLOAT32, **{"plan": PLAN, "frames": 1} | change)


# --- candidates that are wrong ---------------------------------------------------------------------------


def shifted_ages(candidate: World) -> None:
    """Every key is taken for one frame older or younger than it is."""
    for name, weight in candidate.backend.model.named_parameters():
        if name.startswith("dynamics.") and "age_bias" in name:
            weight.copy_(weight.roll(1, -1))


def other_weights(candidate: World) -> None:
    weight = candidate.backend.model.get_parameter("dynamics.transformer.blocks.1.up.weight")
    weight.mul_(1.01)


def wrapped(candidate: World, method: str, change: Callable[..., Any]) -> None:
    """Has `change(result, rows)` see what a method returns."""
    call = getattr(candidate.backend, method)
    setattr(candidate.backend, method, lambda rows, *a, **o: change(call(rows, *a, **o), rows))


def stale_page(candidate: World) -> None:
    """A commit hands the page of the frame before on again."""

    def stale(done: Any, rows: Any) -> Any:
        return [
            replace(new, dynamics=(old.dynamics[0], *new.dynamics[1:])) if old.dynamics else new
            for new, old in zip(done, rows, strict=True)
        ]

    wrapped(candidate, "commit", stale)


def no_fused_commit(candidate: World) -> None:
    """A frame of a pending row forgets the last frame."""
    frame = candidate.backend.frame

    def forgetful(rows: Any, *arguments: Any, **options: Any) -> Any:
        return frame([replace(row, pending=False) for row in rows], *arguments, **options)

    candidate.backend.frame = forgetful


def stale_decoder_page(candidate: World) -> None:
    def stale(done: Any, rows: Any) -> Any:
        return [
            replace(new, decoder=(old.decoder[0], *new.decoder[1:])) if old.decoder else new
            for new, old in zip(done[0], rows, strict=True)
        ], done[1]

    wrapped(candidate, "show", stale)


def wrong_temperature(candidate: World) -> None:
    probe = candidate.backend.probe

    def warmer(rows: Any, actions: Any, tokens: Any, plan: Plan, pass_index: int) -> Probe:
        return probe(rows, actions, tokens, plan.replace(temperature=plan.temperature * 1.1), pass_index)

    candidate.backend.probe = warmer


def wrong_numbers(candidate: World) -> None:
    """Random numbers of the next pass."""
    probe = candidate.backend.probe
    candidate.backend.probe = lambda *arguments: probe(*arguments[:-1], arguments[-1] + 1)


def zero_logits(candidate: World) -> None:
    wrapped(candidate, "probe", lambda done, rows: replace(done, logits=done.logits * 0))


def tokens_beside(candidate: World) -> None:
    wrapped(candidate, "probe", lambda done, rows: replace(done, candidates=(done.candidates + 1) % 24))


def one_token_outside(candidate: World) -> None:
    def outside(done: Probe, rows: Any) -> Probe:
        candidates = done.candidates.clone()
        candidates[0, 3] = 24
        return replace(done, candidates=candidates)

    wrapped(candidate, "probe", outside)


def nan_logits(candidate: World) -> None:
    def nan(done: Probe, rows: Any) -> Probe:
        logits = done.logits.clone()
        logits[0, 2, 5] = torch.nan
        return replace(done, logits=logits)

    wrapped(candidate, "probe", nan)


def dark_pictures(candidate: World) -> None:
    wrapped(candidate, "show", lambda done, rows: (done[0], done[1] // 2))


MUTATIONS = {
    shifted_ages: "further than",
    other_weights: "further than|off by",
    stale_page: "further than",
    no_fused_commit: "further than",
    stale_decoder_page: "dB",
    wrong_temperature: "further than",
    wrong_numbers: "further than",
    zero_logits: "distribution is off",
    tokens_beside: "further than",
    one_token_outside: "further than",
    nan_logits: "frame 1: the logits are NaN",
    dark_pictures: "dB",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_candidate_that_is_wrong_fails(mutate: Callable[[World], None]) -> None:
    candidate = world()
    mutate(candidate)
    found = check(candidate)
    assert not found.passed and found.failure is not None
    assert any(text in found.failure for text in MUTATIONS[mutate].split("|")), found.failure


def test_a_candidate_whose_pixels_are_not_finite_fails() -> None:
    candidate = world()
    candidate.backend.model.get_parameter("tokenizer.patch_out.weight")[0, 0] = torch.nan
    with pytest.raises(DeviceError):
        candidate.session(plan=PLAN).reset(verify.first_picture(candidate))
    found = check(candidate)
    assert found.failure is not None and "tokenizer's decoder" in found.failure


def test_in_float64_no_token_may_differ() -> None:
    candidate = world(torch.float64)

    def flip(done: Probe, rows: Any) -> Probe:
        candidates = done.candidates.clone()
        candidates[0, 0] = (candidates[0, 0] + 1) % 24
        return replace(done, candidates=candidates)

    wrapped(candidate, "probe", flip)
    found = check(candidate, replace(FLOAT32, dtype="float64"))
    assert found.failure == f"{FRAMES * 3} tokens differ, in float64 none may"


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "tiny"
    write_bundle(
        out, name="tiny", config=CONFIG, weights=make_model(CONFIG).state_dict(), action_names=ACTIONS,
        default_action="stay", plans={"default": PLAN}, prompts=list(make_pictures(CONFIG, 1)), provenance={},
        model_card="# tiny\n",
    )  # fmt: skip
    return out


def test_a_bundle_without_graphs_says_how_to_write_them(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(bundle), "--backend", "onnx"]) == 1
    assert "genie-rt export BUNDLE --out NEW --onnx" in capsys.readouterr().err


def test_verify_tells_all_that_it_compared(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.json"
    words = ["verify", str(bundle), "--frames", "4", "--iterations", "1", "--json", str(path)]
    assert main(words) == 0
    record = read_record(path, VerifyBody)
    body = record.body
    assert [row.variant for row in body.rows] == runnable(variants("cpu"))[0]
    assert (body.frames, body.plan, body.subject.dtype) == (4, PLAN, "float64")
    assert record.header.command == f"genie-rt verify {bundle} --frames 4 --iterations 1"
    printed = capsys.readouterr().out
    for text in ("against reference float64", "float32", "bfloat16", "tokens that differ", "PSNR", "verdict",
                 "frames played", "free run agrees", "times faster"):  # fmt: skip
        assert text in printed
    assert "FAILED" not in printed


def test_verify_fails_where_a_candidate_does(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = World.load

    def broken(source: str, **options: Any) -> World:
        loaded = load(source, **options)
        if options["dtype"] == "float32":
            stale_page(loaded)
        return loaded

    monkeypatch.setattr(World, "load", broken)
    words = ["verify", str(bundle), "--frames", "4", "--iterations", "0"]
    assert main([*words, "--dtype", "bfloat16"]) == 0
    assert main([*words, "--dtype", "float32"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed and "reference float32 cpu: " in printed
    assert "times faster" not in printed


def test_a_token_of_no_codebook_is_told_in_json_that_others_can_read(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = World.load

    def broken(source: str, **options: Any) -> World:
        loaded = load(source, **options)
        if options["dtype"] == "float32":
            one_token_outside(loaded)
        return loaded

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    monkeypatch.setattr(World, "load", broken)
    path = tmp_path / "v.json"
    words = ["verify", str(bundle), "--frames", "1", "--iterations", "0", "--dtype", "float32"]
    assert main([*words, "--backend", "reference", "--json", str(path)]) == 1
    assert "no token" in capsys.readouterr().out
    json.loads(path.read_text(), parse_constant=refused)
    (row,) = read_record(path, VerifyBody).body.rows
    assert row.max_distance is None and row.mismatches > 0


def test_a_record_from_before_frames_were_played_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(verify.__file__).parents[1] / "results"
    print_parity(console(), read_record(results / "demo-cpu-verify.json", VerifyBody))
    printed = capsys.readouterr().out
    assert "verdict" in printed


def test_a_bound_that_says_little_is_told(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", str(bundle), "--frames", "1", "--iterations", "0", "--temperature", "0.05"]
    main([*words, "--dtype", "bfloat16"])
    assert "bfloat16 at temperature 0.05 may move a distribution by" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle), "--dtype", "int3"]) == 1
    assert "cpu has reference float32, reference bfloat16" in capsys.readouterr().err
    assert main(["verify", "no such bundle"]) == 1
    with pytest.raises(BundleError):
        World.load("no such bundle")
