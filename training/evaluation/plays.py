"""Whether a key does in the world what it does in the real game: the side to which the scene moves.

Moments have momentum: where the player falls, the scene moves up whatever key is held. So beside each share
stands that of a world that ignores the keys: how often the real game's scene moves to that side with no key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.displacement import displacements
from genie_rt.training.evaluation.effects import HELD_STEPS, MOVED
from genie_rt.training.evaluation.intervals import Interval, wilson
from genie_rt.training.evaluation.rollout import Rollouts, play_scripts
from genie_rt.training.evaluation.scripts import held
from genie_rt.training.evaluation.starts import GameStarts
from genie_rt.training.evaluation.tables import make_table, share

Axis = Literal["x", "y"]

KEYS: dict[str, Axis] = {"left": "x", "right": "x", "jump": "y"}
"""Keys and the axis along which each moves the scene."""

NO_KEY = "stay"

_WAYS = {"x": "sideways", "y": "up or down"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlays:
    """One key, held from each start in the real game and in the world.

    Attributes:
        name: of the key.
        axis: "x" sideways, "y" up and down.
        num_moved: starts in which the real game's scene moves by at least `MOVED` pixels along the axis and
            the level does not end.
        num_agree: of these, those in which the world's scene moves to the same side; not at all is another.
        agree_share, agree_share_interval: their share and its Wilson interval, None where none moved.
        num_without: of these, those in which the real game's scene moves to that side with no key held.
        without_share: their share.
        real_pixels, world_pixels: mean displacement of the starts that moved, right and down positive.
    """

    name: str
    axis: Axis
    num_moved: int
    num_agree: int
    agree_share: float | None
    agree_share_interval: Interval | None
    num_without: int
    without_share: float | None
    real_pixels: float | None
    world_pixels: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plays:
    """All keys that the world has a name for; `skipped` are the others."""

    num_starts: int
    num_steps: int
    moved_pixels: int
    skipped: tuple[str, ...]
    keys: tuple[KeyPlays, ...]


def measure_plays(
    rollouts: Rollouts,
    starts: GameStarts,
    prompts: TrueClips,
    actions: Mapping[str, int],
    plan: Plan,
    *,
    seed: int = 0,
    batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> Plays | None:
    """Hold each key for `HELD_STEPS` from every start, in the real game and in the world.

    Args: as of `measure_true_branches`.

    Returns:
        None where the world has none of these keys.
    """
    names = [name for name in KEYS if name in actions]
    if not names:
        return None
    num = len(prompts.frames)
    choices = np.array([actions[name] for name in names])
    scripts = held(choices, num, HELD_STEPS)
    shown = play_scripts(
        rollouts, prompts.frames, prompts.actions, scripts, plan, seed=seed, batch=batch, advance=advance
    )

    def game(name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Displacements `[N, 2]` of the real game, and whether its level went on."""
        frames, alive = starts.branch(np.full((num, HELD_STEPS), starts.action_names.index(name)))
        return displacements(frames), alive[:, -1]

    still, _ = game(NO_KEY)
    keys = []
    for place, name in enumerate(names):
        axis = "xy".index(KEYS[name])
        displaced, alive = game(name)
        real, world = displaced[:, axis], displacements(shown[:, place])[:, axis]
        counted = alive & (np.abs(real) >= MOVED)
        agree, without = (
            int((np.sign(real) == np.sign(other))[counted].sum()) for other in (world, still[:, axis])
        )
        moved = int(counted.sum())
        keys.append(
            KeyPlays(
                name=name,
                axis=KEYS[name],
                num_moved=moved,
                num_agree=agree,
                agree_share=agree / moved if moved else None,
                agree_share_interval=wilson(agree, moved),
                num_without=without,
                without_share=without / moved if moved else None,
                real_pixels=float(real[counted].mean()) if moved else None,
                world_pixels=float(world[counted].mean()) if moved else None,
            )
        )
    return Plays(
        num_starts=num,
        num_steps=HELD_STEPS,
        moved_pixels=MOVED,
        skipped=tuple(name for name in KEYS if name not in actions),
        keys=tuple(keys),
    )


def plays_table(figures: Plays) -> Table:
    """Make the table of the report."""
    skipped = f" The world has no name for {', '.join(figures.skipped)}." if figures.skipped else ""
    table = make_table(
        f"Plays as the game does: each key held for {figures.num_steps} steps from "
        f"{plural(figures.num_starts, 'moment')} of the real game",
        ("key", "looked at", "moments", "same side", "no key", "game px", "world px"),
        f"Of the moments in which the game's scene moves by {figures.moved_pixels} pixels or more that way, "
        "how many move to the same side in the world, with a 95% interval. No key: what a world that ignores "
        f"the keys would reach. Pixels: mean displacement, right and down positive.{skipped}",
    )
    for key in figures.keys:
        pixels = ("-" if x is None else f"{x:+.1f}" for x in (key.real_pixels, key.world_pixels))
        agreed = share(key.num_agree, key.num_moved, key.agree_share_interval)
        without = "-" if key.without_share is None else f"{key.without_share:.0%}"
        table.add_row(key.name, _WAYS[key.axis], str(key.num_moved), agreed, without, *pixels)
    return table
