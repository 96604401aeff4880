"""How far the scene moved between two frames, in whole pixels.

The shift is the one at which the frames agree best where they overlap, by normalised cross-correlation. All
shifts are scored at once with FFTs, each over its own overlap (Padfield 2012, "Masked object registration in
the Fourier domain").

Plain phase correlation fails on games whose camera follows the player: the player stands still in the middle
of the picture, and that sharp peak at no shift wins over a scene that moves by fractions of a pixel. Of
CoinRun's pairs of frames in which the player moved by more than 1.5 pixels phase correlation is right within
a pixel for 2% (plain visuals) and 25% (full), this for 99% of both (against the player's true position, 1,433
pairs of random play).
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.training.evaluation.metrics import Floats, Frames

MAX_SHIFT = 12
"""Largest shift that is looked for, in pixels. CoinRun's player moves the scene by at most 8 a frame."""

MIN_CONFIDENCE = 0.3
"""Pairs that agree less count as unmoved. Noise reaches 0.04, consecutive frames of CoinRun 0.8 and more.

It tells a scene that fell apart. It cannot tell one level from another: those reach 0.6 and more.
"""

_TIE = 1e-9
"""Advantage per pixel of the smaller of two shifts that agree alike."""


def shift(before: Frames, after: Frames, max_shift: int = MAX_SHIFT) -> tuple[int, int, float]:
    """Find how far the scene moved: what was at `(x, y)` before is at `(x + dx, y + dy)` after.

    A camera that goes right moves the scene left, `dx < 0`; one that goes up moves it down, `dy > 0`.

    Args:
        before, after: `[H, W, 3]` uint8.
        max_shift: in each direction, in pixels, at most half of each side.

    Returns:
        dx, dy, and the correlation of the frames at that shift, -1 to 1: 1 where they agree exactly. Where
        nothing correlates, as between pictures of one colour, all three are 0.

    Raises:
        InputError: the frames differ in size, or are too small for such shifts.
    """
    if before.shape != after.shape or before.ndim != 3 or not 0 <= 2 * max_shift <= min(before.shape[:2]):
        raise InputError(
            f"expected two frames [H, W, 3] of one size with sides of at least {2 * max_shift}, found "
            f"{list(before.shape)} and {list(after.shape)}"
        )
    score = _correlations(before, after, max_shift)
    along = np.abs(np.arange(-max_shift, max_shift + 1))
    ranked = score - _TIE * (along[:, None] + along)
    row, column = np.unravel_index(ranked.argmax(), score.shape)
    confidence = float(score[row, column])
    if confidence <= 0:
        return 0, 0, 0.0
    return int(column) - max_shift, int(row) - max_shift, confidence


def displacement(frames: Frames, max_shift: int = MAX_SHIFT) -> tuple[int, int]:
    """Sum the shifts between consecutive frames `[T, H, W, 3]` uint8: dx, dy.

    Pairs below `MIN_CONFIDENCE` count as unmoved.
    """
    total = np.zeros(2, dtype=np.int64)
    for before, after in pairwise(frames):
        dx, dy, confidence = shift(before, after, max_shift)
        if confidence >= MIN_CONFIDENCE:
            total += dx, dy
    return int(total[0]), int(total[1])


def displacements(frames: Frames, max_shift: int | None = None) -> NDArray[np.int64]:
    """Displacement of every clip of `[M, T, H, W, 3]`: `[M, 2]`, dx and dy in pixels.

    Args:
        max_shift: `MAX_SHIFT`, or less for small frames, unless given.
    """
    if max_shift is None:
        max_shift = min(MAX_SHIFT, frames.shape[2] // 2, frames.shape[3] // 2)
    found = [displacement(clip, max_shift) for clip in frames]
    return np.array(found, dtype=np.int64).reshape(len(frames), 2)


def _correlations(before: Frames, after: Frames, max_shift: int) -> Floats:
    """Normalised cross-correlation over the overlap at every shift, `[dy, dx]` from `-max_shift` on.

    With sums over the pixels and channels of the overlap, each channel about its own mean there:

        sum (a - mean a) (b - mean b) / sqrt(sum (a - mean a)^2  sum (b - mean b)^2)

    0 where either frame has no contrast.
    """
    height, width = before.shape[:2]
    # room for the largest shift, so that nothing comes back in on the other side
    size = _fast(height + max_shift), _fast(width + max_shift)
    lags = np.arange(-max_shift, max_shift + 1)

    def transform(planes: Floats) -> NDArray[np.complex128]:
        return np.fft.rfft2(planes, s=size)

    def correlate(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> Floats:
        """`sum_x one(x) other(x + lag)`, planes first: `[..., dy, dx]`."""
        products = np.fft.irfft2(one.conj() * other, s=size)
        return np.asarray(products[..., lags[:, None], lags], dtype=np.float64)

    a, b = (np.moveaxis(frame.astype(np.float64) - 127.5, -1, 0) for frame in (before, after))  # [3, H, W]
    fa, fb, ones = transform(a), transform(b), transform(np.ones((height, width)))
    count = correlate(ones, ones).round()
    sum_a, sum_b = correlate(fa, ones), correlate(ones, fb)
    square_a = correlate(transform((a**2).sum(0)), ones) - (sum_a**2).sum(0) / count
    square_b = correlate(ones, transform((b**2).sum(0))) - (sum_b**2).sum(0) / count
    product = correlate(fa, fb).sum(0) - (sum_a * sum_b).sum(0) / count
    contrast = np.minimum(square_a, square_b) / count  # rounding leaves some 1e-9 where there is none
    scale = np.sqrt(np.maximum(square_a, 1.0) * np.maximum(square_b, 1.0))
    return np.where(contrast > 1e-3, product / scale, 0.0)


@lru_cache
def _fast(length: int) -> int:
    """The next length that NumPy's FFT is fast at: of factors 2, 3 and 5."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
