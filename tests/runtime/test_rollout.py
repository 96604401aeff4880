"""A rollout of many sequences gives for each what a session of its own gives, and computes nothing twice."""

from functools import cache
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

from genie_rt.errors import DeviceError, InputError, StateError
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 2)
WORLD = make_world(CONFIG)
LED_BY = make_actions(5)
SEQUENCES = [(0, 0, 1, 2), (0, 0, 2, 2), (2, 1, 1, 0), (0, 0, 1, 2), (0, 0, 1, 1)]


def started(steps: int = 3, **changes: Any) -> Session:
    session = WORLD.session(seed=7, **changes)
    session.reset(PICTURES[0])
    play(session, LED_BY[:steps])
    return session


PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=5, threshold=0.3),
    "reuse of frames": Plan(passes=3, reuse="frames"),
}


@cache
def alone(plan: str, sequence: tuple[int, ...]) -> list[tuple[int, int, list[int], bytes]]:
    """The states of a session that only steps."""
    return play(started(plan=PLANS[plan]), sequence)


@pytest.mark.parametrize("frames", [True, False])
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("plan", PLANS)
def test_every_sequence_gives_what_its_session_gives(plan: str, committed: bool, frames: bool) -> None:
    session = started(plan=PLANS[plan])
    if committed:
        session.commit()
    rollout = session.rollout(SEQUENCES, frames=frames)
    assert rollout.tokens.shape == (5, 4, 15) and rollout.tokens.dtype == np.int64
    for index, sequence in enumerate(SEQUENCES):
        states = alone(plan, sequence)
        assert rollout.tokens[index].tolist() == [tokens for _, _, tokens, _ in states]
        if frames:
            assert rollout.frames is not None
            assert rollout.frames.shape == (5, 4, 6, 10, 3) and rollout.frames.dtype == np.uint8
            assert [frame.tobytes() for frame in rollout.frames[index]] == [shown for *_, shown in states]
    if not frames:
        assert rollout.frames is None and rollout.ends == ()


def test_sequences_that_begin_alike_are_evaluated_once_as_far_as_they_do() -> None:
    session = started()
    with counted_calls(WORLD) as calls:
        session.rollout(SEQUENCES)
    assert calls == [("frame", count) for count in (2, 2, 3, 4)]


def test_the_session_stays_where_it_is() -> None:
    session, other = started(), started()
    row, before = session.row, state_of(session)
    session.peek(["left"])
    session.rollout(SEQUENCES)
    assert session.row is row and state_of(session) == before
    with counted_calls(WORLD) as calls:
        session.step("left")
    assert calls == []
    other.step("left")
    assert play(session, LED_BY) == play(other, LED_BY)
    del session, other, row
    assert used_pages(WORLD) == [0, 0, 0]


def test_one_goes_on_from_the_end_that_one_likes_best() -> None:
    session = started()
    rollout = session.rollout(SEQUENCES)
    assert rollout.frames is not None
    rollout.frames[:] = 0  # the caller's own
    for end, sequence in zip(rollout.ends, SEQUENCES, strict=True):
        session.restore(end)
        assert state_of(session) == alone("maskgit", sequence)[-1]
        assert play(session, LED_BY[:2]) == alone("maskgit", (*sequence, *LED_BY[:2]))[-2:]


def test_names_indices_and_arrays_are_the_same_actions() -> None:
    session = started()
    tokens = session.rollout([["left", "right"], ["stay", "stay"]]).tokens
    for same in ([[0, 2], ["stay", 1]], np.array([[0, 2], [1, 1]]), (iter([0, 2]), iter([1, 1]))):
        np.testing.assert_array_equal(session.rollout(same).tokens, tokens)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([], "0 sequences"),
        ([[], []], r"lengths \[0\]"),
        ([[0], [0, 1]], r"lengths \[1, 2\]"),
        ([[0, 1], [0, "fly"]], "fly"),
        (["left", "right"], r"in the place of each sequence, found 'left'; write \['left'\]"),
        ("left", "list of sequences of actions, found 'left'"),
        ([0, 1], "in the place of each sequence, found 0"),
        ([[[0]]], r"\[0\]"),
    ],
    ids=str,
)
def test_sequences_that_are_none_are_refused_before_anything_is_computed(actions: Any, message: str) -> None:
    session = started(0)
    with counted_calls(WORLD) as calls, pytest.raises(InputError, match=message):
        session.rollout(actions)
    assert calls == []


def test_nan_on_the_way_leaves_the_session_and_no_page() -> None:
    session, other = started(), started()
    row, used = session.row, used_pages(WORLD)
    with broken_weight(WORLD), pytest.raises(DeviceError):
        session.rollout(SEQUENCES)
    assert session.row is row and used_pages(WORLD) == used
    assert play(session, LED_BY) == play(other, LED_BY)


def test_before_reset_there_is_nothing_to_go_on_from() -> None:
    with pytest.raises(StateError, match="reset"):
        WORLD.session().rollout([[0]])
