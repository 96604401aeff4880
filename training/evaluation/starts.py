"""Moments of the real CoinRun on held-out levels, from which branches show what would have happened."""

from __future__ import annotations

from collections import deque
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.training.data.coinrun import UNSEEN_KEY, Policy
from genie_rt.training.data.game import RealGame, Visuals
from genie_rt.training.data.levels import LEVELS, copies
from genie_rt.training.data.store import NO_ACTION, Actions, Frames
from genie_rt.training.evaluation.clips import LATEST_START, TrueClips

ENV = "coinrun"


class GameStarts:
    """Play CoinRun on held-out levels that look like no training level until `num` moments are found.

    Each is of another copy of the game and lies at a random frame of its level, with `prompt_frames` frames
    of the same life up to it. The same arguments give the same moments. Holds the game: close it, or use
    `with`.

    Args:
        num: N, moments.
        prompt_frames: P, real frames up to and with each moment.
        visuals: the game's look.
        seed: 0 to 2**31 - 1.

    Attributes:
        prompts: frames `[N, P, 64, 64, 3]` and the actions between them.
        action_names: of the game; what scripts of `branch` index.

    Raises:
        UnsupportedError: procgen is not installed.
        InputError: lives are too short for such prompts.
    """

    def __init__(self, num: int, *, prompt_frames: int, visuals: Visuals, seed: int) -> None:
        first_level, num_levels = LEVELS["heldout"]
        random = np.random.default_rng(seed)
        self._game = RealGame(
            ENV,
            visuals=visuals,
            start_level=first_level,
            num_levels=num_levels,
            num_envs=num,
            seed=int(random.integers(2**31)),
        )
        try:
            frames, actions, levels = self._find(num, prompt_frames, visuals, random)
        except BaseException:
            self._game.close()
            raise
        self.action_names = self._game.action_names
        origin = {
            "kind": "game",
            "env": ENV,
            "visuals": visuals,
            "seed": seed,
            "start_level": first_level,
            "num_levels": num_levels,
            UNSEEN_KEY: copies(ENV, visuals).as_provenance(),
            "clips": num,
            "levels": len(set(levels)),
        }
        self.prompts = TrueClips(
            frames=frames, actions=actions, action_names=self.action_names, origin=origin
        )

    def branch(self, script: Actions) -> tuple[Frames, NDArray[np.bool_]]:
        """Play actions `[N, S]` from the moments, in the real game.

        Returns:
            Frames `[N, S + 1, 64, 64, 3]` uint8, the first of the moment itself; and `[N, S + 1]` bool, false
            from where the level ended on: what the frames show then is another life.
        """
        self._game.restore(self._states)
        frames = [self._game.observe()]
        alive = [np.ones(len(script), dtype=np.bool_)]
        for actions in script.T:
            self._game.step(actions)
            frames.append(self._game.observe())
            alive.append(alive[-1] & ~self._game.first)
        return np.stack(frames, axis=1), np.stack(alive, axis=1)

    def close(self) -> None:
        """Give the game's memory and threads back."""
        self._game.close()

    def __enter__(self) -> GameStarts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(
        self, num: int, length: int, visuals: Visuals, random: np.random.Generator
    ) -> tuple[Frames, Actions, list[int]]:
        """Frames `[N, P, ...]`, actions `[N, P]` and level of each moment; sets `_states`."""
        game, unseen_levels = self._game, copies(ENV, visuals)
        policy = Policy(game.action_names, num, random)
        frames = np.empty((num, length, *game.observe().shape[1:]), dtype=np.uint8)
        actions = np.full((num, length), NO_ACTION)
        levels = [-1] * num
        states: list[bytes | None] = [None] * num
        recent: deque[tuple[Frames, Actions]] = deque(maxlen=length)  # of all copies, the latest last
        taken = np.full(num, NO_ACTION)
        age = np.full(num, -1)  # frames since the level began
        wanted, unseen = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.bool_)
        for _ in range(64 * (LATEST_START + length)):
            first, age = game.first, age + 1
            if first.any():
                age = np.where(first, 0, age)
                wanted = np.where(first, random.integers(0, LATEST_START, size=num), wanted)
                unseen = np.where(first, unseen_levels.unseen(game.level_seeds), unseen)
            recent.append((game.observe(), taken))
            found = [
                copy
                for copy in np.flatnonzero(unseen & (age >= wanted + length - 1)).tolist()
                if states[copy] is None
            ]
            if found:
                now, seeds = game.state(), game.level_seeds
                for copy in found:
                    states[copy], levels[copy] = now[copy], seeds[copy]
                    frames[copy] = [picture[copy] for picture, _ in recent]
                    actions[copy, 1:] = [led_by[copy] for _, led_by in recent][1:]
            self._states = [state for state in states if state is not None]
            if len(self._states) == num:
                return frames, actions, levels
            taken = policy.act(first)
            game.step(taken, restart=~unseen)
        raise InputError(
            f"expected lives of {LATEST_START + length} frames in {ENV}, found {num - len(self._states)} "
            "copies without one; lower --prompt-frames"
        )
