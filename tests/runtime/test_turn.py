"""A world is played by the process that loaded it, and a session by one call at a time."""

import copy
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_pictures, make_world, need, state_of

from genie_rt.errors import StateError, UnsupportedError
from genie_rt.runtime import turn as module
from genie_rt.runtime.session import Session
from genie_rt.runtime.turn import Turn, enter_process
from genie_rt.runtime.world import World

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 2)
WORLD = make_world(CONFIG)
LED_BY = make_actions(4)
BACKENDS = ("reference", "native", "onnx", "openvino")


def started(seed: int = 7) -> Session:
    session = WORLD.session(seed=seed)
    session.reset(PICTURES[0])
    return session


@cache
def demo(backend: str) -> World:
    return World.load("demo", backend=backend, dtype="float32")


@pytest.fixture(params=BACKENDS)
def world(request: pytest.FixtureRequest) -> World:
    """The demo, of every back end for CPUs."""
    need(request.param)
    return demo(request.param)


# Forks.


def in_fork(call: Callable[[], object], seconds: float = 30) -> str:
    """What a call says in a forked child: the name and text of its error, "returned", or "hung"."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
            said = "returned"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode())
        os._exit(0)
    os.close(theirs)
    try:
        ready, _, _ = select.select([ours], [], [], seconds)
        return os.read(ours, 65536).decode() if ready else "hung"
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_fork_that_hangs_is_seen_to_hang() -> None:
    assert in_fork(lambda: threading.Event().wait(), 0.2) == "hung"
    assert in_fork(lambda: None) == "returned"
    assert in_fork(lambda: 1 / 0).startswith("ZeroDivisionError")


def test_whatever_computes_says_so_in_a_forked_worker(world: World) -> None:
    session = world.session(seed=1)
    session.reset(world.prompt(0))
    session.step(0)
    pool, moment, pending = world.pool(1), session.snapshot(), session.step_async(1)
    pool.join(session)
    data = moment.to_bytes()
    calls: dict[str, Callable[[], object]] = {
        "world.session": world.session,
        "world.pool": lambda: world.pool(1),
        "world.load_snapshot": lambda: world.load_snapshot(data),
        "session.reset": lambda: session.reset(session._shown()),
        "session.step": lambda: session.step(0),
        "session.step_tensor": lambda: session.step_tensor(0),
        "session.step_async": lambda: session.step_async(0),
        "session.commit": session.commit,
        "session.peek": session.peek,
        "session.rollout": lambda: session.rollout([[0]]),
        "session.fork": session.fork,
        "session.snapshot": session.snapshot,
        "session.restore": lambda: session.restore(moment),
        "session.frame": lambda: session.frame,
        "session.plan": lambda: setattr(session, "plan", session.plan.replace(passes=1)),
        "snapshot.to_bytes": moment.to_bytes,
        "snapshot.save": lambda: moment.save("never written"),
        "pool.step": lambda: pool.step({session: 0}),
        "pool.commit": pool.commit,
        "pool.join": lambda: pool.join(seed=1),
        "pool.leave": lambda: pool.leave(session),
        "pending.wait": pending.wait,
        "pending.ready": pending.ready,
        "pending.tensor": lambda: pending.tensor,
    }

    def all_of_them() -> None:
        for name, call in calls.items():
            try:
                call()
            except StateError as error:
                assert "load the world in the worker, or use spawn" in str(error)
            else:
                raise AssertionError(f"{name} returned")

    assert in_fork(all_of_them) == "returned"
    untroubled = world.session(seed=1)
    untroubled.restore(world.load_snapshot(data))
    untroubled.step(1)
    np.testing.assert_array_equal(session.step(2), untroubled.step(2))  # in the parent all is as it was


def test_a_fork_may_look_at_what_needs_no_thread() -> None:
    session = started()

    def look() -> None:
        assert session.frame_index == 0 and "seed=7" in repr(session)
        assert WORLD.action("left") == 0 and WORLD.plan().passes == 3

    assert in_fork(look) == "returned"


def test_a_world_is_not_loaded_where_torch_would_wait_for_threads_of_the_parent() -> None:
    demo("reference")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for load in (lambda: World.load("demo"), lambda: World.random("coinrun")):
            said = in_fork(load)
            assert said.startswith("StateError: this process was forked from") and "spawn" in said
    finally:
        torch.set_num_threads(threads)


def test_one_thread_waits_for_no_other_and_may_load_in_a_fork() -> None:
    demo("reference")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert in_fork(lambda: play(World.load("demo", backend="reference"), 1)) == "returned"
    finally:
        torch.set_num_threads(threads)


def test_a_process_that_was_forked_before_may_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_loaded_in", None)
    assert in_fork(lambda: (enter_process(), enter_process())) == "returned"
    enter_process()
    assert module._loaded_in == os.getpid()


SPAWNED = """
import multiprocessing, sys
from genie_rt import World

def frame(_):
    world = World.load("demo", backend="reference")
    session = world.session(seed=1)
    session.reset(world.prompt(0))
    return session.step(0).sum()

if __name__ == "__main__":
    here = frame(0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(frame, [0]) == [here]
    print("played")
"""


@pytest.mark.slow
def test_a_spawned_worker_plays(tmp_path: Any) -> None:
    (tmp_path / "main.py").write_text(SPAWNED)
    done = subprocess.run([sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True)
    assert done.stdout.strip() == "played", done.stderr


# Copies.


def test_what_cannot_be_sent_says_what_to_do() -> None:
    session = started()
    for thing, remedy in (
        (WORLD, "World.load"),
        (session, "fork()"),
        (session.snapshot(), "to_bytes()"),
        (WORLD.pool(1), "world.pool"),
        (session.step_async(0), "wait()"),
    ):
        for copies in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(UnsupportedError) as caught:
                copies(thing)
            assert type(thing).__name__ in str(caught.value) and remedy in str(caught.value)
    plan = pickle.loads(pickle.dumps(session.plan))
    assert plan == session.plan


# Threads.


def play(world: World, seed: int) -> list[bytes]:
    session = world.session(seed=seed)
    return [session.reset(world.prompt(0)).tobytes(), *(session.step(action).tobytes() for action in LED_BY)]


def test_sessions_of_one_world_in_two_threads_give_the_frames_they_give_alone(world: World) -> None:
    alone = [play(world, seed) for seed in (1, 2)]
    start = threading.Barrier(2)

    def together(seed: int) -> list[bytes]:
        start.wait(30)
        return play(world, seed)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(together, (1, 2))) == alone
    assert alone[0] != alone[1]


@contextmanager
def held_in(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another thread, called "player", is in the middle of a frame while the block runs."""
    arrived, go_on, frame = threading.Event(), threading.Event(), WORLD.backend.frame

    def slow(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "player":
            arrived.set()
            assert go_on.wait(30)
        return frame(*arguments, **options)

    monkeypatch.setattr(WORLD.backend, "frame", slow)
    thread = threading.Thread(target=call, name="player")
    thread.start()
    try:
        assert arrived.wait(30)
        yield
    finally:
        go_on.set()
        thread.join(30)


CALLS: dict[str, Callable[[Session], object]] = {
    "reset": lambda s: s.reset(PICTURES[0]),
    "step": lambda s: s.step(0),
    "step_tensor": lambda s: s.step_tensor(0),
    "step_async": lambda s: s.step_async(0),
    "commit": lambda s: s.commit(),
    "peek": lambda s: s.peek(),
    "rollout": lambda s: s.rollout([[0]]),
    "fork": lambda s: s.fork(),
    "snapshot": lambda s: s.snapshot(),
    "restore": lambda s: s.restore(started().snapshot()),
    "plan": lambda s: setattr(s, "plan", s.plan.replace(passes=1)),
}


def test_no_call_gets_between_a_step_of_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    session, expected = started(), started()
    before = state_of(session)
    with held_in(lambda: session.step(1), monkeypatch):
        for name, call in CALLS.items():
            with pytest.raises(StateError, match=rf"^{name}: .*another thread \(step in 'player'\); use one"):
                call(session)
        assert state_of(session) == before and session.stats is None  # looking is free
        other = started(3)  # and so are others
        other.step(0)
    expected.step(1)
    assert state_of(session) == state_of(expected)
    for call in CALLS.values():
        call(session)


@pytest.mark.parametrize("name", ["peek", "rollout", "step_async"])
def test_a_step_does_not_get_between_other_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = started()
    with held_in(lambda: CALLS[name](session), monkeypatch):
        with pytest.raises(StateError, match=rf"\({name} in 'player'\)"):
            session.step(1)
        with pytest.raises(StateError, match=rf"\({name} in 'player'\)"):
            session.snapshot()
    session.step(1)


def test_no_step_is_lost_between_threads() -> None:
    """24 steps of two threads: each counts, or is an error that its thread sees."""
    session = started()

    def steps(_: int) -> int:
        done = 0
        for _ in range(12):
            try:
                session.step(0)
            except StateError:
                continue
            done += 1
        return done

    with ThreadPoolExecutor(2) as threads:
        taken = sum(threads.map(steps, range(2)))
    assert session.frame_index == taken >= 12


def test_a_pool_and_its_sessions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, a, b = WORLD.pool(3), started(1), started(2)
    pool.join(a), pool.join(b)
    states = [state_of(a), state_of(b)]
    with held_in(lambda: a.step(1), monkeypatch):
        for call in (lambda: pool.step({b: 0, a: 0}), pool.commit):
            with pytest.raises(StateError, match=r"of the pool: this session .*\(step in 'player'\)"):
                call()
        assert [state_of(a), state_of(b)] == states
        pool.step({b: 0})  # who is not in use may step
    with held_in(lambda: pool.step({a: 1}), monkeypatch):
        with pytest.raises(StateError, match=r"another thread \(step of the pool in 'player'\)"):
            a.step(0)
        for name, call in {
            "step": lambda: pool.step({b: 0}), "commit": pool.commit, "join": pool.join,
            "leave": lambda: pool.leave(b),
        }.items():  # fmt: skip
            with pytest.raises(StateError, match=rf"^{name}: this pool is being used .*\(step in 'player'\)"):
                call()
        b.step(2)  # not in this step of the pool
    expected = started(1), started(2)
    for session, actions in zip(expected, ((1, 1), (0, 2)), strict=True):
        for action in actions:
            session.step(action)
    assert [state_of(a), state_of(b)] == [state_of(session) for session in expected]


def test_a_call_that_comes_out_of_another_is_refused() -> None:
    session = started()
    row = session.row

    def actions() -> Iterator[int]:
        yield 0
        session.step(1)

    for call in (lambda: session.peek(actions()), lambda: session.rollout([actions()])):
        with pytest.raises(StateError, match=r"^step: .*in the middle of (peek|rollout), which this call"):
            call()
        assert session.row is row
    assert len(session.peek(iter([0, 1]))) == 2


def test_an_error_gives_the_turn_back() -> None:
    turn = Turn("session")
    call, other = ("step", threading.current_thread()), ("peek", threading.current_thread())
    turn.take(call)
    turn.leave(other)  # which did not begin
    with pytest.raises(StateError):
        turn.take(other)
    turn.leave(call)
    turn.take(other)
