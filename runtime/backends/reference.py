"""The `reference` back end: the definition with pages, in plain torch; the yardstick of all other ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.vq_lookup.reference import nearest_code
from genie_rt.runtime.backends.decode_loop import uniforms_of_frames
from genie_rt.runtime.backends.finite import check_finite
from genie_rt.runtime.backends.frame_forward import AttentionContext, FrameForward, forward_frame
from genie_rt.runtime.backends.registry import BuildRequest
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.backends.row_by_row import RowByRowBackend, RowPasses
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.orders.base import counting
from genie_rt.runtime.pages import Page, PagePool, Pages
from genie_rt.runtime.plan import Plan


class ReferenceBackend(RowByRowBackend[AttentionContext, "Evaluated"]):
    """Runs a `WorldModel` with one page per past frame.

    Args:
        model: moved to `device` and `dtype`, its gradients switched off.
        dtype: torch.float64, float32 or bfloat16.
    """

    name = "reference"
    arithmetic = None

    def __init__(self, model: WorldModel, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(model.config, device, dtype, PagePool)
        self.model = self.definition = model.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self.weight_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        with torch.inference_mode():
            self.table = model.token_table()  # [V, E]

    def embed(self, tokens: Tensor, previous: Tensor, action: Tensor) -> Tensor:
        """Inputs of the dynamics for one frame: tokens `[N]` and an action `[1, 1]` to `[P, D]`."""
        embed = self.model.dynamics.embed
        return embed(tokens[None, None], previous[None, None], action, self.table)[0, 0]

    def _uniforms(
        self, rows: Sequence[Row], keys: tuple[Tensor, Tensor], num_passes: int
    ) -> tuple[Tensor, Tensor]:
        return uniforms_of_frames(*keys, num_passes, self.config.tokenizer.num_tokens)

    def _context(self, row: Row) -> AttentionContext:
        return AttentionContext.gather(self.dynamics_pages, row.dynamics)

    def _passes(
        self, row: Row, context: AttentionContext, action: int, plan: Plan, u: Tensor, noise_u: Tensor
    ) -> ReferencePasses:
        return ReferencePasses(self, row, context, action, plan, u, noise_u)

    def _commit_page(self, row: Row) -> Page:
        action = torch.tensor([[row.action]], device=self.device)
        x = self.embed(row.tokens, row.tokens, action)
        done = forward_frame(self.model.dynamics.transformer, x, self._context(row))
        check_finite("dynamics", done.hidden, done.temporal)
        return self.dynamics_pages.write(done.temporal)

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Page]:
        tokenizer, pool = self.model.tokenizer, self.encoder_pages
        x = tokenizer.embed_patches(frame[None, None])[0, 0]
        done = forward_frame(tokenizer.encoder, x, AttentionContext.gather(pool, pages))
        vectors = tokenizer.code_in(done.hidden)
        check_finite("tokenizer's encoder", vectors, done.temporal)
        return nearest_code(vectors, tokenizer.codebook), pool.write(done.temporal)

    def _decode(self, tokens: Tensor, pages: Pages) -> tuple[Pages, Tensor]:
        tokenizer, pool = self.model.tokenizer, self.decoder_pages
        x = tokenizer.embed_codes(tokens[None, None])[0, 0]
        done = forward_frame(tokenizer.decoder, x, AttentionContext.gather(pool, pages))
        pixels = tokenizer.to_pixels(done.hidden[None, None])
        check_finite("tokenizer's decoder", pixels, done.temporal)
        return pool.push(pages, pool.write(done.temporal)), to_uint8(pixels[0, 0])


class Evaluated(NamedTuple):
    """What a pass gives.

    Attributes:
        is_full: whether it is of all positions.
    """

    forward: FrameForward
    is_full: bool


class ReferencePasses(RowPasses[Evaluated]):
    """The passes of one row's next frame.

    Args:
        row: committed.
        context: of its next frame.
        u, noise_u: `[K, 1, N]` float32.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        row: Row,
        context: AttentionContext,
        action: int,
        plan: Plan,
        u: Tensor,
        noise_u: Tensor,
    ) -> None:
        super().__init__(plan, noise_u)
        self.backend, self.row, self.u = backend, row, u
        self._action = torch.tensor([[action]], device=u.device)
        self._context = context
        self._spatial: list[KeysValues] | None = None  # at all positions, as last computed

    def full(self, k: int, tokens: Tensor) -> Evaluated:
        return self._forward(tokens, None)

    def at(self, k: int, tokens: Tensor, index: Tensor) -> Evaluated:
        return self._forward(tokens, index[0])

    def draw(self, k: int, seen: Evaluated, among: Tensor | None) -> tuple[Tensor, Tensor]:
        u = self.u[k] if among is None else self.u[k].gather(1, among)
        return sample(self.logits(seen, among), u, self.plan.temperature)

    def probe(self, k: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(self.full(k, tokens), None)
        return logits, sample(logits, self.u[k], self.plan.temperature)[0]

    def recall(self) -> Tensor:
        assert self.row.carried is not None
        page = self.backend.dynamics_pages.view(self.row.carried.spatial)
        self._spatial = [(keys, values) for keys, values in page]
        return self.row.carried.change[None]

    def carry(self) -> None:
        assert self._spatial is not None
        self.carried = self.backend.dynamics_pages.write(self._spatial)

    def logits(self, seen: Evaluated, among: Tensor | None) -> Tensor:
        """Scores of the tokens that `Passes.sample` names: `[1, n, V]`, known to be finite."""
        backend, done = self.backend, seen.forward
        dynamics, table, previous = backend.model.dynamics, backend.table, self.row.tokens[None]
        if among is None:
            logits = dynamics.logits(done.hidden[None, None], previous[:, None], table)[:, 0]
        else:
            slots = backend.members.shape[1]
            end = len(done.hidden) * slots
            places = counting(end, among.device)[end - among.shape[1] :]
            if seen.is_full:
                places = backend.place_of[among[0]]
            previous = previous.gather(1, among)
            logits = dynamics.logits_at(done.hidden[None], places[None], previous, table)
        check_finite("dynamics", logits, done.temporal)
        return logits

    def _forward(self, tokens: Tensor, index: Tensor | None) -> Evaluated:
        transformer = self.backend.model.dynamics.transformer
        x, context = self.backend.embed(tokens[0], self.row.tokens, self._action), self._context
        if index is not None:
            x, context = x.index_select(0, index), context.at(index)
        done = forward_frame(transformer, x, context, spatial=self._spatial, index=index)
        self._spatial = done.spatial
        return Evaluated(done, index is None)


def build(request: BuildRequest) -> ReferenceBackend:
    """The back end of a world."""
    return ReferenceBackend(request.model(), request.device, request.activations)
