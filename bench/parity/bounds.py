"""Error bounds of back ends and precisions, with the reason for each figure."""

from __future__ import annotations

from dataclasses import dataclass

from genie_rt.runtime.backends.registry import BACKENDS, graph_precision
from genie_rt.runtime.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Error bound of an implementation in one precision.

    The cumulative distribution is a sum of softmax(logits / temperature). To first order an error of the
    logits moves it by `cdf (1 - cdf) / temperature` times the difference of two of the errors' means, above
    and below the boundary: by at most `e / (4 temperature)`, where `e` is that difference. Errors grow with
    the logits, so `e` is stated by their standard deviation. Sampling rounds its own sum over the codebook.

    Attributes:
        means: `e` by the logits' standard deviation.
        logit: largest error of a single logit, likewise.
        sampling: rounding of the cumulative sum, for each entry of the codebook.
        psnr_db: least of the pictures.
    """

    means: float
    logit: float
    sampling: float
    psnr_db: float

    def cdf(self, temperature: float, logit_std: float, codebook_size: int) -> float:
        """The bound on the cumulative distribution, and so on the distance of a mismatch."""
        return self.means * logit_std / (4 * temperature) + self.sampling * codebook_size


BOUNDS = {
    # 2**-53 a rounding, a few thousand of them in a row; tokens are besides that asked to be equal
    "float64": Bound(means=1e-11, logit=1e-11, sampling=2.0**-53, psnr_db=90),
    # 2**-24 a rounding. Measured on the demo: means 2e-6, logits 3e-6, 94 dB; ten times that, and a pixel
    # in 200 on the other side of a rounding to 8 bits
    "float32": Bound(means=2e-5, logit=3e-5, sampling=2.0**-24, psnr_db=70),
    # 2**-8 a rounding, sums kept in float32. Measured on the demo: means 0.033, logits 0.052, 58 dB; two
    # to three times that, and pixels off by two levels
    "bfloat16": Bound(means=0.06, logit=0.15, sampling=2.0**-24, psnr_db=42),
    # 2**-11 a rounding, sums kept in float32. Measured on the demo: means 0.0032, logits 0.0063, 66 dB; three
    # times that
    "float16": Bound(means=0.01, logit=0.02, sampling=2.0**-24, psnr_db=54),
    # e4m3, 2**-4 a rounding, of weights and of what they multiply, besides bfloat16's; pictures are in that.
    # Measured on the demo: means 0.18, logits 0.31, 58 dB; two to three times that
    "fp8": Bound(means=0.45, logit=0.75, sampling=2.0**-24, psnr_db=42),
    # 127 steps a row, likewise. Measured on the demo: means 0.042, logits 0.10, 56 dB; two to three times
    # that
    "int8": Bound(means=0.1, logit=0.25, sampling=2.0**-24, psnr_db=42),
}
"""Bounds by the candidate's precision."""

VACUOUS = 0.25
"""Bound above which tokens say little, since `u` is rarely further from a boundary."""


def may_differ(share: float) -> float:
    """The share of the tokens of played frames that may be other ones than the yardstick's.

    A token that flips in one pass changes what the next ones see. Measured on the demo, with 2 to 25 passes
    in bfloat16 and int8: one to three times as many differ as pass by pass. A single one takes 5 of 256
    along, at most 64, and few frames are played of some plans: hence the quarter. Of tokens that all moved by
    one place half differ.

    Args:
        share: of the tokens that differ where both are given the same ones in every pass.
    """
    return 0.25 + 4 * share


def bound_of(bundle: Bundle, backend: str, dtype: str) -> Bound:
    """Return the bound that judges a computation: the one the bundle declares, or `BOUNDS`."""
    declared = None
    spec = BACKENDS[backend]
    as_exported = spec.runs_graphs or spec.takes_limits
    if as_exported and bundle.graphs is not None and graph_precision(dtype) == dtype:
        declared = bundle.graphs.bounds.get(dtype)
    if declared is None:
        return BOUNDS[dtype]
    return Bound(
        means=declared.means,
        logit=declared.logit,
        sampling=BOUNDS[dtype].sampling,
        psnr_db=declared.psnr_db,
    )
