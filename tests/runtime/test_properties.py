"""Whatever is called in whatever order, every session is where its surviving steps alone would have led it.

Hypothesis calls sessions, snapshots and a pool at random. Beside each session runs its *history*: the
picture of the reset, and seed, action and passes of each step that was not undone. A second world, in which
nothing but plain steps ever happens, says where a history leads.
"""

import gc
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from makers import make_config, make_pictures, make_world, state_of, used_pages

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.snapshot import Snapshot

CONFIG = make_config(grid=(2, 2), window=3, num_layers=1)
PICTURES = make_pictures(CONFIG, 2)
YARDSTICK = make_world(CONFIG)
PLAN = Plan(passes=2)

Step = tuple[int, int, int]
"""Seed, action and passes."""

History = tuple[int, tuple[Step, ...]]
"""Picture of the reset, and the steps since."""

KNOWN: dict[History, Snapshot] = {}
"""Where histories lead, in the yardstick."""

MAX_SESSIONS = 4
SEEDS = st.integers(0, 3) | st.just(2**64 - 1)
ACTIONS = st.integers(0, 2)
WHICH = st.sampled_from((0, 0, 0, 1, 2, 3))  # one of them lives through more than the others


def moment(history: History) -> Snapshot:
    """Where a history leads, by a step from where it led before."""
    if history not in KNOWN:
        picture, steps = history
        session = YARDSTICK.session(plan=PLAN)
        if steps:
            seed, action, passes = steps[-1]
            session.restore(moment((picture, steps[:-1])))
            session = session.fork(seed=seed)
            session.plan = PLAN.replace(passes=passes)
            session.step(action)
        else:
            session.reset(PICTURES[picture])
        KNOWN[history] = session.snapshot()
    return KNOWN[history]


class Player:
    """A session and what should have become of it."""

    def __init__(self, session: Session, history: History) -> None:
        self.session, self.history = session, history

    def led_by(self, *actions: int) -> History:
        """The history that these actions would make of it."""
        picture, steps = self.history
        seed, passes = self.session.seed, self.session.plan.passes
        return picture, (*steps, *((seed, action, passes) for action in actions))


