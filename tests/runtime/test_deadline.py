"""A deadline is met with as many passes as fit, found quickly, and kept without going up and down."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from makers import make_actions, make_config, make_pictures, make_world, play, state_of

from genie_rt.errors import ConfigError
from genie_rt.runtime.deadline import MAX_PATIENCE, PATIENCE, WINDOW, Deadline
from genie_rt.runtime.plan import Plan

TARGET_MS = 33.0

Cost = Callable[[int, int], float]
"""Milliseconds of a frame, from its index and its passes."""


def linear(fixed: float, per_pass: float) -> Cost:
    return lambda frame, passes: fixed + per_pass * passes


def simulate(deadline: Deadline, cost: Cost, frames: int = 1000, first: int = 0) -> list[int]:
    """The passes of every frame."""
    taken = []
    for frame in range(first, first + frames):
        taken.append(deadline.passes)
        deadline.feed(deadline.passes, cost(frame, deadline.passes))
    return taken


def num_changes(taken: list[int]) -> int:
    return sum(a != b for a, b in pairwise(taken))


# Constant cost.


@pytest.mark.parametrize(
    ("fixed", "per_pass", "fits"),
    [(5, 5, 5), (20, 2, 6), (0, 8, 4), (1, 15, 2), (30, 1, 3), (0, 32.5, 1), (10, 1.1, 20)],
)
def test_a_constant_cost_is_met_within_twelve_frames_and_nothing_moves_after_the_settling(
    fixed: float, per_pass: float, fits: int
) -> None:
    taken = simulate(Deadline(TARGET_MS, 25), linear(fixed, per_pass))
    met = [fixed + per_pass * passes <= TARGET_MS for passes in taken]
    assert all(met[12:])
    assert len(set(taken[200:])) == 1
    assert fits - 2 <= taken[-1] <= fits
    assert num_changes(taken) <= 10


def test_a_deadline_that_every_plan_meets_keeps_the_most_passes() -> None:
    assert set(simulate(Deadline(TARGET_MS, 8), linear(2, 3))) == {8}


def test_a_deadline_that_no_plan_meets_takes_the_least_and_stays_there() -> None:
    for least in (1, 2):
        taken = simulate(Deadline(TARGET_MS, 25, least), linear(40, 10))
        assert set(taken[10:]) == {least}
        assert min(taken) == least


def test_it_falls_straight_and_at_most_by_half_a_change() -> None:
    taken = simulate(Deadline(TARGET_MS, 25), linear(0, 20), 20)
    assert list(dict.fromkeys(taken)) == [25, 12, 6, 3, 1]
    assert all(taken.count(passes) == 2 for passes in (25, 12, 6, 3))


# Changing cost.


def test_passes_come_back_when_the_cost_drops() -> None:
    deadline = Deadline(TARGET_MS, 8)
    assert simulate(deadline, linear(10, 10), 200)[-1] == 2
    taken = simulate(deadline, linear(2, 2), 300)
    assert taken[-1] == 8 and taken == sorted(taken)
    assert taken.index(8) <= 6 * 2 * PATIENCE


def test_passes_go_within_a_few_frames_when_the_cost_rises() -> None:
    deadline = Deadline(TARGET_MS, 8)
    assert set(simulate(deadline, linear(4, 3), 200)) == {8}
    taken = simulate(deadline, linear(12, 9), 300)
    assert all(12 + 9 * passes <= TARGET_MS for passes in taken[6:])
    assert taken[-1] == 2


def test_a_machine_that_is_slow_for_a_while_changes_nothing_for_good() -> None:
    deadline = Deadline(TARGET_MS, 8)
    for _ in range(3):
        simulate(deadline, linear(4, 3), 1000)
        assert deadline.passes == 8
        simulate(deadline, linear(16, 12), 100)
        assert deadline.passes == 1
    simulate(deadline, linear(4, 3), 1000)
    assert deadline.passes == 8


# Outliers and noise.


def test_a_single_late_frame_changes_nothing_however_late() -> None:
    taken = simulate(Deadline(TARGET_MS, 6), lambda frame, _: 500.0 if frame % 4 == 0 else 20.0)
    assert set(taken) == {6}


def test_outliers_do_not_keep_passes_from_coming_back() -> None:
    deadline = Deadline(TARGET_MS, 8)
    simulate(deadline, linear(10, 10), 100)
    taken = simulate(deadline, lambda frame, passes: 500.0 if frame % WINDOW == 0 else 2.0 + 2 * passes, 300)
    assert taken[-1] == 8


@pytest.mark.parametrize("seed", range(5))
def test_noise_with_spikes_moves_little_and_meets_the_deadline_mostly(seed: int) -> None:
    chance = random.Random(seed)

    def cost(frame: int, passes: int) -> float:
        spike = 60.0 if chance.random() < 0.02 else 0.0
        return (6 + 4 * passes) * chance.uniform(0.93, 1.07) + spike

    taken = simulate(Deadline(TARGET_MS, 12), cost, 5000)
    assert num_changes(taken[100:]) <= 60
    assert sum(6 + 4 * passes <= TARGET_MS for passes in taken) >= 0.97 * len(taken)
    assert sorted(taken)[len(taken) // 2] >= 5  # the most that fits is 6


@pytest.mark.parametrize(("low", "high"), [(29.0, 33.5), (20.0, 34.0), (10.0, 400.0)])
def test_on_a_plateau_between_two_passes_changes_become_rare(low: float, high: float) -> None:
    """The cost leaps from K = 4 to K = 5, which no straight line foretells."""
    deadline = Deadline(TARGET_MS, 12)
    taken = simulate(deadline, lambda _, passes: low * passes / 4 if passes <= 4 else high * passes / 5, 6000)
    assert num_changes(taken) <= 16 + 2 * len(taken) // MAX_PATIENCE
    assert set(taken[100:]) <= {3, 4, 5}
    assert sum(passes <= 4 for passes in taken) >= 0.98 * len(taken)


@pytest.mark.parametrize("seed", range(20))
def test_changes_are_bounded_whatever_the_times_are(seed: int) -> None:
    chance = random.Random(seed)
    deadline = Deadline(TARGET_MS, 6, 2)
    taken = simulate(deadline, lambda *_: chance.choice((1.0, 20.0, 31.0, 34.0, 100.0)), 3000)
    assert set(taken) <= {2, 3, 4, 5, 6}
    assert num_changes(taken) <= 2 * len(taken) / PATIENCE


def test_passes_that_were_not_used_do_not_count() -> None:
    """An "adaptive" plan takes 2 of 8 passes in a still scene, and all of them when it moves."""
    deadline = Deadline(TARGET_MS, 8)
    for _ in range(100):
        deadline.feed(2, 5 + 5 * 2)
    assert deadline.passes == 8
    for _ in range(20):
        deadline.feed(deadline.passes, 5 + 5 * deadline.passes)
    assert 5 + 5 * deadline.passes <= TARGET_MS


# Bounds.


def test_other_bounds_hold_at_once() -> None:
    deadline = Deadline(TARGET_MS, 8)
    deadline.limit(4)
    assert deadline.passes == 4
    deadline.limit(12, 6)
    assert deadline.passes == 6
    assert simulate(deadline, linear(0, 1), 200)[-1] == 12


def test_a_copy_knows_the_same_and_goes_its_own_way() -> None:
    deadline = Deadline(TARGET_MS, 25)
    simulate(deadline, linear(5, 5), 40)
    copy = deadline.copy()
    before = deadline.passes
    assert simulate(copy, linear(60, 60), 30)[-1] == 1
    assert deadline.passes == before
    assert simulate(deadline.copy(), linear(5, 5), 100) == simulate(deadline, linear(5, 5), 100)


@pytest.mark.parametrize("target_ms", [0, -1.0, float("nan"), float("inf"), True, "33", None])
def test_a_target_that_is_no_time_is_refused(target_ms: Any) -> None:
    with pytest.raises(ConfigError, match="target_ms"):
        Deadline(target_ms, 8)


@pytest.mark.parametrize(("most", "least"), [(0, 0), (4, 5), (4, 0), (5000, 1)])
def test_bounds_that_are_none_are_refused_and_change_nothing(most: int, least: int) -> None:
    with pytest.raises(ConfigError, match="least"):
        Deadline(TARGET_MS, most, least)
    deadline = Deadline(TARGET_MS, 8)
    with pytest.raises(ConfigError, match="least"):
        deadline.limit(most, least)
    assert (deadline.most, deadline.least, deadline.passes) == (8, 1, 8)


# In a session.

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 1)
WORLD = make_world(CONFIG)
LED_BY = make_actions(12)


class Clock:
    """Nanoseconds that pass only while the model is evaluated: so many milliseconds a pass."""

    def __init__(self, per_pass: float) -> None:
        self.now, self.per_pass = 0, per_pass

    def __call__(self) -> int:
        return self.now


def timed(monkeypatch: pytest.MonkeyPatch, per_pass: float, **options: Any) -> tuple[Any, Clock]:
    """A session with a deadline whose frames take what the clock says."""
    clock, frame = Clock(per_pass), WORLD.backend.frame
    session = WORLD.session(seed=7, target_ms=TARGET_MS, **options)

    def slow(rows: Any, actions: Any, plan: Plan, **more: Any) -> Any:
        clock.now += int(plan.passes * clock.per_pass * 1e6)
        return frame(rows, actions, plan, **more)

    monkeypatch.setattr(WORLD.backend, "frame", slow)
    session._deadline.clock_ns = clock
    session.reset(PICTURES[0])
    return session, clock


def test_without_a_target_the_plan_is_kept() -> None:
    session = WORLD.session(passes=9)
    session.reset(PICTURES[0])
    session.step(0)
    assert session._deadline is None and session.passes == session.next_plan.passes == 9


def test_a_session_takes_fewer_passes_and_a_replay_with_them_gives_its_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _ = timed(monkeypatch, per_pass=10, passes=9)
    taken, states = [], []
    for action in LED_BY:
        states += play(session, [action])
        taken.append(session.passes)
        assert session.stats is not None and session.stats.passes == session.passes
    assert taken[:2] == [9, 9] and taken[-1] == 3
    assert session.plan.passes == 9
    replay = WORLD.session(seed=7)
    replay.reset(PICTURES[0])
    for action, passes, state in zip(LED_BY, taken, states, strict=True):
        replay.plan = replay.plan.replace(passes=passes)
        assert play(replay, [action]) == [state]


def test_a_step_that_was_peeked_is_free_and_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = timed(monkeypatch, per_pass=10, passes=9)
    for action in LED_BY:
        session.peek()  # takes 90 ms, but nobody waits for it
        session.step(action)
        assert session.passes == 9


def test_another_plan_has_other_bounds_and_at_least_two_passes_if_it_reuses_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, clock = timed(monkeypatch, per_pass=100, plan=Plan(passes=5, reuse="frames"))
    play(session, LED_BY)
    assert session.passes == 2
    session.plan = Plan(passes=1)
    assert session.passes == 2 and session.next_plan == Plan(passes=1)
    play(session, LED_BY[:1])
    assert session.passes == 1
    session.plan, clock.per_pass = Plan(passes=4), 0.1
    for _ in range(5 * PATIENCE):
        session.step(0)
    assert session.passes == 4


def test_a_fork_keeps_the_deadline_and_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = timed(monkeypatch, per_pass=10, passes=9)
    play(session, LED_BY)
    fork = session.fork()
    assert fork.next_plan == session.next_plan and fork.passes == session.passes == 3
    assert state_of(fork) == state_of(session)
    assert fork._deadline is not session._deadline


def test_a_pool_gives_each_session_the_passes_of_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = timed(monkeypatch, per_pass=10, passes=9)
    pool = WORLD.pool(2, passes=3)
    pool.join(session)
    other = pool.join(seed=1)
    other.reset(PICTURES[0])
    for action in LED_BY:
        pool.step({session: action, other: action})
    assert session.passes <= 2  # what it waits for is the whole call, its neighbour's 30 ms with it
    assert other.passes == 3


@pytest.mark.parametrize("target_ms", [0, -5, float("nan"), "fast"])
def test_a_session_with_a_target_that_is_none_is_refused(target_ms: Any) -> None:
    with pytest.raises(ConfigError, match="target_ms"):
        WORLD.session(target_ms=target_ms)
