"""95% intervals: a bootstrap over clips, and Wilson's for shares.

Clips are what was drawn independently, so clips are what the bootstrap draws anew: frames of one clip go
together, and a figure of two models on the same clips is resampled as a pair. A resample of `M` clips is how
often each was drawn, so every figure that is a function of sums over clips, such as a pooled PSNR, is one
matrix product for all resamples (Efron 1979; percentile intervals).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Interval = tuple[float, float]
"""Lower and upper end."""

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
Z = 1.959963984540054
"""Quantile of the standard normal distribution that belongs to `LEVEL`."""


def bootstrap(num_clips: int, figure: Callable[[Floats], Floats]) -> Interval | None:
    """Compute the interval that holds 95% of a figure's values over resamples of the clips.

    The same number of clips is always resampled in the same way.

    Args:
        num_clips: M.
        figure: of weights `[R, M]`, how often each clip counts, to values `[R]`, NaN where it is undefined.

    Returns:
        None for fewer than two clips, or where no resample defines the figure.
    """
    if num_clips < 2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        values = figure(_weights(num_clips))
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    """Compute the interval of sum over sum, both `[M]`, one value a clip. A mean has denominators of 1."""
    return bootstrap(len(numerators), lambda weights: (weights @ numerators) / (weights @ denominators))


def mean_interval(values: Floats) -> Interval | None:
    """Compute the interval of the mean of `[M]`, one value a clip."""
    return ratio_interval(values, np.ones(len(values)))


def clip_sums(values: ArrayLike, clip: NDArray[np.int64]) -> Floats:
    """Sum values `[n]` by the clip `[n]` that each belongs to: `[M]`, in the order of the clips' numbers.

    Clips without a value have no entry.
    """
    _, place = np.unique(clip, return_inverse=True)
    return np.bincount(place, weights=values).astype(np.float64)


def wilson(successes: int, total: int) -> Interval | None:
    """Compute the interval of a share (Wilson 1927); None of nothing.

    Unlike the bootstrap it does not shrink to a point where all agree.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"expected 0 to {total} successes, found {successes}")
    if total == 0:
        return None
    share, spread = successes / total, Z**2 / total
    centre = share + spread / 2
    half = (spread * (share * (1 - share) + spread / 4)) ** 0.5
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


@lru_cache(maxsize=8)
def _weights(num_clips: int) -> Floats:
    """How often each clip is drawn, `[R, M]`; every row sums to M."""
    drawn = np.random.default_rng(SEED).multinomial(
        num_clips, np.full(num_clips, 1 / num_clips), size=RESAMPLES
    )
    weights = drawn.astype(np.float64)
    weights.flags.writeable = False
    return weights
