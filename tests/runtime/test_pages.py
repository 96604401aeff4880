"""Pages live as long as somebody holds them, never move, and are all that a session's past amounts to."""

import gc
import random
import threading
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_config, make_pictures, make_tensor, make_transformer, make_world, python_bytes_kept
from torch import Tensor

from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.pages import CHUNK_PAGES, Page, PagePool, Pages
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World

L, P, H, DH, W = 3, 5, 2, 6, 4


def make_pool() -> PagePool:
    return PagePool(make_transformer(window=W), P, torch.float64, torch.device("cpu"))


def make_kept(seed: int) -> list[tuple[Tensor, Tensor]]:
    """What a transformer gives for one frame."""
    return [
        (make_tensor(P, H, DH, seed=seed + i), make_tensor(P, H, DH, seed=seed + 100 + i)) for i in range(L)
    ]


def test_a_page_holds_what_was_written_layer_by_layer() -> None:
    pool, kept = make_pool(), make_kept(0)
    memory = pool.view(pool.write(kept))
    assert memory.shape == (L, 2, P, H, DH) and memory.is_contiguous()
    for layer, (keys, values) in enumerate(kept):
        assert torch.equal(memory[layer, 0], keys) and torch.equal(memory[layer, 1], values)
    assert pool.page_bytes == memory.numel() * 8


def test_a_page_is_free_again_when_its_last_holder_lets_go() -> None:
    pool = make_pool()
    page = pool.write(make_kept(0))
    held = (page,)
    index = page.index
    del page
    assert pool.num_used == 1
    del held
    assert pool.num_used == 0
    assert pool.write(make_kept(1)).index == index  # and is taken first, while it is warm


def test_a_page_in_use_is_never_written_to_again() -> None:
    pool = make_pool()
    kept = pool.write(make_kept(7))
    before = pool.view(kept).clone()
    for seed in range(3 * CHUNK_PAGES):
        pool.write(make_kept(seed))
    assert torch.equal(pool.view(kept), before)


def test_growing_moves_no_page() -> None:
    pool = make_pool()
    pages, places = [], []
    for seed in range(3 * CHUNK_PAGES):
        pages.append(
            pool.write(
                make_kept(seed),
            )
        )
        places.append(pool.view(pages[-1]).data_ptr())
    assert [pool.view(page).data_ptr() for page in pages] == places
    assert len(set(places)) == len({page.index for page in pages}) == 3 * CHUNK_PAGES
    assert (pool.num_pages, pool.num_used) == (3 * CHUNK_PAGES, 3 * CHUNK_PAGES)
    pages.clear()
    assert (pool.num_pages, pool.num_used) == (3 * CHUNK_PAGES, 0)


def test_push_keeps_the_newest_and_leaves_the_old_tuple() -> None:
    pool = make_pool()
    pages: Pages = ()
    for seed in range(W + 2):
        before, new = pages, pool.write(make_kept(seed))
        pages = pool.push(before, new)
        assert pages == (new, *before[: W - 2])
    assert len(pages) == W - 1


def test_a_window_of_one_keeps_nothing() -> None:
    pool = PagePool(make_transformer(window=1), P, torch.float64, torch.device("cpu"))
    assert (
        pool.push(
            (),
            pool.write(
                make_kept(0),
            ),
        )
        == ()
    )
    assert pool.num_used == 0
    keys_values, ages = pool.history(())
    assert all(len(keys) == len(values) == 0 for keys, values in keys_values) and ages.tolist() == [0]


def test_history_is_newest_first() -> None:
    pool = make_pool()
    a, b, c = (pool.write(make_kept(seed)) for seed in range(3))
    keys_values, ages = pool.history((c, b, a))
    assert ages.tolist() == [0, 1, 2, 3]
    for layer, (keys, values) in enumerate(keys_values):
        assert keys.shape == values.shape == (3, P, H, DH)
        for age, page in enumerate((c, b, a)):
            assert torch.equal(keys[age], pool.view(page)[layer, 0])
            assert torch.equal(values[age], pool.view(page)[layer, 1])


