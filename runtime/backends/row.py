"""The state of one session inside a back end: a row."""

from dataclasses import dataclass

from torch import Tensor

from genie_rt.runtime.pages import Pages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """All that decides a session's future, besides the actions to come. Immutable: a step makes a new one.

    Attributes:
        seed: key of the session's random numbers, 64 bits.
        frame_index: frames since the reset; a frame's counter in the random numbers.
        tokens: `[N]` int64, the last frame's tokens.
        action: the action that led to it, `NULL_ACTION` at a first frame.
        pending: whether the last frame's page of the dynamics is still to be computed (its commit).
        dynamics, encoder, decoder: pages of the frames before, newest first.
    """

    seed: int
    frame_index: int
    tokens: Tensor
    action: int
    pending: bool
    dynamics: Pages
    encoder: Pages
    decoder: Pages
