"""Does a world last? Play random actions for a long time and look at single frames.

    python examples/long_play.py demo --steps 2000 --out long-play.png

Writes the frames at a few steps side by side and prints the spread of each (standard deviation of its pixels,
0 to 255): a world that has collapsed shows one colour, so its spread is small.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import genie_rt


def play(world: genie_rt.World, shown: list[int], prompt: int, seed: int) -> list[np.ndarray]:
    """The frames at the steps in `shown` (ascending, 0 is the prompt), each [H, W, 3] uint8."""
    random = np.random.default_rng(seed)
    session = world.session(seed=seed)
    frame = session.reset(world.prompt(prompt))
    frames = []
    for step in range(shown[-1] + 1):
        if step > 0:
            frame = session.step(int(random.integers(len(world.action_names))))
        if step in shown:
            frames.append(frame)
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description="Play random actions and look at single frames.")
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--prompt", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("long-play.png"))
    asked = parser.parse_args()

    world = genie_rt.World.load(asked.bundle)
    shown = sorted({round(asked.steps * share) for share in (0, 0.016, 0.128, 0.25, 0.5, 0.75, 1)})
    frames = play(world, shown, asked.prompt, asked.seed)
    for step, frame in zip(shown, frames, strict=True):
        print(f"step {step:6}: spread {frame.std():5.1f}")
    strip = Image.fromarray(np.concatenate(frames, axis=1))
    strip.resize((strip.width * 2, strip.height * 2), Image.Resampling.NEAREST).save(asked.out)
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
