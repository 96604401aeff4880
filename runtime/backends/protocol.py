"""What every back end offers. `Session` is written against this and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStats:
    """What decoding one frame took."""

    passes: int


class Backend(Protocol):
    """Evaluates the model for a batch of rows. Rows go in, new rows come out; none is changed."""

    def prefill(self, row_seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """Starts a session from a prompt.

        Args:
            row_seed: 64-bit key of the session's random numbers.
            frames: `[T, H, W, 3]` uint8, T at least 1.
            actions: `T` indices, entry `t` led to frame `t`; the first is `NULL_ACTION`.

        Returns:
            The row, and the last frame as the model sees it: `[Hout, Wout, 3]` uint8.

        Raises:
            DeviceError: the tokenizer gave NaN or Inf.
        """
        ...

    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan
    ) -> tuple[list[Row], Tensor, FrameStats]:
        """Decodes the next frame of every row; rows must not be pending.

        Returns:
            New rows, pending; pictures `[B, Hout, Wout, 3]` uint8; what it took.

        Raises:
            DeviceError: logits or pixels are NaN or Inf; the rows are as they were.
        """
        ...

    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """Computes the page of every row's last frame from its decided tokens, for later frames to see."""
        ...
