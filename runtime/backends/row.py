"""The state of one session inside a back end: a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_rt.errors import StateError
from genie_rt.runtime.backends.frame_reuse import Carried
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION
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
        carried: what a plan with `reuse="frames"` takes up from the last frame; None after any other plan.
    """

    seed: int
    frame_index: int
    tokens: Tensor
    action: int
    pending: bool
    dynamics: Pages
    decoder: Pages
    carried: Carried | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(seed={self.seed}, frame_index={self.frame_index}, action={self.action}, "
            f"pending={self.pending}, device={str(self.tokens.device)!r})"
        )


def blank_row(config: ModelConfig, seed: int, device: torch.device) -> Row:
    """The row of a session that has seen nothing yet: `Backend.show` gives it a first frame."""
    tokens = torch.zeros(config.tokenizer.num_tokens, dtype=torch.int64, device=device)
    return Row(
        seed=seed, frame_index=-1, tokens=tokens, action=NULL_ACTION, pending=False, dynamics=(), decoder=()
    )  # fmt: skip


def is_shared(rows: Sequence[Row]) -> bool:
    """Whether the rows are one row, several times: then they have one past."""
    return all(row is rows[0] for row in rows)


def random_keys(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Keys of the random numbers of the rows' next frames.

    Returns:
        The bits of each seed, and the index of the frame: `[R]` int64 each.
    """
    keys = [(signed(row.seed), row.frame_index + 1) for row in rows]
    seeds, frames = torch.tensor(keys, device=device).unbind(1)
    return seeds, frames


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
