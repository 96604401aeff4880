"""Players in one batch get the frames that they get alone, whoever else plays, comes or goes."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from makers import (
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

from genie_rt.errors import ConfigError, DeviceError, InputError, StateError
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.pool import SessionPool
from genie_rt.runtime.session import Session

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 4)
WORLD = make_world(CONFIG)
LED_BY = make_actions(8)


def started(seed: int, steps: int = 0, picture: int = 0, **changes: Any) -> Session:
    session = WORLD.session(seed=seed, **changes)
    session.reset(PICTURES[picture])
    play(session, LED_BY[:steps])
    return session


def pool_of(*sessions: Session, slots: int = 8, **changes: Any) -> SessionPool:
    pool = WORLD.pool(slots, **changes)
    for session in sessions:
        pool.join(session)
    return pool


# Equality.


@pytest.mark.parametrize(
    "plan",
    [
        Plan(passes=3),
        Plan(order="adaptive", passes=5, threshold=0.3),
        Plan(order="random", passes=3),
        Plan(order="halton", passes=3, reuse="passes"),
        Plan(passes=3, reuse="frames"),
    ],
    ids=lambda plan: f"{plan.order} {plan.reuse}",
)
def test_players_in_a_pool_get_the_frames_that_they_get_alone(plan: Plan) -> None:
    """They are at different ages, some committed and some not, and two of them do the same."""
    ages = {1: 0, 2: 5, 3: 1, 4: 2}
    sessions = [started(seed, steps, plan=plan) for seed, steps in ages.items()]
    alone = [started(seed, steps, plan=plan) for seed, steps in ages.items()]
    pool = pool_of(*sessions)
    sessions[1].commit()
    for turn in range(3):
        actions = [turn % 3, (turn + 1) % 3, turn % 3, 2]
        frames = pool.step(dict(zip(sessions, actions, strict=True)))
        assert list(frames) == sessions
        for session, other, action in zip(sessions, alone, actions, strict=True):
            assert play(other, [action]) == [state_of(session)]
            assert frames[session].tobytes() == session.frame.tobytes()
            assert session.stats == other.stats and session.passes == other.passes
        if turn == 1:
            pool.commit()


def test_whoever_comes_and_goes_the_others_frames_stay_the_same() -> None:
    chance = random.Random(0)
    pool, alone = pool_of(slots=4), {}
    for turn in range(12):
        if len(pool) < 4 and chance.random() < 0.7:
            session = pool.join(seed=turn)
            session.reset(PICTURES[turn % 4])
            alone[session] = started(turn, picture=turn % 4)
        if len(pool) > 1 and chance.random() < 0.3:
            gone = chance.choice(pool.sessions)
            pool.leave(gone)
            assert play(gone, [0]) == play(alone[gone], [0])  # it can be played on alone
        stepping = [session for session in pool.sessions if chance.random() < 0.7]
        actions = {session: chance.randrange(3) for session in stepping}
        pool.step(actions)
        if chance.random() < 0.3:
            pool.commit()
        for session, action in actions.items():
            alone[session].step(action)
        for session in pool.sessions:
            assert state_of(session) == state_of(alone[session])
    assert {session.frame_index for session in pool.sessions} != {0}


def test_those_without_an_action_stand_still() -> None:
    a, b = started(1), started(2)
    row = b.row
    pool = pool_of(a, b)
    assert list(pool.step({a: "left"})) == [a]
    assert b.row is row and a.frame_index == 1
    with counted_calls(WORLD) as calls:
        assert pool.step({}) == {}
    assert calls == []


def test_a_frame_is_the_callers_own() -> None:
    session = started(1)
    frame = pool_of(session).step({session: 0})[session]
    shown = session.frame
    frame[:] = 0
    np.testing.assert_array_equal(session.frame, shown)


# What it costs.


def test_sessions_of_one_plan_are_one_batch_and_those_of_another_one_more() -> None:
    sessions = [started(seed) for seed in range(3)] + [started(3, passes=5), started(4, passes=5)]
    alone = [started(seed) for seed in range(3)] + [started(3, passes=5), started(4, passes=5)]
    pool = pool_of(*sessions)
    with counted_calls(WORLD) as calls:
        pool.step(dict.fromkeys(sessions, 1))
        assert calls == [("frame", 3), ("frame", 2)]
        calls.clear()
        pool.commit()
        assert calls == [("commit", 5)]
        calls.clear()
        pool.commit()
        assert calls == []
    for session, other in zip(sessions, alone, strict=True):
        assert play(other, [1]) == [state_of(session)]


def test_players_that_peeked_take_their_step_for_nothing() -> None:
    a, b, c = started(1), started(2), started(3)
    pool = pool_of(a, b, c)
    a.peek()
    b.peek(["left"])
    with counted_calls(WORLD) as calls:
        pool.step({a: "right", b: "left"})
        assert calls == []
        a.peek(["left"])
        calls.clear()
        pool.step({a: "right", b: "left", c: "stay"})
    assert calls == [("frame", 3)]
    assert [state_of(a)] == play(started(1), ["right", "right"])[1:]
    assert [state_of(b)] == play(started(2), ["left", "left"])[1:]
    assert [state_of(c)] == play(started(3), ["stay"])


def test_joining_and_leaving_take_no_page_and_leave_the_row() -> None:
    session = started(1, steps=4)
    row, used = session.row, used_pages(WORLD)
    pool = pool_of()
    for _ in range(3):
        pool.join(session)
        assert session in pool and pool.sessions == (session,)
        pool.leave(session)
        assert session not in pool and len(pool) == 0
    assert session.row is row and used_pages(WORLD) == used


def test_a_new_player_has_the_pools_plan_and_no_picture() -> None:
    pool = WORLD.pool(2, plan="best", passes=5)
    session = pool.join(seed=9)
    assert session.plan == Plan(passes=5, temperature=0.8) and session.seed == 9
    with pytest.raises(StateError, match="reset"):
        session.step(0)
    pool.commit()  # there is nothing to commit, and no error
    session.reset(PICTURES[0])
    pool.step({session: 0})
    alone = WORLD.session(seed=9, plan="best", passes=5)
    alone.reset(PICTURES[0])
    assert play(alone, [0]) == [state_of(session)]


def test_when_all_have_left_and_are_gone_no_page_is_held() -> None:
    before = used_pages(WORLD)
    pool = pool_of(started(1), started(2))
    pool.step(dict.fromkeys(pool.sessions, 0))
    pool.commit()
    assert used_pages(WORLD) != before
    for session in pool.sessions:
        pool.leave(session)
    del session
    assert used_pages(WORLD) == before


# Errors, before anything changes.


def crowd() -> tuple[SessionPool, Session, Session]:
    """A full pool of two; one of them has peeked at "left"."""
    a, b = started(1, steps=2), started(2, steps=1)
    b.peek(["left"])
    return pool_of(a, b, slots=2), a, b


BAD_CALLS: dict[str, tuple[type[Exception], str, Callable[[SessionPool, Session, Session], object]]] = {
    "full": (StateError, "at most 2 sessions", lambda pool, a, b: pool.join(started(3))),
    "full for a new one": (StateError, "at most 2 sessions", lambda pool, a, b: pool.join()),
    "in it already": (StateError, "already", lambda pool, a, b: pool.join(a)),
    "another world's": (
        InputError, "loaded elsewhere", lambda pool, a, b: pool.join(make_world(CONFIG).session()),
    ),
    "no session": (InputError, "expected a session", lambda pool, a, b: pool.join("left")),  # type: ignore[arg-type]
    "leaving, never joined": (StateError, "not in this pool", lambda pool, a, b: pool.leave(started(3))),
    "stepping, never joined": (
        StateError, "not in this pool", lambda pool, a, b: pool.step({b: "left", a: 0, started(3): 0}),
    ),
    "stepping another world's": (
        InputError, "loaded elsewhere",
        lambda pool, a, b: pool.step({b: "left", a: 0, make_world(CONFIG).session(): 0}),
    ),
    "unknown action": (InputError, "fly", lambda pool, a, b: pool.step({b: "left", a: "fly"})),
    "no action": (InputError, "None", lambda pool, a, b: pool.step({b: "left", a: None})),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("call", BAD_CALLS)
def test_a_bad_call_raises_one_error_and_changes_nothing(call: str) -> None:
    error, message, attempt = BAD_CALLS[call]
    pool, a, b = crowd()
    rows, states = [a.row, b.row], [state_of(a), state_of(b)]
    with counted_calls(WORLD) as calls:
        with pytest.raises(error, match=message):
            attempt(pool, a, b)
        assert ("frame", 2) not in calls  # what `started` did is one row a call
        calls.clear()
        assert pool.sessions == (a, b)
        assert [a.row, b.row] == rows and [state_of(a), state_of(b)] == states
        pool.step({b: "left"})
        assert calls == []  # the peek is still there
    assert [state_of(b)] == play(started(2, steps=1), ["left"])


def test_a_player_without_a_picture_stops_the_step_of_all() -> None:
    a = started(1)
    pool, row = pool_of(a), a.row
    pool.join(seed=2)
    with pytest.raises(StateError, match="reset"):
        pool.step(dict.fromkeys(pool.sessions, 0))
    assert a.row is row


def test_a_seed_that_is_none_takes_no_slot() -> None:
    pool = pool_of(slots=1)
    with pytest.raises(InputError, match=r"2\*\*64 - 1"):
        pool.join(seed=-1)
    assert len(pool) == 0


@pytest.mark.parametrize("name", ["dynamics.token_out.weight", "tokenizer.patch_out.weight"])
def test_nan_in_any_batch_leaves_all_players_where_they_are(name: str) -> None:
    a, b, c = started(1, steps=2), started(2), started(3, passes=2)
    pool = pool_of(a, b, c)
    c.peek(["stay"])
    rows, used = [a.row, b.row, c.row], used_pages(WORLD)
    with broken_weight(WORLD, name), pytest.raises(DeviceError):
        pool.step({c: "stay", a: 0, b: 1})
    assert [a.row, b.row, c.row] == rows
    del rows
    assert used_pages(WORLD) == used
    pool.step({c: "stay", a: 0, b: 1})
    assert [state_of(a)] == play(started(1, steps=2), [0])
    assert [state_of(b)] == play(started(2), [1])
    assert [state_of(c)] == play(started(3, passes=2), ["stay"])


def test_an_error_in_the_second_batch_leaves_the_first_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = started(1), started(2, passes=5)
    pool, rows, frame = pool_of(a, b), [a.row, b.row], WORLD.backend.frame

    def failing(batch: Any, actions: Any, plan: Plan, **options: Any) -> Any:
        if plan.passes == 5:
            raise DeviceError("out of memory")
        return frame(batch, actions, plan, **options)

    monkeypatch.setattr(WORLD.backend, "frame", failing)
    with pytest.raises(DeviceError, match="out of memory"):
        pool.step({a: 0, b: 0})
    assert [a.row, b.row] == rows and a.stats is None


@pytest.mark.parametrize("slots", [0, -1, True, 1.0, "4", 10**9])
def test_a_number_of_slots_that_is_none_is_refused(slots: Any) -> None:
    with pytest.raises(ConfigError, match="slots"):
        WORLD.pool(slots)


def test_a_pool_refuses_plans_that_its_world_cannot_decode_with() -> None:
    with pytest.raises(ConfigError, match="at most 15"):
        WORLD.pool(2, passes=16)
    with pytest.raises(InputError, match="default, best"):
        WORLD.pool(2, plan="fast")
