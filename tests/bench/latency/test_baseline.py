"""The baseline computes what the paper's recipe does."""

import numpy as np
import pytest
import torch
from makers import (
    make_actions,
    make_config,
    make_pictures,
    make_world,
)
from naive import naive_rollout

from genie_rt.bench.latency import workloads
from genie_rt.bench.latency.baseline import RecomputedRollout
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.plan import Plan

PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=5, threshold=0.3),
    "random": Plan(order="random", passes=3),
    "halton": Plan(order="halton", passes=4, temperature=0.8),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("known", [1, 6])
def test_the_baseline_is_the_papers_recipe(window: int, known: int, plan: Plan) -> None:
    config = make_config(window=window)
    backend = make_world(config).backend
    prompt, actions = torch.from_numpy(make_pictures(config, known)), make_actions(known + 6)
    expected = naive_rollout(backend.model, prompt, actions, plan, 5, last=window)
    tokens, _ = backend.model.tokenizer.encode(prompt[None], causal_ages(known, window))
    rollout = RecomputedRollout(
        backend.model, tokens[0], [-1, *actions[: known - 1]], known - 1, plan=plan, seed=5
    )
    for action, wanted in zip(actions[known - 1 :], expected, strict=True):
        picture = rollout.step(action)
        assert torch.equal(rollout.tokens[0, -1], wanted.tokens)
        assert picture.shape == tuple(wanted.picture.shape) and picture.dtype == np.uint8
        passes, num_frames = len(wanted.logits), rollout.tokens.shape[1]
        assert rollout.stats == FrameStats(passes=passes, tokens=passes * num_frames * 15)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_baseline_decides_as_a_session_does(plan: Plan, seed: int) -> None:
    world = make_world(make_config(window=4))
    session = world.session(plan=plan, seed=seed)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    row = session.row
    rollout = RecomputedRollout(
        world.backend.model, row.tokens[None], [row.action], row.frame_index, plan=plan, seed=seed
    )
    for action in (0, 2, 1):  # as long as the window is not full the two are one function
        rollout.step(action)
        session.step(action)
        assert torch.equal(rollout.tokens[0, -1], session.row.tokens)
        assert session.stats is not None and rollout.stats is not None
        assert rollout.stats.passes == session.stats.passes


def test_the_baseline_recomputes_a_full_window_and_decodes_its_own() -> None:
    world = make_world(make_config(window=4, decoder_window=2))
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    past = workloads.Past.fill(session)
    seen: list[tuple[str, int]] = []
    model = world.backend.model
    for name, module in (("dynamics", model.dynamics.transformer), ("decoder", model.tokenizer.decoder)):
        module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[0].shape[1])))
    past.recomputed(Plan(passes=2), model).candidate.run()
    assert seen == [("dynamics", 4), ("dynamics", 4), ("decoder", 2)]
