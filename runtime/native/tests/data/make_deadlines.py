"""Writes deadlines.txt: what `genie_rt.runtime.deadline.Deadline` decides, for test_deadline.cpp.

    python runtime/native/tests/data/make_deadlines.py

A line is a run: its numbers, then the passes K that it went through, each with the number of frames. Both
sides make up the same times: see `run`.
"""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path

from genie_rt.runtime.deadline import Deadline

NUM_FRAMES = 3000
NAMES = "seed target most least fixed unit jitter spikes slow_from slow_by adaptive limit_at limit_most"


def run(
    seed: int,
    target: int,  # microseconds, as all times here
    most: int,
    least: int,
    fixed: int,  # of a frame of no passes
    unit: int,  # of a pass
    jitter: int,  # thousandths, at most
    spikes: int,  # one frame in so many takes four times as long; 0: none
    slow_from: int,  # from that frame on, for 700 frames,
    slow_by: int,  # everything takes so many thousandths more
    adaptive: int,  # 1: frames take fewer passes at random
    limit_at: int,  # then the most passes become `limit_most`
    limit_most: int,
) -> list[int]:
    """K of every frame."""
    deadline = Deadline(target / 1000.0, most, least)
    state, chosen = seed, []
    for frame in range(NUM_FRAMES):
        if frame == limit_at:
            deadline.limit(limit_most, min(least, limit_most))
        chosen.append(deadline.passes)
        state = (1664525 * state + 1013904223) % 2**32
        draw = state >> 8
        used = 1 + draw % deadline.passes if adaptive else deadline.passes
        ms = (fixed / 1000.0 + unit / 1000.0 * used) * (1.0 + draw / 16777216.0 * (jitter / 1000.0))
        if spikes and draw % spikes == 0:
            ms = ms * 4.0
        if slow_from <= frame < slow_from + 700:
            ms = ms * (1.0 + slow_by / 1000.0)
        deadline.feed(used, ms)
    return chosen


def table() -> str:
    """The file's text."""
    rng = random.Random(0)
    lines = ["# " + NAMES + " : K frames, K frames, ... (make_deadlines.py)"]
    for seed in range(120):
        most = rng.choice([1, 2, 3, 4, 8, 25, 64, 4096])
        least = rng.randint(1, min(most, 4))
        target = rng.choice([4000, 16667, 33333])
        fixed = round(target * rng.choice([0, 0.05, 0.3, 0.7, 1.2]))
        unit = max(1, round(target * rng.uniform(0.2, 2.5) / most))
        numbers = [
            seed,
            target,
            most,
            least,
            fixed,
            unit,
            rng.choice([0, 20, 150, 600]),
            rng.choice([0, 0, 7, 50]),
            rng.choice([NUM_FRAMES, 400, 1500]),
            rng.choice([300, 1000, 5000]),
            int(rng.random() < 0.25),
            rng.choice([NUM_FRAMES, NUM_FRAMES, 900]),
            rng.randint(1, 2 * most) if most < 4096 else 4096,
        ]
        runs = [f"{passes} {len([*frames])}" for passes, frames in groupby(run(*numbers))]
        lines.append(" ".join(map(str, numbers)) + " : " + ", ".join(runs))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("deadlines.txt").write_text(table())
