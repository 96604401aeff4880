"""Accumulated differences between two computations of the same passes and pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.runtime.backends.protocol import Probe


def distance_to_token(cdf: Tensor, u: Tensor, token: Tensor) -> Tensor:
    """Distance of `u` from the interval `[cdf[token - 1], cdf[token])` that a token is sampled in.

    Args:
        cdf: `[M, V]` float64, cumulative, the last entry 1. u: `[M]` float64. token: `[M]` int64.

    Returns:
        `[M]` float64: 0 inside, infinite for what is no token at all.
    """
    known = (token >= 0) & (token < cdf.shape[1])
    place = token.clamp(0, cdf.shape[1] - 1)[:, None]
    upper = cdf.gather(1, place)[:, 0]
    lower = torch.where(place[:, 0] > 0, cdf.gather(1, (place - 1).clamp(min=0))[:, 0], 0.0)
    distance = torch.maximum(lower - u, u - upper).clamp(min=0)
    return torch.where(known, distance, torch.inf)


def cumulative(logits: Tensor, temperature: float) -> Tensor:
    """The cumulative distribution in float64, `[..., V]`, its last entry 1."""
    cdf = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return cdf / cdf[..., -1:]


def finite(distances: Tensor) -> float | None:
    """The largest of some distances, 0 of none; None where one is infinite, of what is no token at all."""
    largest = float(distances.max()) if len(distances) else 0.0
    return largest if math.isfinite(largest) else None


class Tally:
    """Adds up what differs, pass by pass and picture by picture; keeps no logits."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.passes = self.tokens = 0
        self.max_cdf_error = self.max_logit_error = 0.0
        self._distances: list[Tensor] = []
        self._logits = self._pixels = 0
        self._sum_error = self._sum = self._sum_squares = self._sum_pixel_squares = 0.0

    def add_pass(self, expected: Probe, found: Probe, u: Tensor) -> None:
        """Compare one pass.

        Args:
            u: `[B, N]`, that both sampled with.

        Raises:
            DeviceError: the candidate's logits are not finite, or have another shape.
        """
        ours, theirs = expected.logits.double(), found.logits.cpu().double()
        if ours.shape != theirs.shape:
            raise DeviceError(f"expected logits {list(ours.shape)}, found {list(theirs.shape)}")
        for logits, whose in ((ours, "the yardstick's"), (theirs, "the")):  # or `max` would pass over a NaN
            if not logits.isfinite().all():
                raise DeviceError(f"{whose} logits are NaN or Inf")
        error = (theirs - ours).abs()
        self.max_logit_error = max(self.max_logit_error, float(error.max()))
        self._sum_error += float(error.sum())
        self._sum += float(ours.sum())
        self._sum_squares += float(ours.square().sum())
        self._logits += ours.numel()
        cdf = cumulative(ours, self.temperature)
        off = (cumulative(theirs, self.temperature) - cdf).abs()
        self.max_cdf_error = max(self.max_cdf_error, float(off.max()))
        self.add_tokens(cdf, expected.candidates, found.candidates, u)

    def add_tokens(self, cdf: Tensor, expected: Tensor, found: Tensor, u: Tensor) -> None:
        """Compare the tokens of one pass, `[B, N]` each, in the yardstick's distribution `[B, N, V]`."""
        differs = found.cpu() != expected
        distance = distance_to_token(cdf[differs], u[differs].double(), found.cpu()[differs])
        self.passes += 1
        self.tokens += differs.numel()
        self._distances.append(distance)

    def add_picture(self, expected: Tensor, found: Tensor) -> None:
        """Compare pictures, uint8."""
        self._sum_pixel_squares += float((found.cpu().double() - expected.double()).square().sum())
        self._pixels += expected.numel()

    @property
    def mismatches(self) -> int:
        """Tokens that differ."""
        return len(self.distances)

    @property
    def mean_logit_error(self) -> float:
        return self._sum_error / max(self._logits, 1)

    @property
    def logit_std(self) -> float:
        mean = self._sum / max(self._logits, 1)
        return math.sqrt(max(self._sum_squares / max(self._logits, 1) - mean**2, 0.0))

    @property
    def psnr_db(self) -> float | None:
        if not self._sum_pixel_squares:
            return None
        return 10 * math.log10(255**2 * self._pixels / self._sum_pixel_squares)

    @property
    def distances(self) -> Tensor:
        """Distances of all mismatches, `[M]` float64."""
        return torch.cat(self._distances) if self._distances else torch.empty(0)
