"""Batched rollouts are what sessions give, one by one."""

import dataclasses

import numpy as np
import pytest
from makers import make_config, make_pictures, make_world

from genie_rt.errors import UnsupportedError
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.rollout import ModelRollouts

PLAN = Plan(passes=3)


@pytest.mark.parametrize("seen", [1, 2, 5, 6])
@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(order="halton", passes=3, reuse="passes"),
        Plan(passes=3, reuse="frames"),
    ],
    ids=lambda plan: plan.order,
)
def test_batched_rollouts_equal_sessions(seen: int, plan: Plan) -> None:
    config = make_config(window=4, encoder_window=2, decoder_window=3)
    world = make_world(config)
    frames = np.stack([make_pictures(config, 7, seed) for seed in range(3)])
    actions = np.random.default_rng(0).integers(0, 3, (3, 7))
    later = np.random.default_rng(1).integers(0, 3, (3, 6))
    rollouts = ModelRollouts(world)
    prompted = rollouts.prompt(frames, actions, [seen, 7], [5, 6, 7])
    shown = rollouts.play(prompted.rows[seen], later, plan)
    assert shown.shape == (3, 6, *world.output_size, 3) and shown.dtype == np.uint8
    for clip, seed in enumerate((5, 6, 7)):
        session = world.session(seed=seed, plan=plan)
        last = session.reset(frames[clip, :seen], actions[clip, 1:seen].tolist())
        np.testing.assert_array_equal(prompted.frames[clip, seen - 1], last)
        for step, action in enumerate(later[clip].tolist()):
            np.testing.assert_array_equal(shown[clip, step], session.step(action))


def test_neither_actions_nor_frames_given_are_changed() -> None:
    config = make_config(window=2)
    frames, actions = make_pictures(config, 4)[None], np.array([[2, 0, 1, 2]])
    ModelRollouts(make_world(config)).prompt(frames, actions, [4], [0])
    assert actions.tolist() == [[2, 0, 1, 2]]
    np.testing.assert_array_equal(frames, make_pictures(config, 4)[None])


def test_pages_return_to_the_pool() -> None:
    config = make_config(window=4)
    world = make_world(config)
    rollouts = ModelRollouts(world)
    prompted = rollouts.prompt(make_pictures(config, 6)[None], np.zeros((1, 6), np.int64), [3, 6], [0])
    held = 6  # frames 0 to 2 and 3 to 5
    assert rollouts.backend.dynamics_pages.num_used == held
    rollouts.play(prompted.rows[6], np.zeros((1, 9), np.int64), PLAN)
    assert rollouts.backend.dynamics_pages.num_used == held
    del prompted
    assert rollouts.backend.dynamics_pages.num_used == 0


def test_a_world_with_larger_frames_than_its_pictures_is_refused() -> None:
    config = make_config()
    tokenizer = dataclasses.replace(config.tokenizer, decoder_patch=4)
    with pytest.raises(UnsupportedError, match="6x10, found 12x20"):
        ModelRollouts(make_world(dataclasses.replace(config, tokenizer=tokenizer)))
