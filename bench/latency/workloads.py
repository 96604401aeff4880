"""What makes the frames that are timed: sessions and baselines, all of them going on from one past."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from genie_rt.bench.latency.baseline import RecomputedRollout
from genie_rt.bench.latency.compiled import COMPILER, CompiledRollout
from genie_rt.bench.latency.frame_record import COMPILED, RECOMPUTED
from genie_rt.bench.timer import Candidate, synchronise
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.images import Picture
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World

HELD_FRAMES = 8
"""How long each action is held, in frames, before the next one's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that makes frames and is timed at it.

    Attributes:
        stats: what each frame took, in order; a run appends to it.
    """

    candidate: Candidate
    plan: Plan
    stats: list[FrameStats]

    @classmethod
    def of(cls, name: str, session: Session, *, idle_commit: bool = False) -> Workload:
        """A session that plays on; its commits are fused into the step, or made in idle time."""
        actions, stats = held_actions(session.world), list[FrameStats]()
        device = session.world.backend.device

        def run() -> None:
            session.step(next(actions))
            assert session.stats is not None  # a step sets it
            stats.append(session.stats)

        def commit() -> None:
            session.commit()
            synchronise(device)

        if idle_commit:
            commit()
        return cls(
            candidate=Candidate(name=name, run=run, after=commit if idle_commit else None),
            plan=session.plan,
            stats=stats,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A played session whose windows are full: where everything that is timed goes on from.

    Attributes:
        tokens: `[T, N]` int64, its frames' tokens. actions: the one that led to each of them. Of all frames
            since the reset if `fill` knew them all.
    """

    snapshot: Snapshot
    tokens: torch.Tensor
    actions: tuple[int, ...]

    @classmethod
    def fill(cls, session: Session, *, before: Sequence[Row] = ()) -> Past:
        """Plays on until the oldest frame has left every window.

        Args:
            before: the rows of the frames before the session's last one, in order.
        """
        config = session.world.bundle.config
        window = max(config.dynamics.transformer.window, config.tokenizer.decoder.window)
        rows = [*before, session.row]
        for action in itertools.islice(held_actions(session.world), window):
            session.step(action)
            rows.append(session.row)
        return cls(
            snapshot=session.snapshot(),
            tokens=torch.stack([row.tokens for row in rows]),
            actions=tuple(row.action for row in rows),
        )

    def session(self, plan: Plan) -> Session:
        """A session that goes on from here; it shares the pages of all others that do."""
        session = Session(self.snapshot.world, seed=0, plan=plan)
        session.restore(self.snapshot)
        return session

    def recomputed(self, plan: Plan, model: WorldModel) -> Workload:
        """The paper's recipe, going on from here."""
        return self._baseline(RECOMPUTED, RecomputedRollout, plan, model)

    def compiled(self, plan: Plan, model: WorldModel) -> Workload:
        """The same model under `torch.compile`, going on from here. Its first frames compile it."""
        return self._baseline(COMPILED, partial(CompiledRollout, compiler=COMPILER), plan, model)

    def _baseline(
        self,
        name: str,
        kind: Callable[..., RecomputedRollout | CompiledRollout],
        plan: Plan,
        model: WorldModel,
    ) -> Workload:
        row = self.snapshot.row
        rollout = kind(model, self.tokens, self.actions, row.frame_index, plan=plan, seed=row.seed)
        actions, stats = held_actions(self.snapshot.world), list[FrameStats]()

        def run() -> None:
            rollout.step(self.snapshot.world.action(next(actions)))
            assert rollout.stats is not None  # a step sets it
            stats.append(rollout.stats)

        return Workload(candidate=Candidate(name=name, run=run), plan=plan, stats=stats)


def held_actions(world: LoadedWorld) -> Iterator[int]:
    """All actions in turn, each held for a while, for ever; the same for everything that is timed."""
    held = [[index] * HELD_FRAMES for index in range(len(world.action_names))]
    return itertools.cycle(itertools.chain.from_iterable(held))


def first_picture(world: World) -> Picture:
    """The bundle's first, or plain grey: what is on it changes no time."""
    if world.prompts:
        return world.prompt(0)
    tokenizer = world.bundle.config.tokenizer
    return np.full((tokenizer.height, tokenizer.width, 3), 127, np.uint8)


def remarks(world: World) -> list[str]:
    """What a number format's name leaves open: OpenVINO computes the rest of an int8 graph in another one."""
    arithmetic = world.backend.arithmetic
    if arithmetic in (None, world.dtype):
        return []
    return [f"what is not {world.dtype} is computed in {arithmetic}"]
