"""Batched rollouts are what sessions give, one by one."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_config, make_model, make_pictures, make_world

from genie_rt.errors import DeviceError, UnsupportedError
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.definition import definition_of, encoded, restored
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


@pytest.mark.parametrize("seen", [1, 5])
def test_sessions_start_as_they_do_at_play(seen: int) -> None:
    """On another back end, whose own tokenizer takes the prompt in."""
    config = make_config(window=3)
    cuda = CudaBackend(make_model(config), Precision.of("bfloat16"), torch.device("cpu"))
    world = World(make_world(config).bundle, cuda, "bfloat16")
    rollouts = ModelRollouts(world, make_model(config, seed=1))  # whose tokens are none of the world's
    frames = np.stack([make_pictures(config, seen, seed) for seed in range(2)])
    actions, later = np.ones((2, seen), np.int64), np.array([[2, 0, 1], [1, 1, 0]])
    rows, last = rollouts.start(frames, actions, [5, 6])
    shown = rollouts.play(rows, later, PLAN)
    for clip, seed in enumerate((5, 6)):
        session = world.session(seed=seed, plan=PLAN)
        np.testing.assert_array_equal(last[clip], session.reset(frames[clip], actions[clip, 1:].tolist()))
        for step, action in enumerate(later[clip].tolist()):
            np.testing.assert_array_equal(shown[clip, step], session.step(action))


def test_a_nan_in_the_last_step_is_not_passed_over() -> None:
    """The `cuda` back end tells of it in the next call alone."""
    config = make_config(window=3)
    cuda = CudaBackend(make_model(config, dtype=torch.float32), Precision.of("float32"), torch.device("cpu"))
    rollouts = ModelRollouts(World(make_world(config).bundle, cuda, "float32"), make_model(config))
    rows, _ = rollouts.start(make_pictures(config, 2)[None], np.zeros((1, 2), np.int64), [0])
    with torch.inference_mode():
        cuda.model.tokenizer.decoder_position[:] = torch.nan
    with pytest.raises(DeviceError, match="NaN"):
        rollouts.play(rows, np.zeros((1, 1), np.int64), PLAN)


def test_the_definition_beside_another_back_end_is_the_bundle_s() -> None:
    reference = World.load("demo", backend="reference")
    foreign: Any = SimpleNamespace(definition=None, device=torch.device("cpu"))
    own, read = definition_of(reference), definition_of(World(reference.bundle, foreign, "int8"))
    frames = np.stack([make_pictures(reference.bundle.config, 2)])
    assert torch.equal(encoded(own, frames), encoded(read, frames))
    np.testing.assert_array_equal(restored(own, frames), restored(read, frames))
    assert all(weight.is_meta for weight in read.dynamics.parameters())


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