def test_threads_never_get_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that find the pool empty at once, each while the other one waits for memory."""
    pool, kept, empty = make_pool(), make_kept(0), torch.empty
    pages: list[Page] = []
    meeting = threading.Barrier(2)

    def slow_empty(*args, **kwargs):
        with suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.5)  # returns at once where both threads get this far
        return empty(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", slow_empty)
    threads = [
        threading.Thread(
            target=lambda: pages.append(
                pool.write(
                    kept,
                )
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({page.index for page in pages}) == 2
    assert pool.num_used == 2


# Whole sessions of a model so small that a step takes about a millisecond.

SMALL = make_config(grid=(1, 3), window=3, encoder_window=2, num_layers=1, width=8, mlp_width=8)
PICTURES = make_pictures(SMALL, 3)
POOLS = {"dynamics": "dynamics_pages", "encoder": "encoder_pages", "decoder": "decoder_pages"}


def pools_of(world: World) -> dict[str, PagePool]:
    return {kind: getattr(world.backend, name) for kind, name in POOLS.items()}


def assert_no_page_leaks(world: World, rows: Iterable[Row | None]) -> None:
    live = [row for row in rows if row is not None]
    for kind, pool in pools_of(world).items():
        held = {
            page.index for row in live for page in getattr(row, kind, ())
        }  # a prompt alone has encoder pages
        assert pool.num_used == len(held), kind
        assert len(set(pool.free)) == len(pool.free) == pool.num_pages - len(held), kind


def test_two_hundred_steps_with_snapshots_leak_no_page() -> None:
    world, dice = make_world(SMALL), random.Random(0)
    session, saved = world.session(seed=1, passes=1), []
    session.reset(PICTURES[0])
    for _ in range(200):
        session.step(dice.randrange(3))
        if dice.random() < 0.3:
            saved.append(session.snapshot())
        if saved and dice.random() < 0.2:
            session.restore(dice.choice(saved))
        if len(saved) > 5:
            saved.pop(dice.randrange(5))
        assert_no_page_leaks(world, [session._row, *(snapshot.row for snapshot in saved)])
    assert max(pool.num_pages for pool in pools_of(world).values()) <= 2 * CHUNK_PAGES
    session._row = None
    saved.clear()
    assert_no_page_leaks(world, [])


def live_tensor_bytes() -> int:
    gc.collect()
    storages = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
        for x in gc.get_objects()
        if type(x) in (Tensor, torch.nn.Parameter) and x.layout == torch.strided
    }
    return sum(storages.values())


def test_a_long_run_holds_memory_flat() -> None:
    world = make_world(SMALL)
    session, dice = world.session(seed=1, passes=1), random.Random(0)
    session.reset(PICTURES[0])
    pages, tensors = [], []

    def play_on() -> None:
        for _ in range(500):
            session.step(dice.randrange(3))
        pages.append([(pool.num_pages, pool.num_used) for pool in pools_of(world).values()])
        tensors.append(live_tensor_bytes())

    play_on()  # warms up
    # Python's own free lists move by some kB; a tensor kept at every step would be 100 bytes, 50 kB in all
    assert python_bytes_kept(play_on, rounds=2) < 10_000
    assert all(held == [(CHUNK_PAGES, 2), (CHUNK_PAGES, 0), (CHUNK_PAGES, 2)] for held in pages)
    assert len(set(tensors)) == 1


# What survives of any sequence of calls is what a session did that never strayed.

OPERATIONS = st.one_of(
    st.tuples(st.just("reset"), st.integers(0, 2)),
    st.tuples(st.just("step"), st.integers(0, 2)),
    st.tuples(st.just("step"), st.integers(0, 2)),
    st.tuples(st.just("passes"), st.integers(1, 3)),
    st.tuples(st.just("snapshot"), st.just(0)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
    st.tuples(st.just("commit"), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, 9)),
)

History = tuple[int, int, tuple[tuple[int, int], ...]]
"""Seed, picture, and (action, passes) of every step: what a state is a function of."""

WORLD = make_world(SMALL)


def play(history: History) -> Session:
    seed, picture, steps = history
    session = WORLD.session(seed=seed)
    session.reset(PICTURES[picture])
    for action, passes in steps:
        session.plan = Plan(passes=passes)
        session.step(action)
    return session


@given(st.lists(OPERATIONS, max_size=25), st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_sequence_of_calls_leaves_the_state_of_its_surviving_steps(
    operations: list[tuple[str, int]], seed: int
) -> None:
    sessions = [WORLD.session(seed=seed, passes=2), WORLD.session(seed=seed ^ 1, passes=2)]
    histories: list[History] = [(seed, 0, ()), (seed ^ 1, 0, ())]
    for session in sessions:
        session.reset(PICTURES[0])
    saved: list[tuple[Snapshot, History]] = []
    for turn, (operation, value) in enumerate(operations):
        which = turn % 2  # two sessions of one world, in turns, that restore each other's snapshots
        session, (key, picture, steps) = sessions[which], histories[which]
        if operation == "reset":
            session.reset(PICTURES[value])
            histories[which] = (key, value, ())
        elif operation == "step":
            session.step(value)
            histories[which] = (key, picture, (*steps, (value, session.plan.passes)))
        elif operation == "passes":
            session.plan = Plan(passes=value)
        elif operation == "snapshot":
            saved.append((session.snapshot(), histories[which]))
        elif operation == "restore" and saved:
            index = value % len(saved)
            session.restore(saved[index][0])
            histories[which] = saved[index][1]
        elif operation == "forget" and saved:
            saved.pop(value % len(saved))
        elif operation == "commit":
            session.commit()
    for session, history in zip(sessions, histories, strict=True):
        straight = play(history)
        for _ in range(2):  # the state, and what comes of it
            assert straight._row is not None and session._row is not None
            np.testing.assert_array_equal(session.frame, straight.frame)
            assert torch.equal(session._row.tokens, straight._row.tokens)
            assert (session.frame_index, session.seed) == (straight.frame_index, straight.seed)
            straight.plan = session.plan
            session.step(1), straight.step(1)
    del straight, session
    rows = [*(session._row for session in sessions), *(snapshot.row for snapshot, _ in saved)]
    assert_no_page_leaks(WORLD, rows)
