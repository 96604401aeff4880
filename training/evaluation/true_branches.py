"""True-branch PSNR: a world against what really would have happened had the player done something else.

Rollouts along recorded clips follow what the recorder did. Here the real game is branched: from one moment
each action is held, and random ones are played, in the game and in the world.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.training.data.store import Actions, Frames
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.metrics import Psnr, psnr, squared_errors
from genie_rt.training.evaluation.rollout import Rollouts, play_scripts
from genie_rt.training.evaluation.scripts import held, sticky
from genie_rt.training.evaluation.starts import GameStarts
from genie_rt.training.evaluation.tables import both, make_table

RANDOM_SCRIPTS = 2
"""Random scripts from each start, beside one for each action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchStep:
    """Branches after `t` steps, beside the moment where they part. Levels that ended do not count."""

    t: int
    model: Psnr
    copy: Psnr


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueBranches:
    """Figures of all branches.

    Attributes:
        num_starts: moments of the real game.
        scripts: that were played from each.
        skipped: actions of the game that the world has no name for.
        steps: by t.
    """

    num_starts: int
    scripts: tuple[str, ...]
    skipped: tuple[str, ...]
    steps: tuple[BranchStep, ...]


def branch_steps(window: int) -> tuple[int, ...]:
    """Steps at which branches are compared: powers of 2 up to 4W, and 4W."""
    last = 4 * window
    return tuple(sorted({*(2**k for k in range(last.bit_length()) if 2**k <= last), last}))


def measure_true_branches(
    rollouts: Rollouts,
    starts: GameStarts,
    prompts: TrueClips,
    actions: Mapping[str, int],
    plan: Plan,
    *,
    window: int,
    seed: int = 0,
    batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> TrueBranches | None:
    """Play the same scripts from the same moments in the real game and in the world.

    Args:
        rollouts: the world.
        starts: moments of the real game.
        prompts: `starts.prompts` with the world's actions.
        actions: the dynamics' index of each action of the world. Those of the game are taken by name.
        plan: of the rollouts.
        window: W of the dynamics.
        seed, batch, advance: as of `play_scripts`; the seed decides the random scripts too.

    Returns:
        None where the world has no name of the game's.
    """
    known = [name for name in starts.action_names if name in actions]
    if not known:
        return None
    steps, num = branch_steps(window), len(prompts.frames)
    choices = np.arange(len(known))
    random = sticky(choices, num * RANDOM_SCRIPTS, steps[-1], np.random.default_rng(seed))
    scripts = np.concatenate(
        [held(choices, num, steps[-1]), random.reshape(num, RANDOM_SCRIPTS, steps[-1])], axis=1
    )
    in_game = np.array([starts.action_names.index(name) for name in known])[scripts]
    in_world = np.array([actions[name] for name in known])[scripts]
    shown = play_scripts(
        rollouts, prompts.frames, prompts.actions, in_world, plan, seed=seed, batch=batch, advance=advance
    )
    real, alive = _real_branches(starts, in_game)
    return TrueBranches(
        num_starts=num,
        scripts=(*(f"{name} held" for name in known), *["random"] * RANDOM_SCRIPTS),
        skipped=tuple(name for name in starts.action_names if name not in actions),
        steps=tuple(_step(t, shown, real, alive) for t in steps),
    )


def _real_branches(starts: GameStarts, scripts: Actions) -> tuple[Frames, NDArray[np.bool_]]:
    """Scripts `[N, K, S]` in the real game: frames `[N, K, S + 1, ...]`, alive `[N, K, S + 1]`."""
    played = [starts.branch(script) for script in np.moveaxis(scripts, 1, 0)]
    frames, alive = zip(*played, strict=True)
    return np.stack(frames, axis=1), np.stack(alive, axis=1)


def _step(t: int, shown: Frames, real: Frames, alive: NDArray[np.bool_]) -> BranchStep:
    """Compare frames `[N, K, S + 1, ...]` at step t; the branches of one start go together."""
    counted = alive[:, :, t]
    start = np.broadcast_to(np.arange(len(shown))[:, None], counted.shape)[counted]
    true, last = real[:, :, t][counted], real[:, :, 0][counted]
    return BranchStep(
        t=t,
        model=psnr(squared_errors(shown[:, :, t][counted], true, clip=start)),
        copy=psnr(squared_errors(last, true, clip=start)),
    )


def true_branches_table(figures: TrueBranches) -> Table:
    """Make the table of the report."""
    skipped = f" The world has no name for {', '.join(figures.skipped)}." if figures.skipped else ""
    table = make_table(
        f"True branches: {plural(len(figures.scripts), 'script')} from each of "
        f"{plural(figures.num_starts, 'moment')} of the real game",
        ("t", "model", "copy", "frames"),
        f"Against what the real game makes of the same actions: {', '.join(dict.fromkeys(figures.scripts))}. "
        f"Copy: the frame at which the branches part. Levels that end early do not count.{skipped}",
    )
    for step in figures.steps:
        table.add_row(str(step.t), both(step.model), both(step.copy), str(step.model.num_frames))
    return table
