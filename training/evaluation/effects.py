"""Whether an action does the same from different starts: how it moves the scene when it is held.

A scene moves by itself too: who runs or falls goes on for a while, whatever is done. So the effect of action
`a` from start `s` is its displacement beside that of the other actions from the same start,

    e(a, s) = d(a, s) - mean over actions of d(., s)

where d is how far the scene moves while the action is held. A world that ignores its actions has no effects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.displacement import displacements
from genie_rt.training.evaluation.intervals import Floats, Interval, mean_interval, wilson
from genie_rt.training.evaluation.rollout import Rollouts, play_scripts
from genie_rt.training.evaluation.scripts import held
from genie_rt.training.evaluation.tables import make_table, plus_minus

HELD_STEPS = 8
"""Steps that each action is held for."""

MOVED = 2
"""Pixels in `HELD_STEPS` from which on a scene has moved along an axis."""

MAX_STARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Along:
    """Effect along one axis, in pixels.

    Attributes:
        mean, mean_interval: over starts, with its 95% interval.
        num_moved: starts with an effect of at least `MOVED`.
        num_agree: of these, those with an effect to the side of the majority.
        agree_share, agree_share_interval: their share and Wilson's interval; None where none moved. Chance
            is a half or a little more.
    """

    mean: float
    mean_interval: Interval | None
    num_moved: int
    num_agree: int
    agree_share: float | None
    agree_share_interval: Interval | None

    @classmethod
    def of(cls, displaced: Floats) -> "Along":
        """Compute the figures of effects `[M]`."""
        moved = displaced[np.abs(displaced) >= MOVED]
        agree = int(max((moved > 0).sum(), (moved < 0).sum()))
        return cls(
            mean=float(displaced.mean()),
            mean_interval=mean_interval(displaced),
            num_moved=len(moved),
            num_agree=agree,
            agree_share=agree / len(moved) if len(moved) else None,
            agree_share_interval=wilson(agree, len(moved)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEffect:
    """Effect of one action: `x` is positive where the scene moves right, `y` where it moves down.

    `scene_x` and `scene_y` are the scene's own mean displacement while the action is held.
    """

    name: str
    x: Along
    y: Along
    scene_x: float
    scene_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Effects of all actions of a world, each held for `num_steps` from `num_starts` starts."""

    num_starts: int
    num_steps: int
    moved_pixels: int
    actions: tuple[ActionEffect, ...]


def measure_effects(
    rollouts: Rollouts,
    clips: TrueClips,
    actions: Mapping[str, int],
    plan: Plan,
    *,
    prompt_frames: int,
    seed: int = 0,
    batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> Effects:
    """Hold each action from the first frames of up to `MAX_STARTS` clips.

    Args:
        rollouts: the model.
        clips: starts, one a clip, with the world's actions.
        actions: the dynamics' index of each action of the world, by name.
        plan: of the rollouts.
        prompt_frames: real frames that the world sees first.
        seed, batch, advance: as of `play_scripts`.
    """
    num = min(len(clips.frames), MAX_STARTS)
    shown = play_scripts(
        rollouts,
        clips.frames[:num, :prompt_frames],
        clips.actions[:num, :prompt_frames],
        held(np.array(list(actions.values())), num, HELD_STEPS),
        plan,
        seed=seed,
        batch=batch,
        advance=advance,
    )
    moved = np.stack([displacements(script) for script in np.moveaxis(shown, 1, 0)]).astype(np.float64)
    effects = moved - moved.mean(0)  # [A, M, 2]
    return Effects(
        num_starts=num,
        num_steps=HELD_STEPS,
        moved_pixels=MOVED,
        actions=tuple(
            ActionEffect(
                name=name,
                x=Along.of(effect[:, 0]),
                y=Along.of(effect[:, 1]),
                scene_x=float(scene[:, 0].mean()),
                scene_y=float(scene[:, 1].mean()),
            )
            for name, effect, scene in zip(actions, effects, moved, strict=True)
        ),
    )


def effects_table(effects: Effects) -> Table:
    """Make the table of the report."""
    table = make_table(
        f"Action consistency: each action held for {effects.num_steps} steps from "
        f"{plural(effects.num_starts, 'start')}",
        ("action", "x, pixels", "same side", "y, pixels", "same side", "scene x, y"),
        "How much farther the scene moves than with the mean of all actions from the same start, right and "
        "down positive: a player who goes right moves it left. Same side: of the starts in which that is "
        f"{effects.moved_pixels} pixels or more, how many agree with the majority; about half is chance. "
        "Scene: how far it moves in all.",
    )
    for action in effects.actions:
        cells = []
        for along in (action.x, action.y):
            cells.append(plus_minus(along.mean, along.mean_interval, sign="+"))
            agreed = "-" if along.agree_share is None else f"{along.agree_share:.0%}"
            cells.append(f"{agreed} of {along.num_moved}")
        table.add_row(action.name, *cells, f"{action.scene_x:+.1f}, {action.scene_y:+.1f}")
    return table
