"""Milliseconds per frame of many plans or worlds at batch 1, all in one interleaved run, on real scenes.

What "adaptive" takes depends on what is seen, so every session plays true actions from true frames: it starts
after a prompt that fills every window, plays a few steps and goes on with the next clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from genie_rt.bench.quality.measure import Protocol, plan_name, same_function
from genie_rt.bench.timer import Candidate, measure
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clips import TrueClips

CLIPS = 8
STEPS = 8
"""Clips that are played, and steps of each before the next one's turn."""

WARM_UP_STEPS = 1
"""Steps after a prompt that are not timed: what a plan keeps between frames is not there yet."""


def time_plans(
    world: World,
    clips: TrueClips,
    protocol: Protocol,
    plans: Sequence[Plan],
    *,
    iterations: int,
    warm_up_s: float = 1.0,
    on_round: Callable[[], object] | None = None,
) -> dict[str, dict[str, float]]:
    """Time a step of every plan, by `plan_name`; plans that are the same function are timed once.

    Args, Returns: as of `time_worlds`.
    """
    distinct = {plan_name(same_function(plan)): same_function(plan) for plan in plans}
    ms = time_worlds(
        {world: distinct}, clips, protocol, iterations=iterations, warm_up_s=warm_up_s, on_round=on_round
    )
    return {plan_name(plan): ms[plan_name(same_function(plan))] for plan in plans}


def time_worlds(
    players: Mapping[World, Mapping[str, Plan]],
    clips: TrueClips,
    protocol: Protocol,
    *,
    iterations: int,
    warm_up_s: float = 1.0,
    on_round: Callable[[], object] | None = None,
) -> dict[str, dict[str, float]]:
    """Time a step of every player twice: with the commit included, and with the commit in idle time.

    Args:
        players: each world's plans, by the name of the player.
        iterations: rounds that count.
        on_round: called after each round.

    Returns:
        By name: "p50_ms" and "p95_ms" of a step that commits, "idle_p50_ms" of one that finds its commit
        done.
    """
    candidates, names = [], []
    for world, plans in players.items():
        moments = _moments(world, clips, protocol)
        for name, plan in plans.items():
            world.warm_up(plan)
            candidates.append(_candidate(name, world.session(plan=plan), moments, idle=False))
            candidates.append(_candidate(f"{name} idle", world.session(plan=plan), moments, idle=True))
            names.append(name)
    taken = measure(candidates, iterations=iterations, warm_up_s=warm_up_s, on_round=on_round)
    return {
        name: {
            "p50_ms": taken[name].percentile_ms(50),
            "p95_ms": taken[name].percentile_ms(95),
            "idle_p50_ms": taken[f"{name} idle"].percentile_ms(50),
        }
        for name in names
    }


def _moments(world: World, clips: TrueClips, protocol: Protocol) -> list[tuple[Snapshot, list[int]]]:
    """List the snapshots that sessions start from, and the actions that follow."""
    seen, session, found = protocol.seen[-1], world.session(), []
    for frames, actions in zip(clips.frames[:CLIPS], clips.actions[:CLIPS], strict=True):
        session.reset(frames[:seen], actions[1:seen].tolist())
        found.append((session.snapshot(), actions[seen : seen + WARM_UP_STEPS + STEPS].tolist()))
    return found


def _candidate(
    name: str, session: Session, moments: Sequence[tuple[Snapshot, list[int]]], *, idle: bool
) -> Candidate:
    actions = _play(session, moments, idle)
    state = [next(actions)]

    def prepare() -> None:
        if idle:
            session.commit()
        state[0] = next(actions)

    return Candidate(name=name, run=lambda: session.step(state[0]), after=prepare)


def _play(session: Session, moments: Sequence[tuple[Snapshot, list[int]]], idle: bool) -> Iterator[int]:
    """Actions for ever; sets the session back when a clip's are spent."""
    for snapshot, actions in itertools.cycle(moments):
        session.restore(snapshot)
        for action in actions[:WARM_UP_STEPS]:
            session.step(action)
        if idle:
            session.commit()
        yield from actions[WARM_UP_STEPS:]
