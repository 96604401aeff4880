"""Actions to play: one held, or random ones that last a while."""

import numpy as np
from numpy.typing import NDArray

from genie_rt.training.data.store import Actions

CHANGE_PROBABILITY = 1 / 8
"""A random action lasts 8 frames in the mean: long enough for a jump."""


def held(choices: NDArray[np.int64], num_starts: int, num_steps: int) -> Actions:
    """Hold each action of `[K]` from every start: `[M, K, S]`."""
    return np.broadcast_to(choices[None, :, None], (num_starts, len(choices), num_steps)).copy()


def sticky(choices: NDArray[np.int64], num_rows: int, num_steps: int, random: np.random.Generator) -> Actions:
    """Draw actions `[num_rows, S]` of `choices` that change with `CHANGE_PROBABILITY` a step."""
    drawn = random.integers(0, len(choices), size=(num_rows, num_steps))
    change = random.random((num_rows, num_steps)) < CHANGE_PROBABILITY
    change[:, :1] = True
    latest = np.maximum.accumulate(np.where(change, np.arange(num_steps), 0), axis=1)
    return choices[np.take_along_axis(drawn, latest, axis=1)]
