"""The passes of one row's next frame: graphs evaluate and sample, the host says which tokens are kept.

Axes: `N` tokens, `P` positions, `S` tokens of a position, `K` passes. There is one row throughout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.backends.schedule import Schedule
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.pages import Page, Pages
from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    from genie_rt.runtime.backends.exported.backend import ExportedBackend


class Passes:
    """Decides the tokens of the frame after a row's.

    Args:
        row: not pending.
        u, noise_u: `[K, N]` float32, uniforms for the tokens and for the confidence noise.

    Attributes:
        spatial: what the next frame may reuse; once `decide` is done.
        stats: what it took; once `decide` is done.
    """

    def __init__(
        self,
        backend: ExportedBackend,
        row: Row,
        action: int,
        plan: Plan,
        u: Tensor,
        noise_u: Tensor,
    ) -> None:
        self.backend, self.row, self.plan = backend, row, plan
        self.u, self.noise_u = u[:, None], noise_u[:, None]  # [K, 1, N]
        self.spatial: Pages = ()
        self._inputs = backend.pass_inputs(row, action, plan)
        self._around: Page | None = None
        self._computed = 0

    def decide(self) -> Tensor:
        """All passes. Returns the tokens, `[N]` int64."""
        tokens, passes = (self._static(), self.plan.passes) if self.plan.is_static else self._ranked()
        self.stats = FrameStats(passes=passes, tokens=self._computed)
        return tokens[0]

    def _ranked(self) -> tuple[Tensor, int]:
        """Passes that decide the most confident tokens. Returns them and how many passes it took."""
        plan, backend = self.plan, self.backend
        tokens = backend.masked
        schedule = Schedule.of(plan, 1, tokens.shape[1], tokens.device)
        k = 0
        while k < schedule.passes[0]:
            decided = tokens != UNDECIDED
            if k == 0 and plan.reuse == "frames":
                if self.row.spatial:
                    tokens = self._decide_fresh(tokens, decided, schedule)
                    k += 1
                    continue
                candidates, p = self._whole_keeping(tokens)
            else:
                candidates, p = self._whole(tokens, k)
            if k == 0 and plan.order == "adaptive":
                schedule = Schedule.after_first_pass(plan, p)
            if k + 1 == schedule.passes[0]:  # all that are left, whatever their confidence
                chosen = ~decided
            else:
                chosen = schedule.choose(k, p, decided, self.noise_u[k])
            tokens = torch.where(chosen, candidates, tokens)
            k += 1
        return tokens, schedule.passes[0]

    def _decide_fresh(self, tokens: Tensor, decided: Tensor, schedule: Schedule) -> Tensor:
        """The first pass under `reuse="frames"`: only where most changed lately."""
        members = self.backend.members
        num_fresh = math.ceil(self.plan.fresh * len(members))
        index = self.row.change.sort(descending=True, stable=True).indices[:num_fresh]
        self._around = self.row.spatial[0]
        candidates, p = self._at(tokens, index, 0)
        self._keep_spatial()
        places = members[index].view(1, -1)
        chosen = schedule.choose(0, p, decided.gather(1, places), self.noise_u[0].gather(1, places))
        return tokens.scatter(1, places, torch.where(chosen, candidates, UNDECIDED))

    def _static(self) -> Tensor:
        """Passes of an order that is known."""
        plan, backend = self.plan, self.backend
        slots = backend.members.shape[1]
        order = decision_order(plan, backend.config, *backend.keys([self.row]))  # [1, N]
        reuses = plan.reuse == "passes"
        unit, num_units = (slots, order.shape[1] // slots) if reuses else (1, order.shape[1])
        tokens = backend.masked
        before = done = 0
        for k in range(plan.passes):
            target = plan.decided_after(k, num_units)
            decided = order[:, done * unit : target * unit]
            if reuses and k:
                both = order[0, before * slots : target * slots : slots]  # just decided, and about to be
                found, _ = self._at(tokens, backend.place_of[both] // slots, k)
                chosen = found[:, (done - before) * slots :]
            else:
                found, _ = self._whole_keeping(tokens) if reuses else self._whole(tokens, k)
                chosen = found.gather(1, decided)
            tokens = tokens.scatter(1, decided, chosen)
            before, done = done, target
        return tokens

    def _whole(self, tokens: Tensor, pass_index: int) -> tuple[Tensor, Tensor]:
        """One pass at all positions: the tokens that it samples, and the probability of each, `[1, N]`."""
        candidates, p = torch.empty_like(tokens), torch.empty_like(self.u[0])
        inputs = {"tokens": tokens, "u": self.u[pass_index], **self._inputs}
        self.backend.graphs.run("pass", inputs, {"candidates": candidates, "probability": p})
        self._computed += tokens.shape[1]
        return candidates, p

    def _whole_keeping(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The first pass, `_whole`, keeping what spatial attention saw."""
        backend = self.backend
        found = self._at(tokens, backend.positions, 0)
        if self.plan.reuse == "frames":
            self._keep_spatial()
        candidates, p = (x.index_select(1, backend.place_of) for x in found)  # row by row again
        return candidates, p

    def _at(self, tokens: Tensor, index: Tensor, pass_index: int) -> tuple[Tensor, Tensor]:
        """One pass at the positions `[Q]` alone: samples of their tokens and probabilities, `[1, Q S]`."""
        pool = self.backend.dynamics_pages
        around = pool.blank if self._around is None else pool.bound(self._around)
        self._around = pool.take()
        count = len(index) * self.backend.members.shape[1]
        candidates, p = tokens.new_empty(1, count), self.u.new_empty(1, count)
        inputs = {"tokens": tokens, "u": self.u[pass_index], "index": index, "around": around, **self._inputs}
        outputs = {"candidates": candidates, "probability": p, "around_out": pool.bound(self._around)}
        self.backend.graphs.run("pass-at", inputs, outputs)
        self._computed += count
        return candidates, p

    def _keep_spatial(self) -> None:
        """Keeps what spatial attention saw in the first pass, where every place was still masked.

        Later passes and the commit would tell the next frame that its places are decided already, and it
        would freeze.
        """
        assert self._around is not None
        self.spatial = (self._around,)
