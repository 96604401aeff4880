"""The contract of a back end. Whatever the rest of the runtime and the benchmarks ask of one stands here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStats:
    """What decoding one frame of one session took.

    Attributes:
        passes: evaluations of the dynamics until all tokens were decided.
        tokens: tokens that these computed, together; `passes * N` where nothing is reused.
        cold: whether something was made ready that later frames find there, such as a graph captured: then
            its time says nothing about theirs.
    """

    passes: int
    tokens: int
    cold: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What one pass saw and would sample, teacher-forced.

    Attributes:
        logits: `[B, N, V]`, in at least float32.
        candidates: `[B, N]` int64, the token that would be sampled at every place.
    """

    logits: Tensor
    candidates: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What a back end holds on its device.

    Attributes:
        weight_bytes: of the weights, as they are kept.
        page_bytes: of the pages that somebody holds.
        pool_bytes: of all pages that memory is reserved for.
    """

    weight_bytes: int
    page_bytes: int
    pool_bytes: int


class Backend(Protocol):
    """Evaluates the model for a batch of rows. Rows go in, new rows come out; none is changed.

    What a row becomes depends on the other rows of the batch in its last bits at most, and with
    `batch_invariant` not at all. Rows that share their pages, such as one row given several times with
    different actions, are evaluated over one past.

    Attributes:
        name: one of `BACKENDS`.
        device: that it computes on.
        dtype: of the pages that it keeps.
        arithmetic: number format of what is not computed in the world's own, such as what an int8 graph does
            not quantise; None where there is no such thing.
        batch_invariant: whether a row becomes the same in every batch, to the last bit. Where it does not,
            products of matrices of another size add in another order: of several rows in one batch, as in
            peeks, rollouts and pools, one may get another token than it would alone, now and then, and with
            that other frames from there on.
        definition: the model in plain torch, where that is what it computes; else None.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    arithmetic: str | None
    batch_invariant: bool
    definition: WorldModel | None

    @property
    def memory_use(self) -> MemoryUse:
        """What it holds now."""
        ...

    def check(self) -> None:
        """Raises `DeviceError` where a frame was not finite, of those computed by now and not waited for."""
        ...

    def reserve(self, num_sessions: int) -> None:
        """Makes room for the pages of so many sessions in all, where making it later would mean moving them.

        Raises:
            DeviceError: there is not enough memory; everything is as it was.
        """
        ...

    def commits_ahead(self, plan: Plan) -> bool:
        """Whether a commit before a frame of this plan gives the frame that the commit within it gives.

        To the last bit, for one row. Where it does not, sessions leave the commit to the frame.
        """
        ...

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """The numbers of rows, of 1 to `most`, whose frames are made ready apart from each other.

        Whoever has played each of them once, as `World.warm_up` does, has made ready all numbers of rows.
        """
        ...

    def prefill(self, seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """Starts a session from a prompt.

        Args:
            seed: 64-bit key of the session's random numbers.
            frames: `[T, H, W, 3]` uint8, T at least 1.
            actions: `T` indices, entry `t` led to frame `t`; the first is `NULL_ACTION`.

        Returns:
            The row, pending, and the last frame as the model sees it: `[Hout, Wout, 3]` uint8.

        Raises:
            DeviceError: the tokenizer gave NaN or Inf.
        """
        ...

    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """Decodes the next frame of every row.

        A row that is still pending is committed first, or within the first pass: one evaluation over the
        tokens of both frames.

        Args:
            actions: one index per row.
            decode: False leaves out the pictures; the new rows then have no decoder pages, and no picture can
                be made of them or of their successors.

        Returns:
            New rows, pending; pictures `[B, Hout, Wout, 3]` uint8, None without `decode`; what each row took.

        Raises:
            DeviceError: logits or pixels are NaN or Inf; the rows are as they were.
        """
        ...

    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """Computes the page of every pending row's last frame from its decided tokens, for later frames."""
        ...

    def probe(
        self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor, plan: Plan, pass_index: int
    ) -> Probe:
        """One whole pass over given tokens, for comparing back ends: nothing is decided and no row is made.

        Args:
            rows: none pending. Its `tokens` may be another back end's.
            tokens: `[B, N]` int64, the new frame's as they are before the pass, `UNDECIDED` where masked.
            plan: its temperature is sampled with. pass_index: the counter of the random numbers.
        """
        ...

    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """The pictures of given tokens `[B, N]` as the rows' next frames, for comparing back ends.

        Returns:
            The rows with these tokens as their last frame, pending, and pictures `[B, Hout, Wout, 3]` uint8.
        """
        ...

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """A row's tensors on the CPU, its pages gathered; see `row_io`."""
        ...

    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """The row that `save_row` took apart.

        Raises:
            InputError: a tensor is missing, or is none of a row of this model and dtype.
        """
        ...
