"""Plays a bundle's exported graphs on any engine; their inputs and outputs are bound to pages in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import gumbel
from genie_rt.runtime.backends.exported.engine import Engine
from genie_rt.runtime.backends.exported.loaded_graphs import LoadedGraphs
from genie_rt.runtime.backends.exported.memory import BoundPages
from genie_rt.runtime.backends.exported.noise import host_uniforms
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row, random_keys
from genie_rt.runtime.backends.row_by_row import RowByRowBackend, RowPasses
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.pages import Page, Pages
from genie_rt.runtime.plan import Plan

REQUIRED = ("encode", "commit", "pass", "decode")
"""Graphs without which nothing can be played."""

Inputs = dict[str, Tensor]
"""Inputs or outputs of a graph, by name."""


class ExportedBackend(RowByRowBackend[Inputs, "Samples"]):
    """Runs the graphs of a bundle. Sessions in several threads may share it.

    Args:
        bundle: that holds graphs of this precision.
        precision: one of `signature.PAGE_DTYPES`.
        engine: that runs them.
        whole_frames: whether frames of a plan that the bundle has a frame graph for go through that. It takes
            less time, and as much memory as the graphs that it stands for. An engine fuses other operators in
            it and so rounds otherwise: whatever is asked of a pending row goes through it, one action or
            many, with the picture or without, so that frames do not depend on how they are asked for.

    Raises:
        BundleError: the bundle lacks a graph, or the engine cannot read it.
        DeviceError: there is not enough memory.
    """

    definition = None
    dynamics_pages: BoundPages
    encoder_pages: BoundPages
    decoder_pages: BoundPages

    def __init__(self, bundle: Bundle, precision: str, engine: Engine, *, whole_frames: bool = True) -> None:
        config, device = bundle.config, engine.device
        super().__init__(config, device, getattr(torch, PAGE_DTYPES[precision]), BoundPages)
        self.name, self.arithmetic = engine.name, engine.arithmetic
        self.graphs = LoadedGraphs(bundle, precision, engine)
        self.weight_bytes = bundle.files[WEIGHTS].size  # as stored; engines keep copies of their own making
        self.positions = torch.arange(config.num_positions, device=device)
        self.masked = torch.full((1, config.tokenizer.num_tokens), UNDECIDED, device=device)
        self._actions = torch.arange(-1, config.dynamics.num_actions, device=device)  # NULL_ACTION is first
        self._frame_graphs = {
            plan: f"frame-{name}"
            for name, plan in bundle.plans.items()
            if whole_frames and plan.reuse == "none" and f"frame-{name}" in self.graphs
        }
        for name in REQUIRED:  # what is broken is found now; what is compiled, when it is needed
            _ = self.graphs[name]

    def commits_ahead(self, plan: Plan) -> bool:
        """Not where a frame graph serves the plan: it has the commit in it. See `Backend.commits_ahead`."""
        return plan not in self._frame_graphs

    @property
    def _num_ready(self) -> int:
        return self.graphs.num_ready

    def _uniforms(
        self, rows: Sequence[Row], keys: tuple[Tensor, Tensor], num_passes: int
    ) -> tuple[Tensor, Tensor]:
        own = [(row.seed, row.frame_index + 1) for row in rows]
        u, noise_u = host_uniforms(own, num_passes, self.masked.shape[1])
        return u.to(self.device).transpose(0, 1), noise_u.to(self.device).transpose(0, 1)

    def _context(self, row: Row) -> Inputs:
        return {"previous": row.tokens[None], **self.dynamics_pages.past(row.dynamics)}

    def _passes(
        self, row: Row, context: Inputs, action: int, plan: Plan, u: Tensor, noise_u: Tensor
    ) -> GraphPasses:
        temperature = torch.tensor([plan.temperature], dtype=torch.float32, device=self.device)
        inputs = {"action": self._action(action), "temperature": temperature, **context}
        return GraphPasses(self, row, inputs, plan, u, noise_u)

    def _commit_page(self, row: Row) -> Page:
        pool = self.dynamics_pages
        page = pool.take()
        if pool.window > 1:  # or nobody will look at it
            inputs = {"tokens": row.tokens[None], "action": self._action(row.action)}
            self.graphs.run("commit", inputs | pool.past(row.dynamics), {"page": pool.bound(page)})
        return page

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Page]:
        pool = self.encoder_pages
        page, tokens = pool.take(), torch.empty_like(self.masked)
        inputs = {"frame": frame[None].contiguous(), **pool.past(pages)}
        self.graphs.run("encode", inputs, {"tokens": tokens, "page": pool.bound(page)})
        return tokens[0], page

    def _decode(self, tokens: Tensor, pages: Pages) -> tuple[Pages, Tensor]:
        pool = self.decoder_pages
        page, picture = pool.take(), self._new_picture()
        inputs = {"tokens": tokens[None], **pool.past(pages)}
        self.graphs.run("decode", inputs, {"rgb": picture, "page": pool.bound(page)})
        return pool.push(pages, page), picture[0]

    def _new_picture(self) -> Tensor:
        return torch.empty(1, *self.config.tokenizer.output_size, 3, dtype=torch.uint8, device=self.device)

    def _whole_frame(
        self, row: Row, action: int, plan: Plan, u: Tensor, noise_u: Tensor
    ) -> tuple[Row, Tensor, FrameStats] | None:
        """By the plan's frame graph: the commit of a pending row, all passes, and the picture.

        Raises:
            DeviceError: the passes that it took are none of the plan's.
        """
        name = self._frame_graphs.get(plan)
        if name is None or not row.pending:
            return None
        dynamics, decoder = self.dynamics_pages, self.decoder_pages
        inputs = {
            "last_tokens": row.tokens[None],
            "last_action": self._action(row.action),
            "action": self._action(action),
            "u": u[:, 0],
            **dynamics.past(row.dynamics),
            **decoder.past(row.decoder, "picture_"),
        }
        if (order := plan.static_order) is None:
            inputs["gumbel"] = gumbel(noise_u[:, 0]).float()
        elif not order.is_fixed:
            keys = random_keys([row], self.device)
            inputs["order"] = order.tokens(self.config, *keys, by_position=False)[0]
        page, picture_page, picture = dynamics.take(), decoder.take(), self._new_picture()
        tokens, passes = torch.empty_like(self.masked), torch.empty_like(inputs["action"])
        outputs = {
            "tokens": tokens,
            "passes": passes,
            "rgb": picture,
            "page": dynamics.bound(page),
            "picture_page": decoder.bound(picture_page),
        }
        self.graphs.run(name, inputs, outputs)
        count = int(passes)
        if not 1 <= count <= plan.passes:
            raise DeviceError(
                f"the graph {name}: expected 1 to {plan.passes} passes, found {count}; export the bundle "
                "again with this version"
            )
        new_row = replace(
            row, frame_index=row.frame_index + 1, tokens=tokens[0], action=int(action), carried=None,
            dynamics=dynamics.push(row.dynamics, page), decoder=decoder.push(row.decoder, picture_page),
        )  # fmt: skip
        return new_row, picture[0], FrameStats(passes=count, tokens=count * tokens.shape[1])

    def _action(self, action: int) -> Tensor:
        """An action as graphs take it, `[1]` int64."""
        return self._actions[action + 1 : action + 2]


class Samples(NamedTuple):
    """What a graph samples.

    Attributes:
        candidates, p: `[1, n]`, tokens and the probability of each.
        is_raster: whether they are in raster order; else they stand position by position.
    """

    candidates: Tensor
    p: Tensor
    is_raster: bool


class GraphPasses(RowPasses[Samples]):
    """The passes of one row's next frame. A graph evaluates a pass and samples its tokens.

    Args:
        row: committed.
        inputs: that all passes are given.
        u, noise_u: `[K, 1, N]` float32.
    """

    def __init__(
        self,
        backend: ExportedBackend,
        row: Row,
        inputs: Inputs,
        plan: Plan,
        u: Tensor,
        noise_u: Tensor,
    ) -> None:
        super().__init__(plan, noise_u)
        self.backend, self.row, self.u = backend, row, u
        self._inputs = inputs
        self._spatial: Page | None = None  # keys and values of spatial attention, as last computed

    def masked(self) -> Tensor:
        return self.backend.masked

    def full(self, k: int, tokens: Tensor) -> Samples:
        if self.plan.reuse != "none" and k == 0:  # what spatial attention sees is kept
            candidates, p, _ = self.at(k, tokens, self.backend.positions[None])
            place_of = self.backend.place_of
            return Samples(candidates.index_select(1, place_of), p.index_select(1, place_of), True)
        candidates, p = torch.empty_like(tokens), torch.empty_like(self.u[0])
        self._run("pass", k, tokens, {"candidates": candidates, "probability": p})
        return Samples(candidates, p, True)

    def at(self, k: int, tokens: Tensor, index: Tensor) -> Samples:
        pool = self.backend.dynamics_pages
        around = pool.blank if self._spatial is None else pool.bound(self._spatial)
        self._spatial = pool.take()
        count = index.shape[1] * self.backend.members.shape[1]
        candidates, p = tokens.new_empty(1, count), self.u.new_empty(1, count)
        outputs = {"candidates": candidates, "probability": p, "around_out": pool.bound(self._spatial)}
        self._run("pass-at", k, tokens, outputs, index=index[0], around=around)
        return Samples(candidates, p, False)

    def draw(self, k: int, seen: Samples, among: Tensor | None) -> tuple[Tensor, Tensor]:
        candidates, p, is_raster = seen
        if among is None:
            return candidates, p
        if is_raster:
            return candidates.gather(1, among), p.gather(1, among)
        last = slice(candidates.shape[1] - among.shape[1], None)
        return candidates[:, last], p[:, last]

    def probe(self, k: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.u.new_empty(*tokens.shape, self.backend.config.tokenizer.codebook_size)
        candidates = torch.empty_like(tokens)
        self._run("pass", k, tokens, {"logits": logits, "candidates": candidates})
        return logits, candidates

    def recall(self) -> Tensor:
        assert self.row.carried is not None
        self._spatial = self.row.carried.spatial
        return self.row.carried.change[None]

    def carry(self) -> None:
        self.carried = self._spatial

    def _run(self, graph: str, k: int, tokens: Tensor, outputs: Inputs, **others: Tensor) -> None:
        inputs = {"tokens": tokens, "u": self.u[k], **others, **self._inputs}
        self.backend.graphs.run(graph, inputs, outputs)
