"""Back ends that compute the rows of a batch one after the other: `reference` and those that run graphs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from genie_rt.runtime.backends.decode_loop import EagerLoop, EagerPasses, Seen
from genie_rt.runtime.backends.frame_reuse import Carried, spread_of_change
from genie_rt.runtime.backends.paged import PagedBackend
from genie_rt.runtime.backends.protocol import FrameStats, Probe
from genie_rt.runtime.backends.row import Row, check_decoded, random_keys
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import position_tokens
from genie_rt.runtime.pages import Page, PagePool, Pages
from genie_rt.runtime.plan import Plan

Context = TypeVar("Context")
"""What the passes of a row's next frame attend to, gathered once."""


class RowPasses(EagerPasses[Seen]):
    """The passes of one row's next frame, the row being committed.

    Attributes:
        carried: page that `carry` kept.
    """

    carried: Page | None = None

    @abstractmethod
    def probe(self, k: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pass `k` over tokens `[1, N]`: logits `[1, N, V]`, and the tokens that it samples, `[1, N]`."""


class RowByRowBackend(PagedBackend, Generic[Context, Seen]):
    """Computes every row by itself, so that it becomes the same in every batch.

    One row that is asked about several actions is committed once, and its context gathered once.
    """

    batch_invariant = True

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, pages: type[PagePool]):
        self.config, self.device, self.dtype = config, device, dtype
        num_tokens = config.tokenizer.num_tokens
        self.dynamics_pages = pages(config.dynamics.transformer, config.num_positions, dtype, device)
        self.encoder_pages = pages(config.tokenizer.encoder, num_tokens, dtype, device)
        self.decoder_pages = pages(config.tokenizer.decoder, num_tokens, dtype, device)
        self.members = position_tokens(config, device)  # [P, S]
        self.place_of = self.members.flatten().argsort()  # [N]: position * S + slot of each token

    def reserve(self, num_sessions: int) -> None:
        """Nothing: pages come in chunks that never move."""

    def check(self) -> None:
        """Nothing: every call waits for what it computes."""

    def commits_ahead(self, plan: Plan) -> bool:
        """Always, since a commit is computed by itself anyway; see `Backend.commits_ahead`."""
        return True

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """Nothing depends on how many there are; see `Backend.batches`."""
        return (1,)

    @torch.inference_mode()
    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """See `Backend.frame`."""
        if decode:
            check_decoded(rows, self.decoder_pages.window)
        keys = random_keys(rows, self.device)
        uniforms = self._uniforms(rows, keys, plan.passes)
        num_ready = self._num_ready
        ready: dict[int, tuple[Row, Context]] = {}
        new_rows, pictures, stats = [], [], []
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            own = slice(i, i + 1)
            u, noise_u = (x[:, own] for x in uniforms)
            whole = self._whole_frame(row, action, plan, u, noise_u)
            if whole is not None:
                new_row, picture, took = whole
                new_rows.append(new_row if decode else replace(new_row, decoder=()))
                pictures.append(picture)
            else:
                if id(row) not in ready:
                    last = self._commit(row)
                    ready[id(row)] = last, self._context(last)
                last, context = ready[id(row)]
                passes = self._passes(last, context, action, plan, u, noise_u)
                seeds, frames = (key[own] for key in keys)
                recalls = last.carried is not None
                loop = EagerLoop(passes, plan, self.config, seeds, frames, recalls=recalls)
                (tokens,) = loop.run()
                decoder: Pages = ()
                if decode:
                    decoder, picture = self._decode(tokens, row.decoder)
                    pictures.append(picture)
                carried = None if passes.carried is None else self._carry(last, tokens, passes.carried)
                new_rows.append(_next(last, action, tokens, decoder, carried))
                count = loop.num_passes
                took = FrameStats(passes=count, tokens=loop.tokens_computed(count))
            stats.append(took)
        if self._num_ready > num_ready:  # all rows waited for it
            stats = [replace(took, cold=True) for took in stats]
        return new_rows, torch.stack(pictures) if decode else None, stats

    @torch.inference_mode()
    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """See `Backend.commit`."""
        done = {id(row): self._commit(row) for row in {id(row): row for row in rows}.values()}
        return [done[id(row)] for row in rows]

    @torch.inference_mode()
    def probe(
        self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor, plan: Plan, pass_index: int
    ) -> Probe:
        """See `Backend.probe`."""
        plan = plan.replace(reuse="none")
        u, noise_u = self._uniforms(rows, random_keys(rows, self.device), pass_index + 1)
        logits, candidates = [], []
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            own = slice(i, i + 1)
            passes = self._passes(row, self._context(row), action, plan, u[:, own], noise_u[:, own])
            scores, sampled = passes.probe(pass_index, tokens[own])
            logits.append(scores)
            candidates.append(sampled)
        return Probe(logits=torch.cat(logits), candidates=torch.cat(candidates))

    @torch.inference_mode()
    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """See `Backend.show`."""
        new_rows, pictures = [], []
        for row, action, own in zip(rows, actions, tokens, strict=True):
            decoder, picture = self._decode(own, row.decoder)
            new_rows.append(_next(row, action, own, decoder))
            pictures.append(picture)
        return new_rows, torch.stack(pictures)

    def _carry(self, row: Row, tokens: Tensor, spatial: Page) -> Carried:
        before = None if row.carried is None else row.carried.change[None]
        change = spread_of_change(row.tokens[None], tokens[None], before, self.members, self.config)
        return Carried(spatial=spatial, change=change[0])

    def _commit(self, row: Row) -> Row:
        """The row with its last frame's page; as it is where it has that already."""
        if not row.pending:
            return row
        page = self._commit_page(row)
        return replace(row, pending=False, dynamics=self.dynamics_pages.push(row.dynamics, page))

    # What a back end of this kind adds.

    @property
    def _num_ready(self) -> int:
        """How much has been made ready by now that later frames find there, such as compiled graphs."""
        return 0

    def _whole_frame(
        self, row: Row, action: int, plan: Plan, u: Tensor, noise_u: Tensor
    ) -> tuple[Row, Tensor, FrameStats] | None:
        """The next row of a row, its picture, and what it took, where one graph does a frame of this plan.

        Args:
            u, noise_u: `[K, 1, N]` float32.
        """
        return None

    @abstractmethod
    def _uniforms(
        self, rows: Sequence[Row], keys: tuple[Tensor, Tensor], num_passes: int
    ) -> tuple[Tensor, Tensor]:
        """`uniforms_of_frames` of the rows' next frames: `[K, R, N]` float32 each, on the device."""

    @abstractmethod
    def _context(self, row: Row) -> Context:
        """Gathers what the passes of a committed row's next frame attend to."""

    @abstractmethod
    def _passes(
        self, row: Row, context: Context, action: int, plan: Plan, u: Tensor, noise_u: Tensor
    ) -> RowPasses[Seen]:
        """The passes of a committed row's next frame; `u` and `noise_u` are `[K, 1, N]` float32."""

    @abstractmethod
    def _commit_page(self, row: Row) -> Page:
        """Computes the page of a row's last frame from its tokens."""

    @abstractmethod
    def _decode(self, tokens: Tensor, pages: Pages) -> tuple[Pages, Tensor]:
        """Decodes tokens `[N]` after the frames of `pages`.

        Returns:
            The pages for the next frame, and the picture `[Hout, Wout, 3]` uint8.
        """


def _next(row: Row, action: int, tokens: Tensor, decoder: Pages, carried: Carried | None = None) -> Row:
    """The row one frame later, pending."""
    return replace(
        row, frame_index=row.frame_index + 1, tokens=tokens, action=int(action), pending=True,
        decoder=decoder, carried=carried,
    )  # fmt: skip