class Game(RuleBasedStateMachine):
    """Up to four sessions, one pool for three of them, and a shelf of snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.world = make_world(CONFIG)
        self.players: list[Player] = []
        self.shelf: list[tuple[Snapshot, int, History]] = []
        self.pool = self.world.pool(MAX_SESSIONS - 1, plan=PLAN)

    def player(self, which: int) -> Player:
        return self.players[which % len(self.players)]

    @initialize(seed=SEEDS, other=SEEDS)
    def begin(self, seed: int, other: int) -> None:
        for picture, key in enumerate((seed, other)):
            session = self.world.session(seed=key, plan=PLAN)
            session.reset(PICTURES[picture])
            self.players.append(Player(session, (picture, ())))

    # One session.

    @rule(which=WHICH, picture=st.integers(0, 1))
    def reset(self, which: int, picture: int) -> None:
        player = self.player(which)
        player.session.reset(PICTURES[picture])
        player.history = (picture, ())

    @rule(which=WHICH, actions=st.lists(ACTIONS, min_size=1, max_size=3))
    def step(self, which: int, actions: list[int]) -> None:
        player = self.player(which)
        for action in actions:
            player.history = player.led_by(action)
            assert player.session.step(action).tobytes() == moment(player.history).frame.tobytes()

    @rule(which=WHICH)
    def commit(self, which: int) -> None:
        self.player(which).session.commit()

    @rule(which=WHICH, passes=st.integers(1, 3))
    def change_passes(self, which: int, passes: int) -> None:
        session = self.player(which).session
        session.plan = session.plan.replace(passes=passes)

    @rule(which=WHICH, actions=st.lists(ACTIONS, max_size=3))
    def peek(self, which: int, actions: list[int]) -> None:
        player = self.player(which)
        for name, frame in player.session.peek(actions).items():
            action = self.world.action_names.index(name)
            assert frame.tobytes() == moment(player.led_by(action)).frame.tobytes()

    @rule(which=WHICH, action=ACTIONS, passes=st.integers(1, 3))
    def change_passes_after_a_peek(self, which: int, action: int, passes: int) -> None:
        self.peek(which, [action])
        self.change_passes(which, passes)
        self.step(which, [action])

    @rule(
        which=WHICH,
        sequences=st.integers(1, 3).flatmap(
            lambda length: st.lists(
                st.lists(ACTIONS, min_size=length, max_size=length), min_size=1, max_size=4
            )
        ),
        frames=st.booleans(),
    )
    def rollout(self, which: int, sequences: list[list[int]], frames: bool) -> None:
        player = self.player(which)
        rollout = player.session.rollout(sequences, frames=frames)
        for s, sequence in enumerate(sequences):
            for t in range(len(sequence)):
                expected = moment(player.led_by(*sequence[: t + 1]))
                np.testing.assert_array_equal(rollout.tokens[s, t], expected.row.tokens)
                if rollout.frames is not None:
                    np.testing.assert_array_equal(rollout.frames[s, t], expected.frame)
        if frames:
            self.shelf.append((rollout.ends[-1], player.session.seed, player.led_by(*sequences[-1])))

    # Several moments.

    @rule(which=WHICH, as_bytes=st.booleans())
    def snapshot(self, which: int, as_bytes: bool) -> None:
        player = self.player(which)
        snapshot = player.session.snapshot()
        if as_bytes:
            snapshot = self.world.load_snapshot(snapshot.to_bytes())
        self.shelf.append((snapshot, player.session.seed, player.history))

    @precondition(lambda self: self.shelf)
    @rule(which=WHICH, index=st.integers(0, 7), forget=st.booleans())
    def restore(self, which: int, index: int, forget: bool) -> None:
        player = self.player(which)
        index %= len(self.shelf)
        snapshot, seed, player.history = self.shelf[index]
        player.session.restore(snapshot)
        assert player.session.seed == seed
        if forget:
            del self.shelf[index]

    @rule(which=WHICH, seed=st.none() | SEEDS)
    def fork(self, which: int, seed: int | None) -> None:
        player = self.player(which)
        fork = Player(player.session.fork(seed=seed), player.history)
        if len(self.players) == MAX_SESSIONS:
            self.drop(which + 1)
        self.players.append(fork)

    @precondition(lambda self: len(self.players) > 1)
    @rule(which=WHICH)
    def drop(self, which: int) -> None:
        player = self.players.pop(which % len(self.players))
        if player.session in self.pool:
            self.pool.leave(player.session)

    # The pool.

    @rule(which=WHICH)
    def join_or_leave(self, which: int) -> None:
        session = self.player(which).session
        if session in self.pool:
            self.pool.leave(session)
        elif len(self.pool) < self.pool.slots:
            self.pool.join(session)

    @precondition(lambda self: len(self.pool))
    @rule(actions=st.lists(st.none() | ACTIONS, min_size=MAX_SESSIONS, max_size=MAX_SESSIONS))
    def step_pool(self, actions: list[int | None]) -> None:
        stepping = {
            player: action
            for player, action in zip(self.players, actions, strict=False)
            if action is not None and player.session in self.pool
        }
        histories = {player: player.led_by(action) for player, action in stepping.items()}
        frames = self.pool.step({player.session: action for player, action in stepping.items()})
        for player, history in histories.items():
            player.history = history
            assert frames[player.session].tobytes() == moment(history).frame.tobytes()

    @rule()
    def commit_pool(self) -> None:
        self.pool.commit()

    # What holds at all times, and at the end.

    @invariant()
    def every_session_is_where_its_steps_led(self) -> None:
        for player in self.players:
            assert_at(player.session, player.history)

    def teardown(self) -> None:
        self.every_session_goes_on_as_it_should()
        self.players.clear()
        self.shelf.clear()
        del self.pool
        gc.collect()
        assert used_pages(self.world) == [0, 0, 0]

    def every_session_goes_on_as_it_should(self) -> None:
        """A page that is wrong shows in the frames that follow."""
        for player in self.players:
            for action in (1, 2):
                player.history = player.led_by(action)
                player.session.step(action)
                assert_at(player.session, player.history)


def assert_at(session: Session, history: History) -> None:
    expected: Any = moment(history)
    seed, frame_index, tokens, frame = state_of(session)
    assert seed == session.seed
    assert frame_index == len(history[1])
    assert tokens == expected.row.tokens.tolist()
    assert frame == expected.frame.tobytes()


Game.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, derandomize=True)
TestGame = Game.TestCase
