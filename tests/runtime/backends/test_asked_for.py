"""Frames of the reference back end do not depend on how they are asked for, in any of its number formats."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_actions, make_config, make_pictures, make_world
from torch import Tensor

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
LED_BY = make_actions(10)
PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=4),
    "halton": Plan(order="halton", passes=4, reuse="passes"),
    "frames": Plan(passes=2, reuse="frames"),
}


@cache
def world_of(dtype: torch.dtype, window: int, merge: int) -> World:
    config = make_config(grid=(6, 10), window=window, merge=merge, width=32, num_heads=4, head_width=16)
    return make_world(config, dtype=dtype)


def started(world: World, plan: Plan) -> Session:
    session = world.session(seed=7, plan=plan)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    return session


def after_a_commit(session: Session, action: int) -> np.ndarray:
    session.commit()
    return session.step(action)


def after_a_peek(session: Session, action: int) -> np.ndarray:
    session.peek()
    return session.step(action)


def after_a_peek_at_others(session: Session, action: int) -> np.ndarray:
    session.peek([other for other in range(len(ACTIONS)) if other != action])
    return session.step(action)


def after_a_commit_and_a_peek(session: Session, action: int) -> np.ndarray:
    session.commit()
    session.peek()
    return session.step(action)


def after_a_step_undone(session: Session, action: int) -> np.ndarray:
    moment = session.snapshot()
    session.step((action + 1) % len(ACTIONS))
    session.restore(moment)
    return session.step(action)


def in_turn(session: Session, action: int) -> np.ndarray:
    ways = (after_a_commit, after_a_peek, Session.step, after_a_commit_and_a_peek, after_a_step_undone)
    return ways[session.frame_index % len(ways)](session, action)


def kept(session: Session) -> dict[str, Tensor]:
    """Every number that the future depends on, pages included, as tensors."""
    session.commit()
    return session.world.backend.save_row(session.row)


@DTYPES
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("window", "merge"), [(4, 2), (1, 1)])
def test_frames_and_pages_are_the_same_to_the_bit(
    dtype: torch.dtype, plan: str, window: int, merge: int
) -> None:
    world = world_of(dtype, window, merge)
    ways: list[Callable[[Session, int], np.ndarray]] = [
        after_a_commit, after_a_peek, after_a_peek_at_others, after_a_commit_and_a_peek,
        after_a_step_undone, in_turn,
    ]  # fmt: skip
    plain = started(world, PLANS[plan])
    expected = [plain.step(action) for action in LED_BY]
    pages = kept(plain)
    for way in ways:
        session = started(world, PLANS[plan])
        found = [way(session, action) for action in LED_BY]
        assert [np.array_equal(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(LED_BY)
        for name, x in kept(session).items():
            assert torch.equal(x, pages[name]), (way.__name__, name)


@DTYPES
def test_a_rollout_gives_the_frames_of_steps(dtype: torch.dtype) -> None:
    world = world_of(dtype, 4, 1)
    branches = [LED_BY[:6], LED_BY[3:9], LED_BY[4:10]]
    found = started(world, PLANS["maskgit"]).rollout(branches).frames
    for branch, frames in zip(branches, found, strict=True):
        session = started(world, PLANS["maskgit"])
        for action, frame in zip(branch, frames, strict=True):
            assert np.array_equal(session.step(action), frame)


@DTYPES
def test_players_of_a_pool_get_the_frames_that_each_would_get_alone(dtype: torch.dtype) -> None:
    world = world_of(dtype, 4, 1)
    picture = make_pictures(world.bundle.config, 1)[0]
    pool = world.pool(slots=3, plan=PLANS["maskgit"])
    players = [pool.join(seed=seed) for seed in range(3)]
    alone = [world.session(seed=seed, plan=PLANS["maskgit"]) for seed in range(3)]
    for session in (*players, *alone):
        session.reset(picture)
    for k, action in enumerate(LED_BY):
        found = pool.step({player: (action + i) % len(ACTIONS) for i, player in enumerate(players)})
        for i, session in enumerate(alone):
            assert np.array_equal(found[players[i]], session.step((action + i) % len(ACTIONS))), (k, i)
