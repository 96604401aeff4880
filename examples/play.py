"""Play a few actions from Python and keep the frames.

    python examples/play.py --actions right right right+jump --out frames

The whole of the basic interface: load a world, open a session, `reset` it with a picture, then one `step` per
action.
"""

import argparse
from pathlib import Path

from PIL import Image

import genie_rt


def main() -> None:
    parser = argparse.ArgumentParser(description="Play a few actions and save every frame as a PNG.")
    parser.add_argument("--bundle", default="demo", help="a shipped world's name, or a bundle folder")
    parser.add_argument("--actions", nargs="+", default=["right"] * 8 + ["right+jump"] * 4)
    parser.add_argument("--out", type=Path, default=Path("frames"), help="folder for the pictures")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)

    # "auto" takes the fastest back end that is installed. The warm-up compiles everything that play needs, so
    # that the first frame is as fast as the others.
    world = genie_rt.World.load(asked.bundle, warm_up=True)
    print(f"{world}\nactions: {', '.join(world.action_names)}")

    # The same seed, picture and actions give the same frames.
    session = world.session(seed=7)
    frame = session.reset(world.prompt(0))  # [H, W, 3] uint8; any picture of the world's size will do
    Image.fromarray(frame).save(asked.out / "000-start.png")

    for number, action in enumerate(asked.actions, 1):
        frame = session.step(action)  # a name or an index
        Image.fromarray(frame).save(asked.out / f"{number:03}-{action}.png")
    print(f"wrote {len(asked.actions) + 1} frames to {asked.out}")


if __name__ == "__main__":
    main()
