"""Drive a world from a game loop of your own, at a fixed rate.

    python examples/engine_loop.py --frames 60 --fps 20
    python examples/engine_loop.py --frames 60 --fps 20 --adaptive

Two ways to keep the rate:

- `step_async` starts a frame and returns at once, so the loop does its other work (physics, sound, network)
  while a GPU computes. On a CPU the frame is computed within the call.
- `target_ms` lets the session pick the number of passes, frame by frame, so that each arrives in time. It has
  to know what a frame took, so it goes with `step`, not with `step_async`.
"""

import argparse
import time
from collections.abc import Iterator

import genie_rt


def keys(num_frames: int) -> Iterator[str]:
    """What the player holds down; a game reads its input here."""
    script = ["right"] * 10 + ["right+jump"] * 6 + ["left"] * 4
    for frame in range(num_frames):
        yield script[frame % len(script)]


def show(frame: object) -> None:
    """A game uploads the frame to a texture here."""


def do_other_work() -> None:
    """Physics, sound, network: whatever a game does between two frames."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Play at a fixed rate.")
    parser.add_argument("--bundle", default="demo", help="a shipped world's name, or a bundle folder")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--fps", type=float, default=20.0)
    parser.add_argument("--adaptive", action="store_true", help="let target_ms pick the passes")
    asked = parser.parse_args()
    period_s = 1 / asked.fps

    world = genie_rt.World.load(asked.bundle, warm_up=True)
    # Leave a tenth of the period for everything else.
    target_ms = 0.9e3 * period_s if asked.adaptive else None
    session = world.session(seed=3, target_ms=target_ms)
    show(session.reset(world.prompt(0)))

    late, passes = 0, []
    due = time.perf_counter()
    for action in keys(asked.frames):
        due += period_s
        if asked.adaptive:
            frame = session.step(action)
        else:
            pending = session.step_async(action)
            do_other_work()
            frame = pending.wait()
        show(frame)
        passes.append(session.passes)
        # The frame is on the screen: use the idle time to prepare the next one. This changes no frame, and
        # has no effect where a back end does it within the next frame anyway.
        session.commit()

        left_s = due - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)
        else:
            late += 1
            due -= left_s  # do not try to catch up
    took = f"{min(passes)} to {max(passes)} passes each"
    print(f"{asked.frames} frames at {asked.fps:g} Hz: {late} late, {took}")


if __name__ == "__main__":
    main()
