"""Branches: the same actions played in the real game and in a world, from the same moment."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genie_rt.errors import InputError
from genie_rt.runtime.world import World
from genie_rt.training.data.game import RealGame, Visuals
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.metrics import Errors, Floats, decibels, squared_errors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """Script played in the real game and in a world.

    Attributes:
        actions: names, `S` of them.
        real: `[S + 1, H, W, 3]` uint8, the game's; the first is the moment where the branches part.
        model: `[S + 1, H, W, 3]` uint8, the world's; the first is that moment through its tokenizer.
        cut: whether the game ended the level before the script was done, so that `S` is less than was asked.
    """

    actions: tuple[str, ...]
    real: Frames
    model: Frames
    cut: bool

    @property
    def errors(self) -> Errors:
        """Squared errors of the world's `S` steps."""
        return squared_errors(self.model[1:], self.real[1:])

    @property
    def copy_errors(self) -> Errors:
        """Squared errors of repeating the last real frame for all `S` steps."""
        return squared_errors(np.broadcast_to(self.real[0], self.real[1:].shape), self.real[1:])

    @property
    def psnr_db(self) -> Floats:
        """PSNR of every step, `[S]`."""
        return decibels(self.errors.mean)


def play_branches(
    world: World,
    scripts: Sequence[Sequence[str]],
    *,
    level: int,
    visuals: Visuals,
    warm_up: Sequence[str],
    prompt_frames: int,
    seed: int,
    passes: int | None = None,
) -> list[Branch]:
    """Play the warm-up in the real game, show its last frames to the world, then play each script in both.

    Args:
        world: whose actions have the names of the game's.
        scripts: names of actions, at least one script of at least one.
        level: seed of the game's level.
        visuals: the game's look.
        warm_up: actions before the branches part, at least `prompt_frames - 1`.
        prompt_frames: real frames that the world sees, with the actions between them.
        seed: of the world's sampling, the same for every branch.
        passes: per frame; the default plan's unless given.

    Raises:
        UnsupportedError: procgen is not installed.
        InputError: the game lacks one of the world's actions; the warm-up is too short, or ends the level.
    """
    if not 1 <= prompt_frames <= len(warm_up) + 1:
        raise InputError(
            f"expected 1 to {len(warm_up) + 1} prompt frames after {len(warm_up)} steps of warm-up, "
            f"found {prompt_frames}; raise --skip or lower --prompt-frames"
        )
    with contextlib.closing(RealGame(visuals=visuals, start_level=level, num_levels=1)) as game:
        played = dict.fromkeys([*warm_up, *(name for script in scripts for name in script)])
        missing = [name for name in played if name not in game.action_names]
        if missing:
            raise InputError(
                f"expected actions that the game has ({', '.join(game.action_names)}), found "
                f"{', '.join(missing)}: name them with `genie-rt actions`, or compare with clips "
                "(--data)"
            )
        frames = [game.observe()[0]]
        for name in warm_up:
            frames.append(_step(game, name))
            if game.first[0]:
                raise InputError(
                    f"the {len(warm_up)} steps of warm-up end level {level}; try another --level or --skip"
                )
        states = game.state()
        plan = world.bundle.plans["default"]
        session = world.session(seed=seed, plan=plan if passes is None else plan.replace(passes=passes))
        first = len(frames) - prompt_frames
        session.reset(np.stack(frames[first:]), list(warm_up[first:]))
        start = session.snapshot()
        branches = []
        for script in scripts:
            game.restore(states)
            real = _play_game(game, frames[-1], script)
            model = [session.restore(start)]
            model += [session.step(name) for name in script[: len(real) - 1]]
            branches.append(
                Branch(
                    actions=tuple(script[: len(real) - 1]),
                    real=np.stack(real),
                    model=np.stack(model),
                    cut=len(real) <= len(script),
                )
            )
            if len(real) == 1:
                raise InputError(f"{script[0]!r} ends level {level} at once; try another --level or --skip")
    return branches


def follow_clips(
    world: World, clips: TrueClips, *, prompt_frames: int, seed: int, passes: int | None = None
) -> list[Branch]:
    """Show the world the first frames of clips, then play the actions that led to the others.

    Args:
        world: to play.
        clips: of more than `prompt_frames` frames, with the actions of the world's dynamics.
        prompt_frames: real frames that the world sees, with the actions between them.
        seed: of the world's sampling, the same for every clip.
        passes: per frame; the default plan's unless given.

    Returns:
        A branch a clip; an action is called by the first name that stands for it.

    Raises:
        InputError: an action of the clips has no name in the world.
    """
    plan = world.bundle.plans["default"]
    session = world.session(seed=seed, plan=plan if passes is None else plan.replace(passes=passes))
    first_name = {code: name for name, code in reversed(world.codes.items())}
    unnamed = sorted(set(clips.actions[:, 1:].ravel().tolist()) - first_name.keys())
    if unnamed:
        raise InputError(
            f"{world.bundle.path}: expected a name of every action, found none of {unnamed[0]}: give it one "
            "with `genie-rt actions`"
        )
    branches = []
    for frames, actions in zip(clips.frames, clips.actions, strict=True):
        names = [first_name[code] for code in actions[1:].tolist()]
        led_by, played = names[: prompt_frames - 1], names[prompt_frames - 1 :]
        model = [session.reset(frames[:prompt_frames], led_by), *(session.step(name) for name in played)]
        real = frames[prompt_frames - 1 :]
        branches.append(Branch(actions=tuple(played), real=real, model=np.stack(model), cut=False))
    return branches


def _step(game: RealGame, name: str) -> Frames:
    if name not in game.action_names:
        raise InputError(f"unknown action {name!r}: the game has {', '.join(game.action_names)}")
    game.step(np.array([game.action_names.index(name)]))
    return game.observe()[0]


def _play_game(game: RealGame, start: Frames, script: Sequence[str]) -> list[Frames]:
    """The real frames, from the start to the last before the level ends."""
    frames = [start]
    for name in script:
        frame = _step(game, name)
        if game.first[0]:  # what follows shows another life
            break
        frames.append(frame)
    return frames
