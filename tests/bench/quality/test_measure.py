"""The grid of plans, what one plan makes of clips, and what that comes to."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from makers import make_config, make_world

from genie_rt.bench.quality.measure import (
    Batch,
    Outcome,
    Protocol,
    Truth,
    copying,
    judge,
    measure_plan,
    plan_grid,
    plan_name,
    prepare,
    same_function,
    true_figures,
)
from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clip_distance import FrameFeatures, Reference
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.likelihood import negative_log_likelihood
from genie_rt.training.evaluation.metrics import decibels, squared_errors
from genie_rt.training.evaluation.rollout import ModelRollouts

CONFIG = make_config(grid=(4, 6), window=2, merge=2)
PROTOCOL = Protocol(window=2, num_actions=3, prompt_frames=1)
BASE = Plan(temperature=0.7, threshold=0.3)


def make_clips(num: int = 5) -> TrueClips:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (num, PROTOCOL.clip_length, 8, 12, 3), dtype=np.uint8)
    frames[0, 2:] = frames[0, 2]  # one that stands still
    actions = random.integers(0, 3, frames.shape[:2])
    actions[:, 0] = -1
    return TrueClips(frames=frames, actions=actions, action_names=("a", "b", "c"), origin={})


@pytest.fixture(scope="module")
def rollouts() -> ModelRollouts:
    return ModelRollouts(make_world(CONFIG))


@pytest.fixture(scope="module")
def features() -> FrameFeatures:
    return FrameFeatures(8, 12)


@pytest.fixture(scope="module")
def batches(rollouts: ModelRollouts) -> list[Batch]:
    return prepare(rollouts, make_clips(), PROTOCOL, batch=3)


@pytest.fixture(scope="module")
def truth(rollouts: ModelRollouts, features: FrameFeatures) -> Truth:
    return true_figures(rollouts.model, make_clips(), PROTOCOL, features, batch=4)


def assert_equal(one: Outcome, other: Outcome) -> None:
    for field in dataclasses.fields(Outcome):
        np.testing.assert_array_equal(
            getattr(one, field.name), getattr(other, field.name), err_msg=field.name
        )


def test_the_grid_has_every_plan_that_makes_sense_cheap_ones_first() -> None:
    plans = plan_grid(BASE, make_config(grid=(16, 16), merge=2))
    assert [plan_name(plan) for plan in plans[:12]] == [
        *(f"{order}-k1" for order in ORDERS),
        *(f"{order}-k2" for order in ORDERS),
        "random-k2-passes",
        "halton-k2-passes",
        "maskgit-k2-frames",
        "maskgit-k4",
    ]
    assert len(plans) == len(set(plans)) == 6 * 4 + 5 * 3
    assert [plan.passes for plan in plans] == sorted(plan.passes for plan in plans)
    assert {(plan.temperature, plan.threshold) for plan in plans} == {(0.7, 0.3)}


def test_a_grid_of_chosen_plans() -> None:
    plans = plan_grid(BASE, CONFIG, orders=["halton"], passes=[4, 1], reuses=["passes", "none"])
    assert [plan_name(plan) for plan in plans] == ["halton-k1", "halton-k4-passes", "halton-k4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orders": ["best"]}, "order"),
        ({"reuses": ["all"]}, "reuse"),
        ({"passes": [25]}, "24, the tokens"),
        ({"passes": [7], "reuses": ["passes"], "orders": ["halton"]}, "6, the positions"),
    ],
)
def test_plans_that_the_model_cannot_decode_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_grid(BASE, CONFIG, **change)


def test_with_one_pass_all_orders_are_the_same_function(
    rollouts: ModelRollouts, batches: list[Batch], features: FrameFeatures
) -> None:
    plans = plan_grid(BASE, CONFIG, passes=[1], reuses=["none"])
    assert {same_function(plan) for plan in plans} == {BASE.replace(order="maskgit", passes=1)}
    outcomes = [measure_plan(rollouts, batches, plan, PROTOCOL, features) for plan in plans]
    for other in outcomes[1:]:
        assert_equal(outcomes[0], other)


def test_with_two_passes_the_orders_differ(
    rollouts: ModelRollouts, batches: list[Batch], features: FrameFeatures
) -> None:
    plans = plan_grid(BASE, CONFIG, passes=[2], reuses=["none"])
    assert [same_function(plan) for plan in plans] == plans
    outcomes = [measure_plan(rollouts, batches, plan, PROTOCOL, features) for plan in plans]
    assert len({outcome.squared.tobytes() for outcome in outcomes}) == 4


@pytest.mark.parametrize(
    "plan",
    [
        BASE.replace(order="adaptive", passes=4),
        BASE.replace(order="halton", passes=4, reuse="passes"),
        BASE.replace(order="maskgit", passes=3, reuse="frames"),
    ],
    ids=plan_name,
)
def test_an_outcome_is_what_sessions_show(
    plan: Plan, rollouts: ModelRollouts, batches: list[Batch], features: FrameFeatures
) -> None:
    """Clip 4 played alone, frame by frame, in sessions; it lies in the second batch."""
    done: list[int] = []
    outcome = measure_plan(rollouts, batches, plan, PROTOCOL, features, done.append)
    assert done == [3, 2]
    world, clips = make_world(CONFIG), make_clips()
    frames, actions = clips.frames[4], clips.actions[4]
    session = world.session(seed=4, plan=plan)

    def after(seen: int) -> None:
        session.reset(frames[:seen], actions[1:seen].tolist())

    after(1)
    shown, passes, tokens = [], [], []
    for action in actions[1 : 1 + PROTOCOL.num_steps].tolist():
        shown.append(session.step(action))
        passes.append(session.stats.passes)
        tokens.append(session.stats.tokens)
    expected = squared_errors(np.stack(shown), frames[1 : 1 + PROTOCOL.num_steps]).mean
    np.testing.assert_allclose(outcome.squared[4], expected[[t - 1 for t in PROTOCOL.steps]])
    assert outcome.rollout_passes[4] == pytest.approx(np.mean(passes))
    for column, seen in enumerate(PROTOCOL.seen):
        after(seen)
        step = session.step(int(actions[seen]))
        assert outcome.next_squared[4, column] == pytest.approx(
            squared_errors(step[None], frames[seen][None]).mean[0]
        )
        assert outcome.passes[4, column] == session.stats.passes
        in_rollout = np.mean(tokens[1:])  # the first frame of either has nothing of a frame before to reuse
        wanted = in_rollout if plan.reuse == "frames" else session.stats.tokens
        assert outcome.tokens[4, column] == pytest.approx(wanted)
    after(1)
    for action in batches[1].drawn[1].tolist():
        last = session.step(action)
    assert outcome.random[4] == pytest.approx(squared_errors(last[None], frames[4][None]).mean[0])


def test_likelihood_stands_where_nothing_is_reused(
    rollouts: ModelRollouts, batches: list[Batch], features: FrameFeatures
) -> None:
    plan = BASE.replace(order="halton", passes=3)
    outcome = measure_plan(rollouts, batches, plan, PROTOCOL, features)
    first = batches[0]
    for column, seen in enumerate(PROTOCOL.seen):
        actions, tokens = first.actions[:, seen].tolist(), first.tokens[:, seen]
        rows = first.seen[column]
        nats = negative_log_likelihood(rollouts.backend, CONFIG, rows, actions, tokens, plan)
        np.testing.assert_array_equal(outcome.nll[:3, column], nats.numpy())
    reused = measure_plan(rollouts, batches, plan.replace(reuse="passes"), PROTOCOL, features)
    assert np.isnan(reused.nll).all()


def test_batches_do_not_change_an_outcome(
    rollouts: ModelRollouts, batches: list[Batch], features: FrameFeatures
) -> None:
    plan = BASE.replace(order="maskgit", passes=2)
    other = prepare(rollouts, make_clips(), PROTOCOL, batch=5)
    one, two = (measure_plan(rollouts, part, plan, PROTOCOL, features) for part in (batches, other))
    np.testing.assert_array_equal(one.squared, two.squared)
    np.testing.assert_allclose(one.nll, two.nll, rtol=1e-9)
    np.testing.assert_allclose(one.descriptors, two.descriptors, rtol=1e-3, atol=1e-3)


def test_the_truth_is_that_of_the_clips(truth: Truth) -> None:
    true = make_clips().frames
    assert PROTOCOL.steps == (1, 4, 8) and PROTOCOL.clip_length == 9
    np.testing.assert_allclose(truth.copied[:, 1], squared_errors(true[:, 0], true[:, 4]).mean)
    # after 2 frames clip 0 still changes, after 4 no more
    assert truth.moving.tolist() == [[True, False], *[[True, True]] * 4]
    assert truth.descriptors.shape == truth.tokenized.shape == truth.frozen.shape
    third = truth.frozen.shape[-1] // 3
    np.testing.assert_allclose(truth.frozen[..., third:], 0, atol=1e-4)  # neither spread nor change
    assert copying(truth, PROTOCOL)[1].pooled == pytest.approx(float(decibels(truth.copied[:, 1].mean())))


def test_figures_follow_from_an_outcome(truth: Truth) -> None:
    random = np.random.default_rng(0)
    outcome = Outcome(
        squared=np.array([[100.0, 400.0, 900.0]] * 5),
        random=np.array([800.0] * 5),
        gradient=truth.gradient / 2,
        change=truth.change * 3,
        next_squared=np.array([[50.0, 1000.0], *[[50.0, 150.0]] * 4]),
        nll=np.array([[2.0, 3.0], [4.0, 3.0], [3.0, 3.0], [3.0, 3.0], [3.0, 3.0]]),
        passes=np.array([[4.0, 1.0], *[[4.0, 4.0]] * 4]),
        tokens=np.full((5, 2), 30.0),
        rollout_passes=np.full(5, 2.5),
        descriptors=random.normal(size=truth.descriptors.shape).astype(np.float32),
    )
    many = random.normal(size=(20, *truth.descriptors.shape[1:])).astype(np.float32)
    reference = Reference.fit(many)
    quality = judge(outcome, truth, reference, PROTOCOL)
    assert [item.t for item in quality.psnr] == [1, 4, 8]
    assert quality.psnr_at(4) == pytest.approx(10 * np.log10(255**2 / 400))
    assert quality.delta.pooled == quality.delta.mean == pytest.approx(10 * np.log10(2))
    assert quality.delta_error == pytest.approx(0)
    assert (quality.sharpness, quality.motion) == (
        pytest.approx(0.5),
        pytest.approx(3.0 if truth.change.sum() else None),
    )
    assert quality.nll == (pytest.approx(3.0), pytest.approx(3.0))
    assert quality.nll_error == pytest.approx(np.std([2.5, 3.5, 3, 3, 3], ddof=1) / 5**0.5)
    assert (quality.passes_static, quality.passes_moving, quality.passes) == (1.0, 4.0, pytest.approx(3.7))
    assert quality.next_psnr == pytest.approx(float(decibels((250 + 1000 + 600) / 10)))
    assert quality.next_moving_psnr == pytest.approx(float(decibels((250 + 600) / 9)))
    assert quality.distance == reference.distance(outcome.descriptors)
    assert quality.distance_noise > 0
    assert (
        judge(dataclasses.replace(outcome, nll=outcome.nll * np.nan), truth, reference, PROTOCOL).nll is None
    )


def test_clips_that_are_too_short_are_refused(rollouts: ModelRollouts) -> None:
    clips = make_clips()
    short = dataclasses.replace(clips, frames=clips.frames[:, :8], actions=clips.actions[:, :8])
    with pytest.raises(InputError, match="9 frames or more, found 8"):
        prepare(rollouts, short, PROTOCOL, batch=3)


def test_a_window_of_one_frame_can_be_measured(features: FrameFeatures) -> None:
    config: ModelConfig = make_config(grid=(4, 6), window=1)
    protocol = dataclasses.replace(PROTOCOL, window=1)
    assert protocol.steps == (1, 2, 4)
    rollouts, clips = ModelRollouts(make_world(config)), make_clips(2)
    part = prepare(rollouts, clips, protocol, batch=2)
    outcome = measure_plan(rollouts, part, BASE.replace(passes=2), protocol, features)
    assert np.isfinite(outcome.squared).all() and outcome.descriptors.shape[:2] == (2, 2)
