"""Frames do not depend on how they are asked for, as far as each back end says, in all its number formats.

`reference` and `native`, and `cuda` with the operators' references on a CPU. What engines do with exported
graphs: `exported/test_ways_to_ask.py`, and `exported/test_backend.py` and `tensorrt/test_plays.py` with
stand-ins.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from makers import (
    ACTIONS,
    make_actions,
    make_config,
    make_model,
    make_native_world,
    make_pictures,
    make_world,
)
from torch import Tensor

from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
LED_BY = make_actions(6)
PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=4),
    "halton": Plan(order="halton", passes=4, reuse="passes"),
    "frames": Plan(passes=2, reuse="frames"),
}

ROUNDING = {"fp64": 1e-12, "fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.1, "fp8": 0.2}
"""Most that logits of one row may differ by in two batches, of their norm: some last places of the format."""

CUDA = pytest.mark.parametrize("precision", ROUNDING)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sums fall to other threads, and into other memory, when more frames are computed beside a frame."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@cache
def world_of(dtype: torch.dtype, window: int, merge: int) -> World:
    config = make_config(grid=(6, 10), window=window, merge=merge, width=32, num_heads=4, head_width=16)
    return make_world(config, dtype=dtype)


@cache
def odd_world_of(dtype: torch.dtype) -> World:
    """One in which hardly a frame's numbers are a multiple of what a vector or a cache line holds."""
    config = make_config(grid=(5, 3), window=3, width=20, num_heads=3, head_width=4, num_layers=1)
    return make_world(config, dtype=dtype)


@cache
def native_world_of(precision: str, merge: int) -> World:
    config = make_config(grid=(4, 6), window=3, merge=merge, width=20, num_heads=3, head_width=4)
    return make_native_world(config, precision=precision)


@cache
def cuda_world_of(precision: str) -> World:
    config = make_config(grid=(4, 6), merge=2, width=32, num_heads=4, head_width=16)
    backend = CudaBackend(make_model(config), Precision.of(precision), torch.device("cpu"))
    return World(make_world(config).bundle, backend, precision)


def started(world: World, plan: Plan, seed: int = 7) -> Session:
    session = world.session(seed=seed, plan=plan)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    return session


def after_a_commit(session: Session, action: int) -> np.ndarray:
    session.commit()
    return session.step(action)


def after_a_peek(session: Session, action: int) -> np.ndarray:
    session.peek()
    return session.step(action)


def after_a_peek_at_one(session: Session, action: int) -> np.ndarray:
    session.peek([action])
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
    backend = session.world.backend
    (row,) = backend.commit([session.row])
    return backend.save_row(row)


Way = Callable[[Session, int], np.ndarray]
WAYS: tuple[Way, ...] = (
    after_a_commit, after_a_peek, after_a_peek_at_one, after_a_peek_at_others, after_a_commit_and_a_peek,
    after_a_step_undone, in_turn,
)  # fmt: skip


