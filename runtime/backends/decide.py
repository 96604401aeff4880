"""The passes of one frame: from the rows' pasts and a plan to the frame's tokens.

Axes: `R` rows, `P` positions, `S` tokens of a position (`merge^2`), `N = P S`, `K` passes; `B` and `T` as
`Past` lays the rows out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.philox.reference import uniforms_of_passes
from genie_rt.runtime.backends.past import Past
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row, is_shared, signed
from genie_rt.runtime.backends.schedule import Schedule
from genie_rt.runtime.backends.subset import at_positions, evaluate
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.pages import Pages
from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    from genie_rt.runtime.backends.reference import ReferenceBackend

FORGET = 0.5
"""How much of a position's change score is left one frame later."""


class Decision:
    """Decides the next frame's tokens of `R` rows of one kind: all pending, or none.

    Attributes:
        inputs: `[R, 4]` int64: each row's seed (its bits), new frame index, action, and the action before it.
        dynamics: each row's pages; once `run` is done, with the last frame's.
        spatial: what the next frame may reuse; once `run` is done.
        stats: what each row took; once `run` is done.
    """

    def __init__(
        self, backend: ReferenceBackend, rows: Sequence[Row], actions: Sequence[int], plan: Plan
    ) -> None:
        self.backend, self.rows, self.plan = backend, rows, plan
        inputs = [
            (signed(row.seed), row.frame_index + 1, int(action), row.action)
            for row, action in zip(rows, actions, strict=True)
        ]
        self.inputs = torch.tensor(inputs, device=backend.device)
        self.previous = torch.stack([row.tokens for row in rows])  # [R, N]
        self.dynamics = [row.dynamics for row in rows]
        self._shared = is_shared(rows)
        self._commits = rows[0].pending
        pool = backend.dynamics_pages
        self._past = Past(pool, self.dynamics, shared=self._shared, commits=self._commits)
        self.spatial: list[Pages] = [()] * len(rows)
        self._around: list[KeysValues] | None = None  # of spatial attention, as last computed
        self._computed = 0
        self._keeps = plan.reuse != "none"  # what spatial attention sees in a whole pass

    def run(self) -> Tensor:
        """All passes. Returns the tokens, `[R, N]` int64."""
        plan, num_tokens = self.plan, self.previous.shape[1]
        seeds, frames, _, _ = self.inputs.unbind(1)
        counting = self.backend.counting
        self.u, self.noise_u = uniforms_of_passes(seeds, frames, counting[: plan.passes], counting)
        if plan.is_static:
            tokens, passes = self._static(seeds, frames), [plan.passes] * len(self.rows)
        else:
            tokens, passes = self._ranked()
        spared = max(passes) * num_tokens - self._computed  # by reuse, the same for every row
        self.stats = [FrameStats(passes=count, tokens=count * num_tokens - spared) for count in passes]
        return tokens

    def _ranked(self) -> tuple[Tensor, list[int]]:
        """Passes that decide the most confident tokens. Returns them and the passes that each row took."""
        plan = self.plan
        num_rows, num_tokens = self.previous.shape
        schedule = Schedule.of(plan, num_rows, num_tokens, self.previous.device)
        tokens = self._masked()
        decided = tokens != UNDECIDED
        k = 0
        while k < max(schedule.passes):
            if k == 0 and plan.reuse == "frames" and self.rows[0].spatial:
                tokens, decided = self._decide_fresh(tokens, decided, schedule)
            else:
                logits = self.logits(self.full(tokens))
                candidates, p = sample(logits, self.u[:, k], plan.temperature)
                if k == 0 and plan.reuse == "frames":
                    self._keep_spatial()
                if k == 0 and plan.order == "adaptive":
                    schedule = Schedule.after_first_pass(plan, p)
                chosen = schedule.choose(k, p, decided, self.noise_u[:, k])
                tokens, decided = torch.where(chosen, candidates, tokens), decided | chosen
            k += 1
        return tokens, schedule.passes

    def _masked(self) -> Tensor:
        """Tokens `[R, N]`, all of them undecided."""
        return torch.where(self.previous == UNDECIDED, self.previous, UNDECIDED)

    def _decide_fresh(self, tokens: Tensor, decided: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The first pass under `reuse="frames"`: only where most changed lately."""
        members = self.backend.members
        change = torch.stack([row.change for row in self.rows])  # [R, P]
        num_fresh = math.ceil(self.plan.fresh * len(members))
        index = change.sort(dim=1, descending=True, stable=True).indices[:, :num_fresh]
        pages = [self.backend.dynamics_pages.view(row.spatial[0]) for row in self.rows]
        kept = torch.stack(pages[:1] if self._shared else pages)
        kept = kept.expand(len(pages), *kept.shape[1:])  # [R, L, 2, P, H, Dh]
        fold = self._past.fold
        self._around = [(fold(layer[:, 0]), fold(layer[:, 1])) for layer in kept.unbind(1)]
        hidden = self.at(tokens, index[:1] if self._shared else index)  # [R, Q, D]

        self._keep_spatial()
        places = members[index].flatten(1)  # [R, Q S]
        logits = self._logits_at(hidden, self.backend.counting[None, : places.shape[1]], places)
        u, noise_u = (x[:, 0].gather(1, places) for x in (self.u, self.noise_u))
        candidates, p = sample(logits, u, self.plan.temperature)
        chosen = schedule.choose(0, p, decided.gather(1, places), noise_u)
        there = torch.where(chosen, candidates, UNDECIDED)
        return tokens.scatter(1, places, there), decided.scatter(1, places, chosen)

    def _static(self, seeds: Tensor, frames: Tensor) -> Tensor:
        """Passes of an order that is known: logits only of the tokens that a pass decides."""
        plan, backend = self.plan, self.backend
        slots = backend.members.shape[1]
        order = decision_order(plan, backend.config, seeds, frames)  # [R or 1, N]
        whole = plan.reuse == "passes"
        unit, num_units = (slots, order.shape[1] // slots) if whole else (1, order.shape[1])
        tokens = self._masked()
        before = done = 0
        for k in range(plan.passes):
            target = plan.decided_after(k, num_units)
            decided = order[:, done * unit : target * unit]
            if whole and k:
                both = order[:, before * slots : target * slots : slots]  # just decided, and about to be
                index = backend.place_of[both] // slots
                hidden = self.at(tokens, index[:1] if self._shared else index)
                places = backend.counting[None, (done - before) * slots : (target - before) * slots]
            else:
                hidden, places = self.full(tokens), backend.place_of[decided]
            decided = decided.expand(len(tokens), -1)
            logits = self._logits_at(hidden, places, decided)
            candidates, _ = sample(logits, self.u[:, k].gather(1, decided), plan.temperature)
            tokens = tokens.scatter(1, decided, candidates)
            before, done = done, target
        return tokens

    def full(self, tokens: Tensor) -> Tensor:
        """One pass at all positions: tokens `[R, N]` to hidden states `[R, P, D]`.

        The first one takes the commit in where the rows are pending.
        """
        transformer, past = self.backend.model.dynamics.transformer, self._past
        x = self._embed(tokens)
        commits, self._commits = self._commits, False
        if commits:
            x = torch.cat([self._embed_last(), x], 1)  # [B, 1 + T, P, D]
        if self._keeps:
            hidden, kept, around = evaluate(transformer, x, past.ages, past.history, past.own)
            self._around = [(k[:, commits:], v[:, commits:]) for k, v in around]
        else:
            hidden, kept = transformer(x, past.ages, past.history, past.own)
        self._kept = kept
        if commits:
            self._write(kept)
            past.committed(kept)
        self._computed += self.previous.shape[1]
        return hidden[:, commits:].flatten(0, 1)

    def _keep_spatial(self) -> None:
        """Keeps what spatial attention saw in the first pass, where every place was still masked.

        Later passes and the commit would tell the next frame that its places are decided already, and it
        would freeze.
        """
        assert self._around is not None
        pool, place = self.backend.dynamics_pages, self._past.place
        self._keeps = False
        self.spatial = [(pool.write(self._around, *place(i)),) for i in range(len(self.rows))]

    def at(self, tokens: Tensor, index: Tensor) -> Tensor:
        """One pass at the positions `[B or 1, Q]` alone, to hidden states `[R, Q, D]`."""
        past = self._past
        history = past.history and [(at_positions(k, index), at_positions(v, index)) for k, v in past.history]
        x = at_positions(self._embed(tokens), index)
        hidden, self._kept, self._around = evaluate(
            self.backend.model.dynamics.transformer,
            x,
            past.ages,
            history,
            past.own,
            kept=self._around,
            index=index,
        )
        self._computed += index.shape[1] * self.backend.members.shape[1]
        return hidden.flatten(0, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all tokens, `[R, N, V]`, known to be finite."""
        dynamics = self.backend.model.dynamics
        logits = dynamics.logits(hidden[:, None], self.previous[:, None], self.backend.table, by_frame=True)[
            :, 0
        ]
        return self.backend.check_logits(logits, self._kept)

    def _logits_at(self, hidden: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
        """Scores at `places` of `hidden`, which are those of the tokens `[R, n]`: `[R, n, V]`."""
        previous = self.previous.gather(1, tokens)
        logits = self.backend.model.dynamics.logits_at(
            hidden, places, previous, self.backend.table, by_frame=True
        )
        return self.backend.check_logits(logits, self._kept)

    def _embed(self, tokens: Tensor) -> Tensor:
        """The new frames, `[B, T, P, D]`."""
        x = self.backend.model.dynamics.embed(
            tokens[:, None], self.previous[:, None], self.inputs[:, 2:3], self.backend.table, by_frame=True
        )
        return self._past.fold(x[:, 0])

    def _embed_last(self) -> Tensor:
        """The last frames, to be committed: `[B, 1, P, D]`."""
        count = 1 if self._shared else len(self.rows)
        last, actions = self.previous[:count, None], self.inputs[:count, 3:]
        return self.backend.model.dynamics.embed(last, last, actions, self.backend.table, by_frame=True)

    def _write(self, kept: list[KeysValues]) -> None:
        """Keeps the committed frames' keys and values as pages; rows that are one row share theirs."""
        pool = self.backend.dynamics_pages
        pages = [pool.write(kept, row) for row in range(len(kept[0][0]))]
        pages = pages * len(self.rows) if self._shared else pages
        self.dynamics = [pool.push(old, page) for old, page in zip(self.dynamics, pages, strict=True)]


def change_of(rows: Sequence[Row], tokens: Tensor, members: Tensor, config: ModelConfig) -> Tensor:
    """`spread_of_change` of rows and their new tokens `[R, N]`."""
    last = torch.stack([row.tokens for row in rows])
    before = torch.stack([row.change for row in rows])
    return spread_of_change(last, tokens, before, members, config)


def spread_of_change(
    last: Tensor, tokens: Tensor, before: Tensor, members: Tensor, config: ModelConfig
) -> Tensor:
    """How much changed lately at each position: `[R, P]` float32.

    The number of tokens that the new frame changed there and in the eight positions around, and half of what
    the score was before.

    Args:
        last, tokens: `[R, N]` int64, the last frame's and the new one's.
        before: `[R, P]` float32, the scores so far.
        members: `[P, S]`, the tokens of each position.
    """
    changed = (tokens != last).to(before.dtype)
    height, width = (side // config.dynamics.merge for side in config.tokenizer.grid)
    counts = changed[:, members].sum(2).view(-1, 1, height, width)
    around = avg_pool2d(counts, 3, stride=1, padding=1, divisor_override=1)
    return around.view_as(before) + FORGET * before
