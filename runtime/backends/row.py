"""The state of one session inside a back end: a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from genie_rt.errors import StateError
from genie_rt.runtime.pages import Pages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Row:
    """All that decides a session's future, besides the actions to come. Immutable: a step makes a new one.

    Attributes:
        seed: key of the session's random numbers, 64 bits.
        frame_index: frames since the reset; a frame's counter in the random numbers.
        tokens: `[N]` int64, the last frame's tokens.
        action: the action that led to it, `NULL_ACTION` at a first frame.
        pending: whether the last frame's page of the dynamics is still to be computed (its commit).
        dynamics, decoder: pages of the frames before, newest first.
        encoder: the same, while a prompt is taken in; empty afterwards.
        spatial: one page with the keys and values of spatial attention in the last frame's first pass, empty
            where its plan did not keep them. Read by `reuse="frames"`.
        change: `[P]` float32, how much changed lately at each position, for `reuse="frames"`.
    """

    seed: int
    frame_index: int
    tokens: Tensor
    action: int
    pending: bool
    dynamics: Pages
    encoder: Pages
    decoder: Pages
    spatial: Pages
    change: Tensor

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(seed={self.seed}, frame_index={self.frame_index}, action={self.action}, "
            f"pending={self.pending}, device={str(self.tokens.device)!r})"
        )


def is_shared(rows: Sequence[Row]) -> bool:
    """Whether the rows are one row, several times: then they have one past."""
    return all(row is rows[0] for row in rows)


def check_decoded(rows: Sequence[Row], window: int) -> None:
    """Raises `StateError` unless the rows have the pages that a decoder with this window will look at."""
    for row in rows:
        if len(row.decoder) != min(row.frame_index + 1, window - 1):
            raise StateError(
                "expected a state whose frames were all decoded, found one that was played without "
                "pictures; start from the moment before that"
            )


def signed(seed: int) -> int:
    """The 64 bits of a seed as a signed integer, as int64 tensors hold them."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed
