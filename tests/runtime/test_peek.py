"""A peek shows what steps would give, for nothing afterwards, and leaves the session where it is."""

import gc
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from makers import (
    ACTIONS,
    broken_weight,
    counted_calls,
    make_actions,
    make_config,
    make_pictures,
    make_world,
    play,
    state_of,
    used_pages,
)

from genie_rt.errors import DeviceError, InputError, StateError
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 2)
WORLD = make_world(CONFIG)
LED_BY = make_actions(8)

PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=6, threshold=0.3),
    "random": Plan(order="random", passes=3),
    "halton with reuse": Plan(order="halton", passes=3, reuse="passes"),
    "reuse of frames": Plan(passes=3, reuse="frames"),
}


def started(plan: Plan = PLANS["maskgit"], steps: int = 0, seed: int = 7) -> Session:
    session = WORLD.session(seed=seed, plan=plan)
    session.reset(PICTURES[0])
    play(session, LED_BY[:steps])
    return session


@cache
def alone(plan: str, steps: int, actions: tuple[str | int, ...]) -> tuple[list[object], object]:
    """The states of a session that never peeks, and what its first step took."""
    session = started(PLANS[plan], steps)
    states = play(session, actions[:1])
    stats = session.stats
    return [*states, *play(session, actions[1:])], stats


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("steps", [0, 5])
def test_every_peeked_frame_is_the_one_that_its_step_gives(plan: str, committed: bool, steps: int) -> None:
    session = started(PLANS[plan], steps)
    if committed:
        session.commit()
    peeked = session.peek()
    assert list(peeked) == list(ACTIONS)
    for action in ACTIONS:
        expected, stats = alone(plan, steps, (action, *LED_BY[:2]))
        taken = session.fork()
        taken._peeked = dict(session._peeked)
        found = play(taken, [action])
        assert taken.stats == stats
        assert found + play(taken, LED_BY[:2]) == expected
        assert peeked[action].tobytes() == found[0][3]


def test_the_step_after_a_peek_evaluates_nothing_and_the_next_one_does() -> None:
    session, other = started(), started()
    session.peek(["right", "left"])
    with counted_calls(WORLD) as calls:
        found = play(session, ["left"])
        assert calls == []
        session.step("left")
        assert calls == [("frame", 1)]
    assert found == play(other, ["left"])


def test_a_step_that_was_not_peeked_is_evaluated() -> None:
    session = started()
    session.peek(["right"])
    with counted_calls(WORLD) as calls:
        found = play(session, ["left"])
    assert calls == [("frame", 1)]
    assert found == play(started(), ["left"])


def test_all_actions_are_one_batch_and_peeking_again_computes_only_what_is_missing() -> None:
    session = started()
    with counted_calls(WORLD) as calls:
        first = session.peek(["right"])
        both = session.peek(["left", "right"])
        everything = session.peek()
        session.peek()
    assert calls == [("frame", 1)] * 3
    assert list(both) == ["left", "right"]
    for some in (first, both):
        for name, picture in some.items():
            np.testing.assert_array_equal(picture, everything[name])
    with counted_calls(WORLD) as calls:
        started().peek()
    assert calls == [("frame", 3)]


def test_names_and_indices_are_one_action_and_come_back_as_names_in_the_order_asked_for() -> None:
    with counted_calls(WORLD) as calls:
        peeked = started().peek([2, "left", "right", np.int64(0)])
    assert list(peeked) == ["right", "left"]
    assert calls == [("frame", 2)]
    with counted_calls(WORLD) as calls:
        assert started().peek([]) == {}
    assert calls == []


def test_a_commit_between_peek_and_step_loses_nothing() -> None:
    session, other = started(steps=3), started(steps=3)
    session.peek()
    session.commit()
    with counted_calls(WORLD) as calls:
        found = play(session, [1])
    assert calls == []
    assert found + play(session, LED_BY[:3]) == play(other, [1, *LED_BY[:3]])


def test_a_peek_leaves_the_session_as_it_is() -> None:
    session, other = started(steps=3), started(steps=3)
    row, stats, before = session.row, session.stats, state_of(session)
    for picture in session.peek().values():
        picture[:] = 0  # the caller's own
    assert session.row is row and session.stats is stats and state_of(session) == before
    assert play(session, LED_BY[:3]) == play(other, LED_BY[:3])


DROPPING: dict[str, Callable[[Session], object]] = {
    "step": lambda session: session.step("left"),
    "another step": lambda session: session.step(2),
    "reset": lambda session: session.reset(PICTURES[1]),
    "restore": lambda session: session.restore(session.snapshot()),
    "other passes": lambda session: setattr(session, "plan", session.plan.replace(passes=4)),
    "other temperature": lambda session: setattr(session, "plan", session.plan.replace(temperature=0.5)),
}


@pytest.mark.parametrize("move", DROPPING)
def test_what_moves_the_session_on_forgets_the_peek_and_frees_its_pages(move: str) -> None:
    gc.collect()
    session, before = started(steps=6), used_pages(WORLD)
    session.peek(["left", "stay"])
    assert used_pages(WORLD)[1] > before[1]
    DROPPING[move](session)
    expected = started(steps=6)
    DROPPING[move](expected)
    with counted_calls(WORLD) as calls:
        found = play(session, [0])
    assert calls == [("frame", 1)]
    assert found == play(expected, [0])
    del expected, session
    assert used_pages(WORLD) == [0, 0, 0]


def test_the_same_plan_again_keeps_the_peek() -> None:
    session = started()
    session.peek()
    session.plan = Plan(passes=3)
    with counted_calls(WORLD) as calls:
        session.step(0)
    assert calls == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [(["left", "fly"], "fly"), ([3], "0 to 2"), ("left", r"\['left'\]"), ([None], "None")],
)
def test_an_unknown_action_is_refused_before_anything_is_computed(asked: list[str], message: str) -> None:
    session = started()
    session.peek(["right"])
    with counted_calls(WORLD) as calls:
        with pytest.raises(InputError, match=message):
            session.peek(asked)
        session.step("right")
    assert calls == []


def test_nan_in_a_peek_leaves_the_session_and_what_it_knew() -> None:
    session, other = started(steps=2), started(steps=2)
    session.peek(["left"])
    row, used = session.row, used_pages(WORLD)
    with broken_weight(WORLD), pytest.raises(DeviceError):
        session.peek()
    assert session.row is row and used_pages(WORLD) == used
    with counted_calls(WORLD) as calls:
        found = play(session, ["left"])
    assert calls == []
    assert found == play(other, ["left"])


def test_before_reset_there_is_nothing_to_peek_at() -> None:
    with pytest.raises(StateError, match="reset"):
        WORLD.session().peek()


# Forks.


@pytest.mark.parametrize("committed", [True, False])
def test_a_fork_goes_on_as_the_session_would_have_and_shares_its_pages(committed: bool) -> None:
    session, other = started(steps=5), started(steps=5)
    if committed:
        session.commit()
    used = used_pages(WORLD)
    fork = session.fork()
    assert used_pages(WORLD) == used and fork.row is session.row
    assert state_of(fork) == state_of(session) and fork.plan == session.plan and fork.stats == session.stats
    expected = play(other, LED_BY[:4])
    assert play(fork, LED_BY[:4]) == expected
    assert play(session, LED_BY[:4]) == expected


def test_a_fork_with_a_seed_has_other_chances_from_there_on_and_no_other_past() -> None:
    session = started(steps=5)
    fork = session.fork(seed=8)
    assert fork.seed == fork.row.seed == 8 and session.seed == session.row.seed == 7
    assert state_of(fork)[1:] == state_of(session)[1:]
    other = play(fork, LED_BY[:4])
    assert other != play(session, LED_BY[:4])
    again = started(steps=5).fork(seed=8)
    again.commit()
    assert play(again, LED_BY[:4]) == other


def test_a_fork_of_nothing_or_with_no_seed_is_refused() -> None:
    with pytest.raises(StateError, match="reset"):
        WORLD.session().fork()
    for seed in (-1, 2**64, True, 1.0):
        with pytest.raises(InputError, match=r"2\*\*64 - 1"):
            started().fork(seed=seed)  # type: ignore[arg-type]
