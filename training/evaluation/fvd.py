"""FVD, the Fréchet video distance (Unterthiner et al. 2018, arXiv 1812.01717), with the user's own I3D.

The network is the TorchScript file that FVD is commonly computed with (`i3d_torchscript.pt`, as of
StyleGAN-V): an I3D trained on Kinetics-400, whose 400 logits are a clip's features. It is called as

    net(videos, rescale=False, resize=False, return_features=True)

with `[B, 3, T, 224, 224]` float32 from -1 to 1, and gives `[B, 400]`. Two sets of clips are compared as
Gaussians of their features.

Fitting 400 dimensions takes thousands of clips. With fewer, every distance is too large, that of real clips
too, and a set that hardly varies may come out closer than a real one: so a value means something only beside
the floor and beside repeated frames, measured on as many clips.

A TorchScript file is a program: loading it runs what its author wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import DeviceError, InputError
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.clip_distance import frechet
from genie_rt.training.evaluation.intervals import Floats

if TYPE_CHECKING:
    import torch

CLIP_FRAMES = 16
"""Frames of a clip, as in the papers that report FVD; shorter clips are taken whole."""

MIN_FRAMES = 10
"""I3D halves the time three times and pools over two; fewer frames leave nothing."""

MIN_CLIPS = 2
RELIABLE_CLIPS = 2048
"""Clips in each set from which on FVD is commonly reported."""

SIDE = 224
NUM_FEATURES = 400
BATCH = 8


class I3d:
    """The user's I3D, on the CPU. Runs the code in the file: only for files that the user trusts.

    Raises:
        InputError: the file is missing or is no TorchScript.
    """

    @staticmethod
    def check(num_clips: int, num_frames: int) -> None:
        """Raise `InputError` where sets of clips are too small for FVD, or the clips too short."""
        if num_frames < MIN_FRAMES or num_clips < MIN_CLIPS:
            raise InputError(
                f"FVD: expected {MIN_CLIPS} clips or more of {MIN_FRAMES} frames or more in each set, found "
                f"{num_clips} of {num_frames}"
            )

    def __init__(self, path: Path) -> None:
        import torch

        if not path.is_file():
            raise InputError(f"--i3d: expected a TorchScript file, found none at {path}")
        try:
            self._net = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"--i3d: expected a TorchScript I3D such as i3d_torchscript.pt, found {path}, which does not "
                f"load: {_first_line(error)}"
            ) from error

    def __call__(self, frames: Frames) -> NDArray[np.float32]:
        """Features of clips `[M, T, H, W, 3]` uint8: `[M, 400]` float32.

        Raises:
            InputError: the clips are shorter than `MIN_FRAMES`, or the network gives something else.
            DeviceError: features are NaN or Inf.
        """
        import torch

        self.check(MIN_CLIPS, frames.shape[1])
        parts = []
        with torch.inference_mode():
            for begin in range(0, len(frames), BATCH):
                videos = prepared(frames[begin : begin + BATCH])
                try:
                    found = self._net(videos, rescale=False, resize=False, return_features=True)
                except (RuntimeError, torch.jit.Error) as error:
                    raise InputError(
                        "--i3d: expected a network that takes (videos, rescale, resize, return_features), "
                        f"found one that refuses: {_first_line(error)}"
                    ) from error
                if not isinstance(found, torch.Tensor) or found.shape != (len(videos), NUM_FEATURES):
                    shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
                    raise InputError(
                        f"--i3d: expected features [{len(videos)}, {NUM_FEATURES}], found {shape}"
                    )
                parts.append(found.float().numpy())
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise DeviceError("FVD: expected finite features, found NaN or Inf")
        return features


def prepared(frames: Frames) -> torch.Tensor:
    """Clips `[B, T, H, W, 3]` uint8 as I3D takes them: `[B, 3, T, 224, 224]` float32, -1 to 1, bilinear."""
    import torch
    from torch.nn.functional import interpolate

    clips, length = frames.shape[:2]
    flat = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, 1).permute(0, 3, 1, 2).float()
    large = interpolate(flat, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    scaled = (large / 127.5 - 1).clamp(-1, 1)  # interpolation rounds beyond both
    return scaled.reshape(clips, length, 3, SIDE, SIDE).permute(0, 2, 1, 3, 4)


def fvd(features: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The Fréchet distance of two sets of features `[M, 400]`, M at least 2 in each.

    Raises:
        InputError: a set has fewer than two clips.
        DeviceError: a feature is NaN or Inf.
    """
    (mean1, covariance1), (mean2, covariance2) = (_gaussian(each) for each in (features, others))
    return frechet(mean1, covariance1, mean2, covariance2)


def _gaussian(features: NDArray[np.float32]) -> tuple[Floats, Floats]:
    I3d.check(len(features), MIN_FRAMES)
    points = features.astype(np.float64)
    return points.mean(0), np.atleast_2d(np.cov(points, rowvar=False))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
