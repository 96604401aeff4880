"""One frame of a plan for a batch of rows: operations over static tensors, in the order of a graph.

Nothing in here asks the device for a value, so the same calls run eagerly, on a CPU too, and captured. Where
a plan adapts, the stages of a frame are captured apart: whoever runs them looks after the first one at how
many passes are left.

Axes: `R` rows, `P` positions, `S` tokens of a position, `N = P S`, `K` passes, `V` codes, `W` window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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
from genie_rt.runtime.backends.decode_loop import DecodeLoop, Passes
from genie_rt.runtime.backends.frame_reuse import spread_of_change
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What lasts from frame to frame."""

    dynamics: PageMemory
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


class States(NamedTuple):
    """What a pass gives.

    Attributes:
        hidden: `[R, Q, D]`.
        is_full: whether it is of all positions, in raster order.
    """

    hidden: Tensor
    is_full: bool


class Frame(Passes[States]):
    """The next frame of `R` rows: the primitives of its `DecodeLoop`, its picture, and what is kept of it.

    Attributes:
        inputs: fill and send them before a run.
        loop: that decides its tokens.
        tokens: `[R, N]` int64, the new frame's.
        rgb: `[R, Hout, Wout, 3]` uint8.
        passes: `[R]` int32, of each row, where the plan adapts.
        broken: `[2, R]` bool, whether the dynamics and the decoder of a row gave NaN or Inf.
    """

    def __init__(self, model: PackedModel, memory: Memory, plan: Plan, kind: Kind) -> None:
        self.model, self.memory, self.plan, self.kind = model, memory, plan, kind
        config = model.config
        device = model.members.device
        num_rows, num_tokens = kind.num_rows, config.tokenizer.num_tokens
        self.inputs = Inputs(num_rows, memory.dynamics.window, memory.decoder.window, device)
        self.loop = DecodeLoop(
            self, plan, config, self.inputs.column("seed"), self.inputs.column("frame_index"),
            pending=kind.pending, recalls=kind.spatial,
        )  # fmt: skip
        self.previous = torch.zeros(num_rows, num_tokens, dtype=torch.int64, device=device)
        self.tokens = torch.zeros_like(self.previous)
        self.broken = torch.zeros(2, num_rows, dtype=torch.bool, device=device)
        self.rgb = torch.zeros(num_rows, *config.tokenizer.output_size, 3, dtype=torch.uint8, device=device)
        self.targets = self.noise = self.scratch = None
        self.passes = torch.full((num_rows,), plan.passes, dtype=torch.int32, device=device)
        if plan.static_order is None:
            targets, noise = schedules(plan, num_tokens)
            wide = torch.promote_types(model.precision.activations, torch.float32)
            self.targets, self.noise = targets.to(device), noise.to(device, wide)
            self.scratch = torch.empty(4 * num_rows * num_tokens, dtype=torch.int32, device=device)
        self.kept: Tensor | None = None
        if plan.reuse != "none":
            layers, _, positions, heads, head_width = memory.dynamics.shape
            size = (layers, num_rows, 2, positions, heads, head_width)
            self.kept = torch.zeros(size, dtype=model.precision.activations, device=device)

    def whole(self) -> None:
        """All passes and the picture."""
        self.first()
        for k in range(1, self.plan.passes):
            self.loop.later(k)
        self.finish()

    def first(self) -> None:
        """The commit of rows that are pending, and the first pass."""
        self.start()
        self.loop.first()

    def finish(self) -> None:
        """The picture, and what is kept of the frame."""
        if self.kind.decode:
            self.decode()
        self.keep()

    def start(self) -> None:
        """Fetches the last frames' tokens."""
        self.broken.zero_()
        torch.index_select(self.memory.frames.tokens, 0, self.inputs.column("slot_in"), out=self.previous)

    # The primitives of the loop.

    def masked(self) -> Tensor:
        return self.tokens.fill_(UNDECIDED)

    def commit(self) -> None:
        """The pages of the last frames; where nothing is reused they are fused into the first pass."""
        if self.plan.reuse != "none":
            self.commit_pages()

    def full(self, k: int, tokens: Tensor) -> States:
        return States(self.hidden(fused=self.kind.pending and self.plan.reuse == "none" and k == 0), True)

    def at(self, k: int, tokens: Tensor, index: Tensor) -> States:
        index = index.int().contiguous()
        x = self._embed(self.tokens, self.inputs.column("action"))
        if len(index) == 1:
            x = x.index_select(1, index[0])
        else:
            x = x.gather(1, index.long()[..., None].expand(-1, -1, x.shape[2]))
        hidden = evaluate(
            self.model.dynamics.transformer, x[:, None].contiguous(), self.memory.dynamics.memory,
            self.inputs.later, index=index, kept=self.kept,
        )  # fmt: skip
        return States(hidden[:, 0], False)

    def sample(self, k: int, seen: States, tokens: Tensor, among: Tensor | None, *, ranked: bool) -> Tensor:
        """In place: returns `tokens`."""
        previous = self.previous
        if among is None:
            logits = self.scores(seen.hidden)
        else:
            previous = previous.gather(1, among.long().expand(len(previous), -1))
            logits = self._logits(*self._head_at(seen, among), previous)
        inputs, adapts = self.inputs, self.plan.adapts
        schedule = (
            self.targets, self.noise, self.passes if adapts else None,
            self.plan.threshold if adapts and k == 0 else None, self.scratch, self.plan.ranking,
        ) if ranked else ()  # fmt: skip
        maskgit_sample(
            logits, self.tokens, inputs.column("seed"), inputs.column("frame_index"), k,
            self.plan.temperature, among, *schedule,
        )  # fmt: skip
        return self.tokens

    def recall(self) -> Tensor:
        assert self.kept is not None
        memory, inputs = self.memory, self.inputs
        self.kept.copy_(memory.dynamics.gather(inputs.column("spatial_in")).transpose(0, 1))
        return memory.frames.change.index_select(0, inputs.column("slot_in"))

    def carry(self) -> None:
        """To pages. Later passes are full ones, and nobody reads what they would leave there."""
        assert self.kept is not None
        self.memory.dynamics.scatter(self.inputs.column("spatial_out"), self.kept.transpose(0, 1))

    # Their parts, and what comes after them.

    def commit_pages(self) -> None:
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
        """Keeps the tokens, and how much changed where that is asked for, for the frames that follow."""
        frames, slot_in, slot_out = (self.memory.frames, *map(self.inputs.column, ("slot_in", "slot_out")))
        frames.tokens.index_copy_(0, slot_out, self.tokens)
        if self.plan.reuse == "frames":
            before = frames.change.index_select(0, slot_in) if self.kind.spatial else None
            config, members = self.model.config, self.model.members
            frames.change.index_copy_(
                0, slot_out, spread_of_change(self.previous, self.tokens, before, members, config)
            )

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

    def _head_at(self, seen: States, among: Tensor) -> tuple[Tensor, Tensor | None]:
        """`_head` of the tokens `[R or 1, n]` alone, which are as `Passes.sample` says."""
        hidden, slots, count = seen.hidden, self.model.members.shape[1], among.shape[1]
        if not seen.is_full:  # the last positions
            return self._head(hidden[:, hidden.shape[1] - count // slots :])
        if slots == 1:
            index = among.long()[..., None].expand(len(hidden), -1, hidden.shape[2])
            return self._head(hidden.gather(1, index))
        place = self.model.place_of[among].expand(len(hidden), -1)
        scores, raised = self._head(hidden)
        scores = scores.gather(1, place[..., None].expand(-1, -1, scores.shape[2]))
        return scores, None if raised is None else raised.gather(1, place)

    def _logits(self, scores: Tensor, raised: Tensor | None, previous: Tensor) -> Tensor:
        """Scores `[R, n, V]` with the copy logit on the tokens `[R, n]` of the frame before, checked.

        What is not finite in any layer, or in a page that was read, makes them so.
        """
        if raised is not None:
            raised = raised * (previous != UNDECIDED)
            scores.scatter_add_(2, previous.clamp(min=0)[..., None], raised[..., None])
        self._check(0, scores)
        return scores

    def _check(self, part: int, values: Tensor) -> None:
        """Notes rows of which a value is NaN or Inf; their sum is as well, and reads them once."""
        total = values.flatten(1).sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
        self.broken[part].logical_or_(torch.isfinite(total).logical_not_())


def schedules(plan: Plan, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Tokens decided after each pass and the noise in it: `[Q, K]` int32 and float64.

    `Q` is 1, but `K` where the plan adapts: entry `q` is then the frame of `q + 1` passes.
    """
    shortest = 1 if plan.adapts else plan.passes
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
