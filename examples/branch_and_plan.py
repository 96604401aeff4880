"""Look ahead before acting: snapshots, forks, peeks, and rollouts as the model of a small planner.

    python examples/branch_and_plan.py --moves 4

The planner tries several action sequences in the world model, keeps the one whose last frame differs most
from the current one (so it goes where there is something new to see), plays its first action, and plans
again.
"""

import argparse

import numpy as np

import genie_rt


def undo(session: genie_rt.Session) -> None:
    """A snapshot is a reference to the state, so taking and restoring one copies no tensor."""
    moment = session.snapshot()
    after_jump = session.step("jump")
    session.restore(moment)
    again = session.step("jump")  # the same action from the same moment gives the same frame
    print("undo and repeat gives the same frame:", np.array_equal(after_jump, again))
    session.restore(moment)


def compare_chances(session: genie_rt.Session, action: str) -> None:
    """A fork goes its own way; with another seed it draws other random numbers from here on."""
    twin, other = session.fork(), session.fork(seed=session.seed + 1)
    frame = twin.step(action)
    print(
        f"another seed changes {np.mean(frame != other.step(action)):.1%} of the pixel values after {action}"
    )


def peek(session: genie_rt.Session) -> None:
    """One batch shows where every action leads; a step that was peeked at costs nothing afterwards."""
    now = session.frame.astype(int)
    for action, frame in session.peek().items():
        print(f"  {action:11} changes pixel values by {np.abs(frame - now).mean():4.1f} on average")


def plan(session: genie_rt.Session, random: np.random.Generator, horizon: int, candidates: int) -> list[str]:
    """The best of some random action sequences, each of which holds its actions for a while."""
    names = session.world.action_names
    sequences = [
        [
            names[index]
            for index in np.repeat(random.integers(len(names), size=(horizon + 1) // 2), 2)[:horizon]
        ]
        for _ in range(candidates)
    ]
    rollout = session.rollout(sequences)  # .frames: [S, T, H, W, 3]; the session stays where it is
    assert rollout.frames is not None
    ends = rollout.frames[:, -1].astype(int)
    novelty = np.abs(ends - session.frame.astype(int)).mean(axis=(1, 2, 3))
    best = int(novelty.argmax())
    print(f"  best of {candidates}: {' '.join(sequences[best])} (novelty {novelty[best]:.1f})")
    return sequences[best]


def main() -> None:
    parser = argparse.ArgumentParser(description="Look ahead with snapshots, forks, peeks and rollouts.")
    parser.add_argument("--bundle", default="demo", help="a shipped world's name, or a bundle folder")
    parser.add_argument("--moves", type=int, default=4, help="actions that the planner takes")
    parser.add_argument("--horizon", type=int, default=4, help="actions in each sequence that it tries")
    parser.add_argument("--candidates", type=int, default=6, help="sequences that it tries before each move")
    asked = parser.parse_args()

    world = genie_rt.World.load(asked.bundle)
    session, random = world.session(seed=1), np.random.default_rng(1)
    session.reset(world.prompt(0))

    undo(session)
    compare_chances(session, "right")
    print("what each action would do:")
    peek(session)
    print("planning:")
    for _ in range(asked.moves):
        session.step(plan(session, random, asked.horizon, asked.candidates)[0])
    print(f"at frame {session.frame_index}")


if __name__ == "__main__":
    main()
