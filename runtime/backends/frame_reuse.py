"""What `reuse="frames"` carries from frame to frame, and which positions it computes: all that is its own.

The keys and values of spatial attention in a frame's first pass are kept for the first pass of the next one,
which computes only the positions where most changed lately. An approximation, see `Plan.reuse`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import avg_pool2d

from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.pages import Page

FORGET = 0.5
"""How much of a position's change score is left one frame later."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Carried:
    """What a row carries after a frame of such a plan.

    Attributes:
        spatial: page with the keys and values of spatial attention in the frame's first pass, where every
            token was still masked. (Later passes and the commit would tell the next frame that its tokens
            are decided already, and it would freeze.)
        change: `[P]` float32, how much changed lately at each position.
    """

    spatial: Page
    change: Tensor


def fresh_positions(change: Tensor, share: float) -> Tensor:
    """The share of the positions where most changed, rounded up: of scores `[R, P]`, `[R, Q]` int64."""
    count = num_fresh(change.shape[1], share)
    return change.sort(dim=1, descending=True, stable=True).indices[:, :count]


def num_fresh(num_positions: int, share: float) -> int:
    """How many positions a first pass computes."""
    return math.ceil(share * num_positions)


def spread_of_change(
    last: Tensor, tokens: Tensor, before: Tensor | None, members: Tensor, config: ModelConfig
) -> Tensor:
    """How much changed lately at each position: `[R, P]` float32.

    The number of tokens that the new frame changed there and in the eight positions around, and half of what
    the score was before.

    Args:
        last, tokens: `[R, N]` int64, the last frame's and the new one's.
        before: `[R, P]` float32, the scores so far; None where nothing is known.
        members: `[P, S]`, the tokens of each position.
    """
    changed = (tokens != last).float()
    height, width = (side // config.dynamics.merge for side in config.tokenizer.grid)
    counts = changed[:, members].sum(2).view(-1, 1, height, width)
    around = avg_pool2d(counts, 3, stride=1, padding=1, divisor_override=1).flatten(1)
    return around if before is None else around + FORGET * before
