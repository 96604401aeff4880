"""A session pool: many players in one batch, who come and go."""

from __future__ import annotations

from collections.abc import Mapping

from genie_rt.errors import ConfigError, InputError, StateError
from genie_rt.runtime.arguments import found, whole_number
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.images import Picture
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Moment, Session, advance, check_plan
from genie_rt.runtime.turn import Home, Turn, Uncopied, exclusive, together

MAX_SLOTS = 65536


class SessionPool(Uncopied):
    """Steps the sessions of several players in one batch, which costs less than one after the other.

    A session in the pool is a session like any other: it is reset, peeked, saved and restored by its own
    methods, may step on its own as well, and gives the same frames whoever else is in the batch: to the last
    bit where `world.backend.batch_invariant`, within rounding elsewhere (see `Session`). Joining and leaving
    copy nothing. A call that raises leaves the pool and all sessions as they were.

    One method at a time, of the pool and of each session that it steps: a call while another thread is in
    one raises `StateError`, and so do all calls in a fork of the process that loaded the world.

    Args:
        world: of all its sessions.
        slots: how many sessions it takes.
        plan: of the sessions that `join` makes. Those that come with plans of their own keep them; sessions
            whose next plans are equal share a batch.

    Raises:
        InputError: it is no `Plan`.
        ConfigError: no such number of slots, or the model cannot decode with the plan.
    """

    def __init__(self, world: LoadedWorld, slots: int, *, plan: Plan) -> None:
        asked = f"slots: expected a whole number from 1 to {MAX_SLOTS}"
        self.world = world
        self.turn = Turn("pool")
        self.slots = whole_number(slots, 1, MAX_SLOTS, asked, error=ConfigError)
        self.plan = check_plan(plan, world)
        self._sessions: dict[Session, None] = {}  # a set that keeps the order

    instead = "make one of the same world with world.pool(slots), and let sessions join it"

    @property
    def home(self) -> Home:
        """The process that it belongs to."""
        return self.world.home

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Who is in, in the order of joining."""
        return tuple(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: object) -> bool:
        return isinstance(session, Session) and session in self._sessions

    @exclusive
    def join(self, session: Session | None = None, *, seed: int = 0) -> Session:
        """Takes a session in.

        Args:
            session: one of this world, at any moment; None makes a new one, still without a picture.
            seed: of the new one.

        Returns:
            The session.

        Raises:
            StateError: the pool is full, or the session is in it.
            InputError: it is no session of this world, or the seed is out of range.
        """
        if session is not None:
            self._check_own(session)
            if session in self._sessions:
                raise StateError("the session is in this pool already; it can step from there")
        if len(self._sessions) >= self.slots:
            raise StateError(
                f"expected at most {self.slots} sessions in this pool, and it is full; let one leave, or "
                "make a pool with more slots"
            )
        if session is None:
            session = Session(self.world, seed=seed, plan=self.plan)
        self._sessions[session] = None
        return session

    @exclusive
    def leave(self, session: Session) -> None:
        """Lets a session go; it can be played on alone, or in another pool.

        Raises:
            StateError: it is not in this pool.
        """
        self._check_joined(session)
        del self._sessions[session]

    @exclusive
    def step(self, actions: Mapping[Session, str | int]) -> dict[Session, Picture]:
        """One step of some sessions; the others stand still.

        Those that peeked at their action take it for nothing. A session with a deadline counts the time of
        the whole call, which is what its player waits for.

        Args:
            actions: name or index by session.

        Returns:
            `[Hout, Wout, 3]` uint8 by session, in the order given.

        Raises:
            StateError: a session is not in this pool, has not been reset, or is in use in another thread.
            InputError: an action is unknown, or these are no actions by session.
            DeviceError: the model gave NaN or Inf, for whichever of them.
        """
        if not isinstance(actions, Mapping):
            raise InputError(
                f"expected actions by session, found {found(actions)}; write {{session: action, ...}}"
            )
        led_by = dict(actions)
        for session in led_by:
            self._check_joined(session)
        with together((session.turn for session in led_by), "step of the pool"):
            return self._step(led_by)

    def _step(self, actions: dict[Session, str | int]) -> dict[Session, Picture]:
        start_ns: dict[Session, int] = {}  # of those that are not known already
        moments: dict[Session, Moment] = {}
        batches: dict[Plan, list[tuple[Session, Row, int]]] = {}
        for session, action in actions.items():
            row, index = session.row, self.world.action(action)
            known = session.peeked(index)
            if known is None:
                start_ns[session] = session.clock_ns()
                batches.setdefault(session.next_plan, []).append((session, row, index))
            else:
                moments[session] = known
        for plan, batch in batches.items():
            sessions, rows, indices = zip(*batch, strict=True)
            moments |= zip(sessions, advance(self.world.backend, rows, indices, plan), strict=True)
        took_ms = {session: (session.clock_ns() - start) / 1e6 for session, start in start_ns.items()}
        if any(moments[session].stats.cold for session in start_ns):  # all waited for it
            took_ms.clear()
        return {session: session.take(moments[session], took_ms=took_ms.get(session)) for session in actions}

    @exclusive
    def commit(self) -> None:
        """Commits the last frames of all sessions that have one to commit, in idle time; see `Session`.

        Raises:
            StateError: a session is in use in another thread.
            DeviceError: the device failed.
        """
        backend = self.world.backend
        with together((session.turn for session in self._sessions), "commit of the pool"):
            pending = [
                session
                for session in self._sessions
                if session.is_pending and backend.commits_ahead(session.next_plan)
            ]
            rows = backend.commit([session.row for session in pending]) if pending else []
            for session, row in zip(pending, rows, strict=True):
                session.committed(row)

    def _check_own(self, session: Session) -> None:
        if not isinstance(session, Session):
            raise InputError(f"expected a session, found {found(session)}; world.session() gives one")
        if session.world is not self.world:
            raise InputError(
                f"expected a session of the world {self.world.bundle.name!r} of this pool, found one of "
                f"{session.world.bundle.name!r} as it was loaded elsewhere; join a pool of that world"
            )

    def _check_joined(self, session: Session) -> None:
        self._check_own(session)
        if session not in self._sessions:
            raise StateError("the session is not in this pool; call join(session) first")
