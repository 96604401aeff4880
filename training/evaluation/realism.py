"""How far rollouts are from real clips as a set: the clip distance, and FVD with the user's own I3D.

The clips are parted in two. The true continuations of one half are the reference. The rollouts of the other
half are measured against it, and beside them, as the floor, what really happened in that other half: so both
have the same number of clips and the same starts, and neither has seen the reference.
"""

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from genie_rt.errors import InputError
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.clip_distance import (
    WINDOWS_PER_COMPONENT,
    FrameFeatures,
    Reference,
    describe,
)
from genie_rt.training.evaluation.fvd import CLIP_FRAMES, RELIABLE_CLIPS, I3d, fvd
from genie_rt.training.evaluation.tables import make_table


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDistance:
    """Distance of rollouts and of as many real clips from other real clips; no unit, smaller is closer.

    Attributes:
        rollouts, rollouts_noise: of the rollouts, and its standard deviation when clips are drawn anew.
        floor, floor_noise: of what really happened.
        frozen: of the last prompt frame, repeated.
        num_clips, num_reference_clips: in each set.
        num_frames: of a window (clip distance) or a clip (FVD).
    """

    rollouts: float
    rollouts_noise: float | None
    floor: float
    floor_noise: float | None
    frozen: float
    num_clips: int
    num_reference_clips: int
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Realism:
    """Both distances; None where there were too few clips that differ, or no I3D was given."""

    clip_distance: SetDistance | None
    fvd: SetDistance | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sets:
    """Clips `[m, T, ...]` of the two halves."""

    reference: Frames
    real: Frames
    generated: Frames
    frozen: Frames

    @classmethod
    def of(cls, generated: Frames, real: Frames, last: Frames) -> "_Sets":
        """Part continuations `[M, T, ...]` and last frames `[M, ...]`: every second clip is reference."""
        frozen = np.broadcast_to(last[1::2, None], real[1::2].shape)
        return cls(reference=real[::2], real=real[1::2], generated=generated[1::2], frozen=frozen)


def measure_realism(
    generated: Frames, real: Frames, last: Frames, *, window: int, i3d: I3d | None = None
) -> Realism:
    """Measure rollouts as a set.

    Args:
        generated, real: `[M, T, H, W, 3]` uint8, rollouts and what really happened instead.
        last: `[M, H, W, 3]`, the last real frame before.
        window: frames of a window of the clip distance, at least 2.
        i3d: network of FVD; no FVD without.

    Raises:
        InputError: the network is no I3D, or the clips are too few or too short for FVD.
        UnsupportedError: packages of the clip distance are missing.
        DeviceError: features are NaN or Inf.
    """
    sets = _Sets.of(generated, real, last)
    return Realism(
        clip_distance=_clip_distance(sets, max(2, window)), fvd=None if i3d is None else _fvd(sets, i3d)
    )


def _clip_distance(sets: _Sets, window: int) -> SetDistance | None:
    num_windows = sets.real.shape[1] // window
    if num_windows * len(sets.reference) < 2 * WINDOWS_PER_COMPONENT or num_windows * len(sets.real) < 2:
        return None
    features = FrameFeatures(*sets.real.shape[2:4])
    try:
        reference = Reference.fit(describe(sets.reference, features, window))
    except InputError:  # clips that hardly differ have no spread to measure by
        return None
    generated, real, frozen = (
        describe(each, features, window) for each in (sets.generated, sets.real, sets.frozen)
    )
    several = len(real) > 1
    return SetDistance(
        rollouts=reference.distance(generated),
        rollouts_noise=reference.noise(generated) if several else None,
        floor=reference.distance(real),
        floor_noise=reference.noise(real) if several else None,
        frozen=reference.distance(frozen),
        num_clips=len(real),
        num_reference_clips=len(sets.reference),
        num_frames=window,
    )


def _fvd(sets: _Sets, net: I3d) -> SetDistance:
    """Unterthiner et al. take one clip of each video: the first frames of each continuation."""
    reference, generated, real, frozen = (
        net(each[:, :CLIP_FRAMES]) for each in (sets.reference, sets.generated, sets.real, sets.frozen)
    )
    return SetDistance(
        rollouts=fvd(reference, generated),
        rollouts_noise=None,
        floor=fvd(reference, real),
        floor_noise=None,
        frozen=fvd(reference, frozen),
        num_clips=len(real),
        num_reference_clips=len(reference),
        num_frames=min(CLIP_FRAMES, sets.real.shape[1]),
    )


def realism_table(figures: Realism) -> Table:
    """Make the table of the report."""
    few = figures.fvd is not None and figures.fvd.num_clips < RELIABLE_CLIPS
    table = make_table(
        "Rollouts as a set against other real clips",
        ("", "rollouts", "real clips", "last frame repeated", "clips"),
        "Smaller is closer; real clips are the floor. Clip distance: Fréchet distance of clip descriptors, ± "
        "its standard deviation when clips are drawn anew; it is not FVD, and compares with nothing but "
        "values of the same clips."
        + (f" FVD is too large with fewer than {RELIABLE_CLIPS:,} clips." if few else ""),
    )
    for name, figure in (("clip distance", figures.clip_distance), ("FVD", figures.fvd)):
        if figure is not None:
            table.add_row(
                name,
                _noisy(figure.rollouts, figure.rollouts_noise),
                _noisy(figure.floor, figure.floor_noise),
                f"{figure.frozen:.1f}",
                f"{figure.num_clips} against {figure.num_reference_clips}",
            )
    return table


def _noisy(value: float, noise: float | None) -> str:
    return f"{value:.1f}" if noise is None else f"{value:.1f} ±{noise:.1f}"