def assert_same(world: World, plan: Plan, ways: Sequence[Way], led_by: Sequence[int] = LED_BY) -> None:
    """Frames and pages are those of plain steps, to the bit."""
    plain = started(world, plan)
    expected = [plain.step(action) for action in led_by]
    pages = kept(plain)
    for way in ways:
        session = started(world, plan)
        found = [way(session, action) for action in led_by]
        assert [np.array_equal(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(led_by)
        for name, x in kept(session).items():
            assert torch.equal(x, pages[name]), (way.__name__, name)


@DTYPES
@pytest.mark.parametrize(
    ("plan", "window", "merge"),
    [("maskgit", 4, 2), ("maskgit", 1, 1), ("adaptive", 4, 1), ("halton", 4, 2), ("frames", 4, 1)],
)
def test_frames_and_pages_are_the_same_to_the_bit(
    dtype: torch.dtype, plan: str, window: int, merge: int
) -> None:
    ways = [after_a_commit, after_a_peek_at_others, in_turn]
    world = world_of(dtype, window, merge)
    assert world.backend.batch_invariant and world.backend.commits_ahead(PLANS[plan])
    assert_same(world, PLANS[plan], ways)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("plan", PLANS)
def test_frames_and_pages_of_the_native_engine_are_the_same_to_the_bit(precision: str, plan: str) -> None:
    world = native_world_of(precision, 1 if plan == "frames" else 2)
    assert world.backend.batch_invariant and world.backend.commits_ahead(PLANS[plan])
    assert_same(world, PLANS[plan], WAYS, make_actions(12))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_rollouts_and_pools_of_the_native_engine_give_the_frames_of_steps(precision: str) -> None:
    assert_rolled_out(native_world_of(precision, 1))
    assert_pooled(native_world_of(precision, 2))


@DTYPES
@pytest.mark.parametrize("plan", ["maskgit", "halton", "frames"])
def test_threads_and_odd_sizes_change_no_bit_of_a_frame(threads: None, dtype: torch.dtype, plan: str) -> None:
    assert_same(odd_world_of(dtype), PLANS[plan], [after_a_commit, after_a_peek_at_others], make_actions(4))


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("window", "merge"), [(4, 2), (4, 1), (1, 1)])
def test_long_games_are_the_same_to_the_bit(dtype: torch.dtype, plan: str, window: int, merge: int) -> None:
    assert_same(world_of(dtype, window, merge), PLANS[plan], WAYS, make_actions(20))


@CUDA
@pytest.mark.parametrize("plan", ["maskgit", "frames"])
def test_commits_and_snapshots_change_no_bit_on_cuda(precision: str, plan: str) -> None:
    world = cuda_world_of(precision)
    assert world.backend.commits_ahead(PLANS[plan]) == (PLANS[plan].reuse != "none")
    assert_same(world, PLANS[plan], [after_a_commit, after_a_peek_at_one, after_a_step_undone])


@CUDA
def test_a_row_of_a_batch_on_cuda_is_within_rounding_of_the_row_alone(precision: str) -> None:
    """Frames are not compared: a token that two codes are equally good for may go either way."""
    world, plan = cuda_world_of(precision), PLANS["maskgit"]
    assert not world.backend.batch_invariant
    rows = []
    for seed in range(3):
        session = started(world, plan, seed)
        for action in LED_BY[seed:5]:
            session.step(action)
        rows.append(world.backend.commit([session.row])[0])
    tokens = torch.full((3, world.bundle.config.tokenizer.num_tokens), UNDECIDED)
    together = world.backend.probe(rows, [0, 1, 2], tokens, plan, 0).logits
    for i, row in enumerate(rows):
        alone = world.backend.probe([row], [i], tokens[:1], plan, 0).logits[0]
        assert alone.isfinite().all()
        assert (together[i] - alone).norm() <= ROUNDING[precision] * alone.norm(), i


def test_peeks_on_cuda_in_float64_are_what_steps_give() -> None:
    session = started(cuda_world_of("fp64"), PLANS["maskgit"])
    for action in LED_BY:
        seen = session.peek()
        assert np.array_equal(seen[ACTIONS[action]], session.fork().step(action))
        session.step(action)


@DTYPES
def test_a_rollout_gives_the_frames_of_steps(dtype: torch.dtype) -> None:
    assert_rolled_out(world_of(dtype, 4, 1))


def assert_rolled_out(world: World) -> None:
    branches = [LED_BY[:4], LED_BY[1:5], LED_BY[2:]]
    found = started(world, PLANS["maskgit"]).rollout(branches).frames
    for branch, frames in zip(branches, found, strict=True):
        session = started(world, PLANS["maskgit"])
        for action, frame in zip(branch, frames, strict=True):
            assert np.array_equal(session.step(action), frame)


@DTYPES
def test_players_of_a_pool_get_the_frames_that_each_would_get_alone(dtype: torch.dtype) -> None:
    assert_pooled(world_of(dtype, 4, 1))


def assert_pooled(world: World) -> None:
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
