"""Many players in one world: a pool steps them in one batch, and they come and go as they like.

python examples/many_players.py --players 4 --steps 8
"""

import argparse

import numpy as np

import genie_rt


def main() -> None:
    parser = argparse.ArgumentParser(description="Step several sessions in one batch.")
    parser.add_argument("--bundle", default="demo", help="a shipped world's name, or a bundle folder")
    parser.add_argument("--players", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()

    world = genie_rt.World.load(asked.bundle)
    world.warm_up(slots=asked.players)  # makes ready what a full pool needs
    pool = world.pool(asked.players)  # takes the memory of all slots at once

    # Everybody joins with a seed and starts from a picture of their own.
    players = [pool.join(seed=seed) for seed in range(asked.players)]
    for number, player in enumerate(players):
        player.reset(world.prompt(number % len(world.prompts)))

    random = np.random.default_rng(0)
    for _ in range(asked.steps):
        # One call, one batch: an action by session in, a frame by session out. Who is left out stands still.
        actions = {player: int(random.integers(len(world.action_names))) for player in players}
        frames = pool.step(actions)
        pool.commit()  # optional, in idle time
    print(f"{len(frames)} players at frame {players[0].frame_index}")

    # A player may leave, go on alone, and come back; nothing is copied. The frames do not depend on who else
    # is in the batch (bit for bit on a CPU, within rounding on a GPU).
    guest = players[0]
    pool.leave(guest)
    guest.step("right")
    pool.join(guest)
    print(f"{len(pool)} of {pool.slots} slots taken; the guest is at frame {guest.frame_index}")


if __name__ == "__main__":
    main()
