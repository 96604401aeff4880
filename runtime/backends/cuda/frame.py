"""One frame of a plan for a batch of rows: operations over static tensors, in the order of a graph.

Nothing in here asks the device for a value, so the same calls run eagerly, on a CPU too, and captured. The
stages of an "adaptive" frame are captured apart: whoever runs them looks after the first one at how many
passes are left.

Axes: `R` rows, `P` positions, `S` tokens of a position, `N = P S`, `K` passes, `V` codes, `W` window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from genie_rt.kernels.embed_tokens import embed_tokens
from genie_rt.kernels.maskgit_sample import maskgit_sample
from genie_rt.kernels.patchify import unpatchify
from genie_rt.runtime.backends.cuda.inputs import Inputs
from genie_rt.runtime.backends.cuda.packed import PackedModel
from genie_rt.runtime.backends.cuda.pages import FrameMemory, PageMemory
from genie_rt.runtime.backends.cuda.transformer import OnLayer, evaluate
from genie_rt.runtime.backends.decide import spread_of_change
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What lasts from frame to frame."""

    dynamics: PageMemory
    encoder: PageMemory
    decoder: PageMemory
    frames: FrameMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What sets one captured frame apart from another of the same plan.

    Attributes:
        num_rows: `R`, those that only fill it up included.
        pending: whether the rows' last frames are still to be committed.
        spatial: whether there is a first pass of the frame before to reuse.
        decode: whether pictures are made.
    """

    num_rows: int
    pending: bool
    spatial: bool
    decode: bool


class Frame:
    """The next frame of `R` rows.

    Attributes:
        inputs: fill and send them before a run.
        tokens: `[R, N]` int64, the new frame's.
        rgb: `[R, Hout, Wout, 3]` uint8.
        passes: `[R]` int32, of each row, where the plan is "adaptive".
        broken: `[2, R]` bool, whether the dynamics and the decoder of a row gave NaN or Inf.
    """

    def __init__(self, model: PackedModel, memory: Memory, plan: Plan, kind: Kind) -> None:
        self.model, self.memory, self.plan, self.kind = model, memory, plan, kind
        config = model.config
        device = model.members.device
        num_rows, num_tokens = kind.num_rows, config.tokenizer.num_tokens
        self.inputs = Inputs(num_rows, memory.dynamics.window, memory.decoder.window, device)
        self.previous = torch.zeros(num_rows, num_tokens, dtype=torch.int64, device=device)
        self.tokens = torch.zeros_like(self.previous)
        self.broken = torch.zeros(2, num_rows, dtype=torch.bool, device=device)
        self.rgb = torch.zeros(num_rows, *config.tokenizer.output_size, 3, dtype=torch.uint8, device=device)
        self.targets = self.noise = self.scratch = None
        self.passes = torch.full((num_rows,), plan.passes, dtype=torch.int32, device=device)
        if not plan.is_static:
            targets, noise = schedules(plan, num_tokens)
            wide = torch.promote_types(model.precision.activations, torch.float32)
            self.targets, self.noise = targets.to(device), noise.to(device, wide)
            self.scratch = torch.empty(4 * num_rows * num_tokens, dtype=torch.int32, device=device)
        self.kept: Tensor | None = None
        if plan.reuse != "none":
            layers, _, positions, heads, head_width = memory.dynamics.shape
            size = (layers, num_rows, 2, positions, heads, head_width)
            self.kept = torch.zeros(size, dtype=model.precision.activations, device=device)
        self._order: Tensor | None = None  # of a static plan: [R or 1, N]
        self._num_fresh = math.ceil(plan.fresh * config.num_positions)

    def tokens_of(self, passes: int) -> int:
        """Tokens that so many passes compute, of one row."""
        num_tokens, slots = self.tokens.shape[1], self.model.members.shape[1]
        if self.plan.reuse == "passes":
            return num_tokens + sum(self._units(k).stop - self._units(k - 1).start for k in range(1, passes))
        if self.plan.reuse == "frames" and self.kind.spatial:
            return (passes - 1) * num_tokens + self._num_fresh * slots
        return passes * num_tokens

    def whole(self) -> None:
        """All passes and the picture."""
        self.first()
        for k in range(1, self.plan.passes):
            self.later(k)
        self.finish()

    def first(self) -> None:
        """The commit of rows that are pending, and the first pass."""
        self.broken.zero_()
        torch.index_select(self.memory.frames.tokens, 0, self.inputs.column("slot_in"), out=self.previous)
        self.tokens.fill_(UNDECIDED)
        if self.plan.is_static:
            seeds, frames = (self.inputs.column(name) for name in ("seed", "frame_index"))
            self._order = decision_order(self.plan, self.model.config, seeds, frames)
        if self.kind.pending and self.plan.reuse != "none":
            self.commit()
        if self.plan.reuse == "frames" and self.kind.spatial:
            self._fresh_pass()
        else:
            self._full_pass(0)
        if self.plan.reuse == "frames":
            self._keep_spatial()

    def later(self, k: int) -> None:
        """Pass `k`, from 1 on. In a row whose tokens are all decided it changes none."""
        if self.plan.reuse == "passes":
            self._subset_pass(k)
        else:
            self._full_pass(k)

    def finish(self) -> None:
        """The picture, and what is kept of the frame."""
        if self.kind.decode:
            self.decode()
        self.keep()

    def commit(self) -> None:
        """The pages of the last frames, from their tokens."""
        x = self._embed(self.previous, self.inputs.column("last_action"))
        memory = self.memory.dynamics.memory
        hidden = evaluate(self.model.dynamics.transformer, x[:, None], memory, self.inputs.commit)
        self._check(0, hidden)

    def decode(self, on_layer: OnLayer | None = None) -> None:
        """Tokens to pictures; writes the decoder's pages."""
        tokenizer, config = self.model.tokenizer, self.model.config.tokenizer
        x = embed_tokens(
            self.tokens, None, None, tokenizer.code_rows, None, tokenizer.decoder_position, None,
            self.model.all_tokens,
        )  # fmt: skip
        hidden = evaluate(
            tokenizer.decoder, x[:, None], self.memory.decoder.memory, self.inputs.decoder, on_layer=on_layer
        )
        patches = tokenizer.patch_out(hidden.flatten(0, 2)).view(*hidden.shape[:3], -1)
        self._check(1, patches)
        self.rgb.copy_(unpatchify(patches, config.decoder_patch, *config.output_size)[:, 0])

    def keep(self) -> None:
        """Keeps the tokens, and how much changed, for the frames that follow."""
        frames, slot_out = self.memory.frames, self.inputs.column("slot_out")
        before = frames.change.index_select(0, self.inputs.column("slot_in"))
        change = spread_of_change(self.previous, self.tokens, before, self.model.members, self.model.config)
        frames.tokens.index_copy_(0, slot_out, self.tokens)
        frames.change.index_copy_(0, slot_out, change)

    def hidden(self, *, fused: bool = False, on_layer: OnLayer | None = None) -> Tensor:
        """One pass at all positions: `[R, P, D]`. `fused` takes the commit in."""
        inputs, dynamics = self.inputs, self.model.dynamics
        kept = None
        if fused:
            both = torch.stack([self.previous, self.tokens], 1).flatten(0, 1)
            actions = torch.stack([inputs.column("last_action"), inputs.column("action")], 1).flatten()
            x = self._embed(both, actions).unflatten(0, (-1, 2))  # [R, 2, P, D]
            table = inputs.fused
        else:
            x = self._embed(self.tokens, inputs.column("action"))[:, None]
            table, kept = inputs.later, self.kept
        hidden = evaluate(
            dynamics.transformer, x, self.memory.dynamics.memory, table, kept=kept, on_layer=on_layer
        )
        return hidden[:, -1]

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits of all tokens in raster order, `[R, N, V]` in at least fp32."""
        scores, raised = self._head(hidden)
        if self.model.members.shape[1] > 1:
            place_of = self.model.place_of
            scores = scores.index_select(1, place_of)
            raised = None if raised is None else raised.index_select(1, place_of)
        return self._logits(scores, raised, self.previous)

    def _full_pass(self, k: int) -> None:
        fused = self.kind.pending and self.plan.reuse == "none" and k == 0
        hidden = self.hidden(fused=fused)
        if self._order is None:
            return self._sample(self.scores(hidden), k)
        slots = self.model.members.shape[1]
        units = self._units(k)
        decided = self._order[:, units.start : units.stop]
        if slots == 1:
            index = decided[..., None].expand(len(hidden), -1, hidden.shape[2])
            scores, raised = self._head(hidden.gather(1, index))
        else:
            place = self.model.place_of[decided].expand(len(hidden), -1)
            scores, raised = self._head(hidden)
            scores = scores.gather(1, place[..., None].expand(-1, -1, scores.shape[2]))
            raised = None if raised is None else raised.gather(1, place)
        self._sample_known(scores, raised, decided, k)

    def _subset_pass(self, k: int) -> None:
        """Under `reuse="passes"`: the positions that were just decided, and those that are about to be."""
        assert self._order is not None
        slots = self.model.members.shape[1]
        before, now = self._units(k - 1), self._units(k)
        both = self._order[:, before.start : now.stop : slots]
        decided = self._order[:, now.start : now.stop]
        hidden = self._hidden_at((self.model.place_of[both] // slots).int().contiguous())
        scores, raised = self._head(hidden[:, (now.start - before.start) // slots :])
        self._sample_known(scores, raised, decided, k)

    def _fresh_pass(self) -> None:
        """The first pass under `reuse="frames"`: only where most changed lately."""
        assert self.kept is not None
        memory, inputs, members = self.memory, self.inputs, self.model.members
        self.kept.copy_(memory.dynamics.gather(inputs.column("spatial_in")).transpose(0, 1))
        change = memory.frames.change.index_select(0, inputs.column("slot_in"))
        index = change.sort(dim=1, descending=True, stable=True).indices[:, : self._num_fresh].contiguous()
        scores, raised = self._head(self._hidden_at(index.int()))
        places = members[index].flatten(1)  # [R, Q S]
        self._sample(self._logits(scores, raised, self.previous.gather(1, places.long())), 0, places)

    def _keep_spatial(self) -> None:
        """For the next frame: what spatial attention saw where every place was still masked."""
        assert self.kept is not None
        self.memory.dynamics.scatter(self.inputs.column("spatial_out"), self.kept.transpose(0, 1))
        # later passes are whole ones and nobody reads what they would leave there

    def _hidden_at(self, index: Tensor) -> Tensor:
        """One pass at the positions `[R or 1, Q]` int32 alone: `[R, Q, D]`."""
        x = self._embed(self.tokens, self.inputs.column("action"))
        if len(index) == 1:
            x = x.index_select(1, index[0])
        else:
            x = x.gather(1, index.long()[..., None].expand(-1, -1, x.shape[2]))
        hidden = evaluate(
            self.model.dynamics.transformer, x[:, None].contiguous(), self.memory.dynamics.memory,
            self.inputs.later, index=index, kept=self.kept,
        )  # fmt: skip
        return hidden[:, 0]

    def _units(self, k: int) -> range:
        """Places in the order that pass `k` decides."""
        slots = self.model.members.shape[1] if self.plan.reuse == "passes" else 1
        num_units = self.tokens.shape[1] // slots
        start = self.plan.decided_after(k - 1, num_units) if k else 0
        return range(start * slots, self.plan.decided_after(k, num_units) * slots)

    def _embed(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Inputs of the dynamics for frames `[F, N]` that actions `[F]` lead to: `[F, P, D]`."""
        dynamics = self.model.dynamics
        rows = dynamics.previous_rows
        previous = None
        if rows is not None:
            times = len(tokens) // len(self.previous)  # a committed frame has no masked place to read it at
            previous = self.previous.repeat_interleave(times, 0) if times > 1 else self.previous
        return embed_tokens(
            tokens, previous, actions, dynamics.token_rows, rows, dynamics.position,
            dynamics.action_rows, self.model.members,
        )  # fmt: skip

    def _head(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """States `[R, Q, D]` to scores `[R, Q S, V]` and, `[R, Q S]`, what raises the previous tokens'."""
        dynamics = self.model.dynamics
        slots = self.model.members.shape[1]
        hidden = hidden.contiguous()
        scores = _wide_product(hidden, dynamics.head).unflatten(-1, (slots, -1)).flatten(1, 2)
        if dynamics.copy is None:
            return scores, None
        weight, constant = dynamics.copy
        return scores, linear(hidden, weight).to(scores.dtype).flatten(1) + constant

    def _logits(self, scores: Tensor, raised: Tensor | None, previous: Tensor) -> Tensor:
        """Scores `[R, n, V]` with the copy logit on the tokens `[R, n]` of the frame before, checked.

        What is not finite in any layer, or in a page that was read, makes them so.
        """
        if raised is not None:
            raised = raised * (previous != UNDECIDED)
            scores.scatter_add_(2, previous.clamp(min=0)[..., None], raised[..., None])
        self._check(0, scores)
        return scores

    def _sample(self, scores: Tensor, k: int, places: Tensor | None = None) -> None:
        """Decides the most confident tokens, among all or those at `places`."""
        inputs, adapts = self.inputs, self.plan.order == "adaptive"
        maskgit_sample(
            scores, self.tokens, inputs.column("seed"), inputs.column("frame_index"), k,
            self.plan.temperature, places, self.targets, self.noise, self.passes if adapts else None,
            self.plan.threshold if adapts and k == 0 else None, self.scratch,
        )  # fmt: skip

    def _sample_known(self, scores: Tensor, raised: Tensor | None, tokens: Tensor, k: int) -> None:
        """Decides given tokens `[R or 1, n]`."""
        previous = self.previous.gather(1, tokens.expand(len(self.previous), -1))
        inputs = self.inputs
        maskgit_sample(
            self._logits(scores, raised, previous), self.tokens, inputs.column("seed"),
            inputs.column("frame_index"), k, self.plan.temperature, tokens,
        )  # fmt: skip

    def _check(self, part: int, values: Tensor) -> None:
        """Notes rows of which a value is NaN or Inf; their sum is as well, and reads them once."""
        total = values.flatten(1).sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
        self.broken[part].logical_or_(torch.isfinite(total).logical_not_())


def schedules(plan: Plan, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Tokens decided after each pass and the noise in it: `[Q, K]` int32 and float64.

    `Q` is 1, but under "adaptive" `K`: entry `q` is then the "maskgit" frame of `q + 1` passes.
    """
    shortest = 1 if plan.order == "adaptive" else plan.passes
    plans = [plan.replace(passes=passes) for passes in range(shortest, plan.passes + 1)]
    targets = [[own.decided_after(k, num_tokens) for k in range(plan.passes)] for own in plans]
    noise = [[own.noise_in(k) if k < own.passes else 0.0 for k in range(plan.passes)] for own in plans]
    return torch.tensor(targets, dtype=torch.int32), torch.tensor(noise, dtype=torch.float64)


def _wide_product(x: Tensor, weight: Tensor) -> Tensor:
    """`x weight^T` in at least fp32: `[..., D]` and `[M, D]` to `[..., M]`."""
    if x.dtype in (torch.float32, torch.float64):
        return linear(x, weight)
    if x.is_cuda:  # cuBLAS keeps its sums in fp32 and writes them so
        return torch.mm(x.flatten(0, -2), weight.mT, out_dtype=torch.float32).unflatten(0, x.shape[:-1])
    return linear(x.float(), weight.float())
