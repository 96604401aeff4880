"""Everything that sessions of a plan will ask of a back end, made ready before somebody waits for it."""

from __future__ import annotations

import numpy as np

from genie_rt.runtime.arguments import whole_number
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.pool import MAX_SLOTS, SessionPool
from genie_rt.runtime.session import Session

GREY = 127
"""Value of the pictures to play from; their content does not matter."""

NUM_FRAMES = 2
"""Frames to play of every kind: with `reuse="frames"` only the second has something to reuse."""

MAX_PROMPT_FRAMES = 4096


def warm_up(world: LoadedWorld, plan: Plan, *, slots: int, peek: int, prompt_frames: int) -> None:
    """Plays some frames the way that sessions do, and forgets them; see `World.warm_up`.

    A back end gets ready by being used, so this asks for what they will ask for, in the order in which they
    do, and nothing has to be kept in step with how each back end works. What they share stays as it is:
    rows are immutable, their pages go back, and random numbers are counted by seed and frame.
    """
    num_actions = len(world.action_names)
    slots, peek, prompt_frames = (
        whole_number(value, least, most, f"{name}: expected a whole number from {least} to {most}")
        for name, value, least, most in (
            ("slots", slots, 1, MAX_SLOTS),
            ("peek", peek, 0, num_actions),
            ("prompt_frames", prompt_frames, 1, MAX_PROMPT_FRAMES),
        )
    )
    backend = world.backend
    # first, since what is captured knows where pages lie; what a frame reuses is a page or two more
    backend.reserve(2 * slots if plan.reuse == "frames" else slots)
    start = Session(world, seed=0, plan=plan)
    tokenizer = world.bundle.config.tokenizer
    pictures = np.full((prompt_frames, tokenizer.height, tokenizer.width, 3), GREY, np.uint8)
    start.reset(pictures, [0] * (prompt_frames - 1))
    for commits in (False, True) if backend.commits_ahead(plan) else (False,):
        for size in backend.batches(plan, slots):
            pool = SessionPool(world, size, plan=plan)
            for seed in range(size):
                pool.join(start.fork(seed=seed))
            for _ in range(NUM_FRAMES):
                if commits:
                    pool.commit()
                pool.step(dict.fromkeys(pool.sessions, 0))
    for size in backend.batches(plan, peek) if peek else ():
        session = start.fork()
        for _ in range(NUM_FRAMES):
            session.peek(range(size))
            session.step(0)
