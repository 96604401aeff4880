"""Distances between pictures, and how they are averaged.

PSNR is averaged in two ways that answer two questions: *pooled* over all pixels, `10 log10(255^2 / error)` of
the mean error, which the worst frames decide, and the *mean* of per-frame decibels, which the best ones
decide. One without the other misleads.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genie_rt.training.evaluation.intervals import Interval, bootstrap, clip_sums, ratio_interval

Frames = NDArray[np.uint8]
"""`[n, H, W, 3]` uint8."""

Floats = NDArray[np.float64]

MAX_DB = 60.0
"""PSNR counted for a perfect frame, whose real PSNR is infinite and would spoil every mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Psnr:
    """Peak signal to noise ratio, both averages, neither above `MAX_DB`; None where no frame counted.

    The 95% intervals are over clips; None for fewer than two.
    """

    pooled_db: float | None
    pooled_db_interval: Interval | None
    mean_db: float | None
    mean_db_interval: Interval | None
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Errors:
    """Squared errors of some frames.

    Attributes:
        mean: `[n]` float64, each frame's mean squared error over the values that count, 0 where none does.
        count: `[n]` int64, how many values count.
        clip: `[n]` int64, number of the clip that each frame is of.
    """

    mean: Floats
    count: NDArray[np.int64]
    clip: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> "Errors":
        """Select the errors of the chosen frames, `[n]` bool."""
        return Errors(mean=self.mean[chosen], count=self.count[chosen], clip=self.clip[chosen])

    @property
    def decibels(self) -> Floats:
        """PSNR of every frame, `[n]`."""
        return decibels(self.mean)


def squared_errors(
    frames: Frames,
    truth: Frames,
    mask: NDArray[np.bool_] | None = None,
    *,
    clip: NDArray[np.int64] | None = None,
) -> Errors:
    """Squared errors per frame.

    Args:
        frames, truth: `[n, H, W, 3]` uint8.
        mask: `[n, H, W]`, the pixels that count; all unless given.
        clip: `[n]`, the clip that each frame is of; each of its own unless given.
    """
    mean = np.zeros(len(frames))
    count = np.zeros(len(frames), dtype=np.int64)
    for index, (frame, true) in enumerate(
        zip(frames, truth, strict=True)
    ):  # one by one: floats take 4x the room
        squares = (frame.astype(np.float32) - true) ** 2
        if mask is not None:
            squares = squares[mask[index]]
        count[index] = squares.size
        mean[index] = squares.mean(dtype=np.float64) if squares.size else 0.0
    return Errors(mean=mean, count=count, clip=np.arange(len(mean)) if clip is None else clip)


def decibels(error: Floats | float) -> Floats:
    """`10 log10(255^2 / error)` of mean squared errors, at most `MAX_DB`."""
    least = 255.0**2 / 10 ** (MAX_DB / 10)
    return 10 * np.log10(255.0**2 / np.maximum(np.asarray(error, dtype=np.float64), least))


def psnr(errors: Errors) -> Psnr:
    """Compute both averages over the frames in which any value counts, and their intervals over clips."""
    counted = errors.of(errors.count > 0)
    num = len(counted.mean)
    if not num:
        return Psnr(
            pooled_db=None, pooled_db_interval=None, mean_db=None, mean_db_interval=None, num_frames=0
        )
    squares, values = (
        clip_sums(each, counted.clip) for each in (counted.mean * counted.count, counted.count)
    )
    sums, frames = (clip_sums(each, counted.clip) for each in (counted.decibels, np.ones(num)))
    return Psnr(
        pooled_db=float(decibels(squares.sum() / values.sum())),
        pooled_db_interval=bootstrap(
            len(squares), lambda weights: decibels((weights @ squares) / (weights @ values))
        ),
        mean_db=float(counted.decibels.mean()),
        mean_db_interval=ratio_interval(sums, frames),
        num_frames=num,
    )


def ssim(frames: Frames, truth: Frames) -> Floats:
    """Structural similarity per frame, 1 for equal ones (Wang et al. 2004; torchmetrics, 11 x 11 Gaussian).

    Args:
        frames, truth: `[n, H, W, 3]` uint8.

    Returns:
        `[n]`.
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    parts = []
    for begin in range(0, len(frames), 64):
        pair = [
            torch.from_numpy(clip[begin : begin + 64]).permute(0, 3, 1, 2).float() for clip in (frames, truth)
        ]
        each = structural_similarity_index_measure(pair[0], pair[1], data_range=255.0, reduction="none")
        parts.append(torch.atleast_1d(torch.as_tensor(each)).double().numpy())
    return np.concatenate(parts)


def changed_pixels(frames: Frames, before: Frames) -> NDArray[np.bool_]:
    """Pixels that differ from the frame before in any channel: `[n, H, W]` bool."""
    return np.asarray((frames != before).any(axis=-1))


def mean_change(frames: Frames, before: Frames) -> Floats:
    """Mean absolute difference of each frame to the one before, of 255: `[n]`."""
    return np.array(
        [np.abs(a.astype(np.int16) - b).mean() for a, b in zip(frames, before, strict=True)], dtype=np.float64
    )


def mean_gradient(frames: Frames) -> Floats:
    """Mean absolute difference of neighbouring pixels, both directions, of 255: `[n]`. Blur lowers it."""
    sums = np.zeros(len(frames))
    for index, frame in enumerate(frames):
        wide = frame.astype(np.int16)
        sums[index] = (np.abs(np.diff(wide, axis=0)).mean() + np.abs(np.diff(wide, axis=1)).mean()) / 2
    return sums


def ratio(generated: Floats, real: Floats) -> float | None:
    """Sum over sum; None where the real frames have nothing to compare with."""
    total = float(real.sum())
    return float(generated.sum()) / total if total > 0 else None
