"""What a session plays is what passes compute; a frame that is wrong in any single way is found out."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from makers import decision_order, make_config, make_world
from torch import Tensor

from genie_rt.bench.parity.bounds import may_differ
from genie_rt.bench.parity.played import other_plans, surely_chosen
from genie_rt.bench.parity.verify import OTHER_FRAMES, Parity, Variant, compare
from genie_rt.kernels.maskgit_sample.reference import gumbel, sample
from genie_rt.runtime.backends.decode_loop import ProbedPasses
from genie_rt.runtime.backends.protocol import Probe
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CONFIG = make_config(window=4, decoder_window=3)
PLAN = Plan(passes=3, temperature=0.7)
PLANS = {
    "default": PLAN,
    "ordered": Plan(order="halton", passes=4),
    "sparing": Plan(order="adaptive", passes=3),
}
FRAMES = 6
CODES = CONFIG.tokenizer.codebook_size
TOKENS = CONFIG.tokenizer.num_tokens


def world(dtype: torch.dtype = torch.float32) -> World:
    made = make_world(CONFIG, dtype=dtype)
    return World(replace(made.bundle, plans=PLANS), made.backend, made.dtype)


def check(candidate: World, dtype: str = "float32", plan: Plan = PLAN) -> Parity:
    variant = Variant(backend="reference", dtype=dtype, device="cpu")
    return compare(world(torch.float64), candidate, variant, plan=plan, frames=FRAMES)


@pytest.mark.parametrize(
    "plan", [*PLANS.values(), Plan(passes=2, order="random")], ids=lambda plan: plan.order
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_right_frames_pass_in_all_plans(dtype: str, plan: Plan) -> None:
    found = check(world(getattr(torch, dtype)), dtype, plan)
    assert found.failure is None
    others = [other for other in PLANS.values() if other != plan]
    assert [played.plan for played in found.played[: 1 + len(others)]] == [plan, *others]
    assert [played.plan.reuse for played in found.played[1 + len(others) :]] == ["passes", "frames"]
    assert [played.frames for played in found.played] == [FRAMES] + [OTHER_FRAMES] * (2 + len(others))
    if dtype != "bfloat16":
        assert all(played.mismatches == 0 and played.judged == played.tokens for played in found.played)


def test_every_kind_of_reuse_is_played_once() -> None:
    reusing = Plan(order="random", passes=2, reuse="passes")
    found = other_plans({"default": PLAN, "own": reusing}, PLAN, CONFIG)
    assert found == {"own": reusing, "reuse of frames": PLAN.replace(reuse="frames")}
    once = other_plans({}, Plan(passes=1, order="random"), CONFIG)
    assert [(plan.order, plan.passes) for plan in once.values()] == [("random", 2), ("maskgit", 2)]
    most = other_plans({}, Plan(passes=TOKENS + 1), CONFIG)["reuse of passes"]
    assert most.passes == CONFIG.num_positions


# --- frames that are wrong -------------------------------------------------------------------------------


def changed(
    candidate: World,
    change: Callable[[Any, Tensor | None, Any], tuple[Any, Tensor | None, Any]],
    where: Callable[[Plan], bool] = lambda plan: True,
) -> None:
    """Has frames with a picture, as sessions play them, come out otherwise."""
    frame = candidate.backend.frame

    def played(rows: Any, actions: Any, plan: Plan, *, decode: bool = True) -> Any:
        done = frame(rows, actions, plan, decode=decode)
        return change(*done) if decode and where(plan) else done

    candidate.backend.frame = played  # type: ignore[method-assign]


def with_tokens(rows: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return [replace(row, tokens=change(row.tokens)) for row in rows]


def black(candidate: World) -> None:
    changed(candidate, lambda rows, pictures, stats: (rows, pictures * 0, stats))


def shuffled(candidate: World) -> None:
    changed(candidate, lambda rows, *rest: (with_tokens(rows, lambda tokens: tokens.roll(1)), *rest))


def shuffled_and_shown(candidate: World) -> None:
    """The picture is that of the shuffled tokens."""
    frame, show = candidate.backend.frame, candidate.backend.show

    def played(rows: Any, actions: Any, plan: Plan, *, decode: bool = True) -> Any:
        new, pictures, stats = frame(rows, actions, plan, decode=decode)
        if decode:
            rolled = torch.stack([row.tokens.roll(1) for row in new])
            shown, pictures = show(rows, actions, rolled)
            new = [replace(row, dynamics=own.dynamics) for row, own in zip(shown, new, strict=True)]
        return new, pictures, stats

    candidate.backend.frame = played  # type: ignore[method-assign]


def undecided(candidate: World) -> None:
    changed(candidate, lambda rows, *rest: (with_tokens(rows, lambda tokens: tokens * 0 - 1), *rest))


def one_code_too_many(candidate: World) -> None:
    def outside(tokens: Tensor) -> Tensor:
        return torch.where(torch.arange(len(tokens)) == 3, CODES, tokens)

    changed(candidate, lambda rows, *rest: (with_tokens(rows, outside), *rest))


def no_pass(candidate: World) -> None:
    changed(candidate, lambda *made: (*made[:2], [replace(stats, passes=0) for stats in made[2]]))


def a_pass_too_many(candidate: World) -> None:
    changed(candidate, lambda *made: (*made[:2], [replace(item, passes=item.passes + 1) for item in made[2]]))


def played_with(candidate: World, **changes: object) -> None:
    """Frames with a picture are those of another plan."""
    frame = candidate.backend.frame

    def played(rows: Any, actions: Any, plan: Plan, *, decode: bool = True) -> Any:
        return frame(rows, actions, plan.replace(**changes) if decode else plan, decode=decode)

    candidate.backend.frame = played  # type: ignore[method-assign]


def no_noise(candidate: World) -> None:
    played_with(candidate, noise=0.0)


def warmer(candidate: World) -> None:
    played_with(candidate, temperature=0.75)


def stale_dynamics_page(candidate: World) -> None:
    changed(
        candidate,
        lambda rows, *rest: ([replace(row, dynamics=row.dynamics[-1:] * 3) for row in rows], *rest),
    )


def stale_decoder_page(candidate: World) -> None:
    changed(
        candidate, lambda rows, *rest: ([replace(row, decoder=row.decoder[-1:] * 2) for row in rows], *rest)
    )


def other_plan_shuffled(candidate: World) -> None:
    changed(
        candidate,
        lambda rows, *rest: (with_tokens(rows, lambda tokens: tokens.roll(1)), *rest),
        where=lambda plan: plan == PLANS["ordered"],
    )


def shuffled_where_passes_are_reused(candidate: World) -> None:
    changed(
        candidate,
        lambda rows, *rest: (with_tokens(rows, lambda tokens: tokens.roll(1)), *rest),
        where=lambda plan: plan.reuse == "passes",
    )


def shuffled_where_frames_are_reused(candidate: World) -> None:
    changed(
        candidate,
        lambda rows, *rest: (with_tokens(rows, lambda tokens: tokens.roll(1)), *rest),
        where=lambda plan: plan.reuse == "frames",
    )


MUTATIONS = {
    black: "playing 'default': the pictures agree",
    shuffled: "playing 'default': .* further than",
    shuffled_and_shown: "playing 'default': .* further than",
    undecided: "frame 1: playing 'default': expected tokens from 0 to 23, found 15 others",
    one_code_too_many: "found 1 others",
    no_pass: "frame 1: playing 'default': expected 3 to 3 passes, found 0",
    a_pass_too_many: "frame 1: playing 'default': expected 3 to 3 passes, found 4",
    no_noise: "playing 'default': .* further than",
    warmer: "playing 'default': .* further than",
    stale_dynamics_page: "playing 'default': .* further than",
    stale_decoder_page: "playing 'default': the pictures agree",
    other_plan_shuffled: "playing 'ordered': .* further than",
    shuffled_where_passes_are_reused: "playing 'reuse of passes'",
    shuffled_where_frames_are_reused: "playing 'reuse of frames'",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_frame_that_is_wrong_is_found_out(mutate: Callable[[World], None]) -> None:
    candidate = world()
    mutate(candidate)
    found = check(candidate)
    assert found.failure is not None
    assert re.search(MUTATIONS[mutate], found.failure), found.failure


@pytest.mark.parametrize("mutate", [black, shuffled, shuffled_and_shown, undecided], ids=lambda m: m.__name__)
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_no_number_format_excuses_garbage(dtype: str, mutate: Callable[[World], None]) -> None:
    candidate = world(getattr(torch, dtype))
    mutate(candidate)
    found = check(candidate, dtype)
    assert found.failure is not None and "playing 'default'" in found.failure


def test_more_may_differ_where_passes_do() -> None:
    assert may_differ(0) == 0.25
    assert may_differ(0.05) == pytest.approx(0.45)


# --- which tokens a pass decides -------------------------------------------------------------------------


def first_pass(plan: Plan, seed: int = 5) -> tuple[ProbedPasses, Probe]:
    logits = torch.randn(1, TOKENS, CODES, generator=torch.Generator().manual_seed(0)).double() * 3
    keys = torch.tensor([seed]), torch.tensor([1])
    passes = ProbedPasses(plan, CONFIG, *keys, lambda tokens, k: logits)
    return passes, Probe(logits=logits, candidates=sample(logits, passes.u[0], plan.temperature)[0])


def decided(passes: ProbedPasses, logits: Tensor) -> Tensor:
    """Tokens after a first pass that gives these logits."""
    plan = passes.plan
    among = None
    if plan.static_order is not None:
        among = decision_order(plan, CONFIG, torch.tensor([5]), torch.tensor([1]))
        among = among[:, : plan.decided_after(0, TOKENS)]
    return passes.sample(0, logits, passes.masked(), among, ranked=among is None)


def judged(passes: ProbedPasses, probe: Probe, *, near: float, off: float) -> tuple[Tensor, Tensor, bool]:
    """The tokens after a first pass, and what `surely_chosen` says of it."""
    after = decided(passes, probe.logits)
    noise = None
    if passes.plan.static_order is None:
        noise = float(passes.schedule.noise[0, 0]) * gumbel(passes.noise_u[0])
    masked = passes.masked()
    sure = surely_chosen(passes.plan, 0, masked, after, probe, passes.u[0], noise, near=near, off=off)
    return after, *sure


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.order)
def test_without_rounding_all_that_is_decided_is_sure(plan: Plan) -> None:
    after, chosen, is_clear = judged(*first_pass(plan), near=0, off=0)
    assert is_clear and torch.equal(chosen, after >= 0)
    assert 0 < int(chosen.sum()) < TOKENS


@pytest.mark.parametrize("order", ["maskgit", "adaptive"])
def test_what_rounding_may_change_is_not_sure(order: str) -> None:
    """Whatever logits that are this much off lead to holds all that is said to be sure."""
    plan, error = Plan(order=order, passes=3, temperature=0.7, threshold=0.6), 0.02
    generator = torch.Generator().manual_seed(1)
    moved = 0
    for seed in range(20):
        passes, probe = first_pass(plan, seed)
        near = error / plan.temperature
        _, chosen, is_clear = judged(passes, probe, near=near, off=2 * near)
        noise = (torch.rand(30, *probe.logits.shape, generator=generator).double() * 2 - 1) * error
        found = [decided(passes, probe.logits + each) >= 0 for each in noise]
        assert not any((chosen & ~some).any() for some in found)
        differ = any(not torch.equal(some, found[0]) for some in found)
        assert not (differ and is_clear)
        moved += differ
    assert moved


def test_the_last_pass_decides_all_that_is_left() -> None:
    _, chosen, is_clear = judged(*first_pass(Plan(passes=1)), near=0.5, off=9.0)
    assert is_clear and chosen.all()
