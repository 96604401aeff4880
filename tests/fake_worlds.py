"""Worlds of known quality, which answer as `Rollouts` does."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_rt.training.evaluation.starts import GameStarts

MASK = (1 << 32) - 1


class GameItself:
    """The real game as a world: what it shows is what would have happened.

    Args:
        starts: moments that it is started at, with seeds that tell their number.
        ignores_keys: whether no key is held, whatever is played.
        frozen: whether nothing moves.
    """

    def __init__(self, starts: GameStarts, *, ignores_keys: bool = False, frozen: bool = False) -> None:
        self.starts, self.ignores_keys, self.frozen = starts, ignores_keys, frozen

    def start(self, frames: Any, actions: Any, seeds: Sequence[int]) -> tuple[list[Any], Any]:
        rows = [seed & MASK for seed in seeds]
        np.testing.assert_array_equal(frames, self.starts.prompts.frames[rows])
        return rows, frames[:, -1].copy()

    def play(self, rows: Sequence[Any], actions: Any, plan: Any) -> NDArray[np.uint8]:
        script = np.full((len(self.starts.prompts.frames), actions.shape[1]), 2)  # stay
        if not self.ignores_keys:
            script[rows] = actions
        frames = self.starts.branch(script)[0][rows]
        return np.repeat(frames[:, :1], actions.shape[1], axis=1) if self.frozen else frames[:, 1:]


class Scroller:
    """Noise that action 0 moves left by two pixels a step, action 1 right, and action 2 at random.

    A row is a start's number. After `until` steps the frames become one grey.
    """

    WAYS = (-2, 2)

    def __init__(self, *, until: int = 10**6, side: int = 32) -> None:
        self.until, self.side = until, side

    def start(self, frames: Any, actions: Any, seeds: Sequence[int]) -> tuple[list[Any], Any]:
        rows = [seed & MASK for seed in seeds]
        return rows, np.stack([self._show(row, 0) for row in rows])

    def play(self, rows: Sequence[Any], actions: Any, plan: Any) -> NDArray[np.uint8]:
        return np.stack([frames for frames, _ in self.steps(rows, actions, plan)], axis=1)

    def steps(self, rows: Sequence[Any], actions: Any, plan: Any) -> Iterator[tuple[Any, Any]]:
        at = [0] * len(rows)
        for step, chosen in enumerate(actions.T, 1):
            for i, (row, action) in enumerate(zip(rows, chosen, strict=True)):
                at[i] += self.WAYS[row % 2 if action == 2 else action]
            pictures = [self._show(row, x) for row, x in zip(rows, at, strict=True)]
            yield np.full_like(pictures, 128) if step > self.until else np.stack(pictures), None

    def _show(self, row: int, x: int) -> NDArray[np.uint8]:
        ground = np.random.default_rng(row).integers(0, 256, (self.side, 64, 3), dtype=np.uint8)
        return np.roll(ground, x, axis=1)[:, : self.side]
