"""Plays a bundle's exported graphs on any engine: pages are bound in place, rows run one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_rt.kernels.philox.reference import uniforms
from genie_rt.runtime.backends import saved
from genie_rt.runtime.backends.decide import change_of
from genie_rt.runtime.backends.exported.engine import Engine
from genie_rt.runtime.backends.exported.graphs import Graphs
from genie_rt.runtime.backends.exported.memory import BoundPages
from genie_rt.runtime.backends.exported.noise import uniforms_of_frames
from genie_rt.runtime.backends.exported.passes import Passes
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES
from genie_rt.runtime.backends.exported.whole import run_whole_frame
from genie_rt.runtime.backends.protocol import FrameStats, Probe
from genie_rt.runtime.backends.row import Row, check_decoded, signed
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.order import position_tokens
from genie_rt.runtime.pages import PagePool, Pages
from genie_rt.runtime.plan import Plan

REQUIRED = ("encode", "commit", "pass", "decode")
"""Graphs without which nothing can be played."""


class ExportedBackend:
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

    batch_invariant = True  # rows run one after the other

    def __init__(self, bundle: Bundle, precision: str, engine: Engine, *, whole_frames: bool = True) -> None:
        self.name = engine.name
        self.graphs = Graphs(bundle, precision, engine)
        self.device = device = engine.device
        self.dtype = getattr(torch, PAGE_DTYPES[precision])
        self.config = config = bundle.config
        self.weight_bytes = bundle.files[WEIGHTS].size  # as stored; engines keep copies of their own making
        num_tokens = config.tokenizer.num_tokens
        self.dynamics_pages = BoundPages(
            config.dynamics.transformer, config.num_positions, self.dtype, device
        )
        self.encoder_pages = BoundPages(config.tokenizer.encoder, num_tokens, self.dtype, device)
        self.decoder_pages = BoundPages(config.tokenizer.decoder, num_tokens, self.dtype, device)
        self.members = position_tokens(config).to(device)  # [P, S]
        self.place_of = self.members.flatten().argsort()  # [N]: position * S + slot of each token
        self.counting = torch.arange(num_tokens, device=device)
        self.positions = torch.arange(config.num_positions, device=device)
        self.masked = torch.full((1, num_tokens), UNDECIDED, device=device)
        self._actions = torch.arange(-1, config.dynamics.num_actions, device=device)  # NULL_ACTION is first
        self._frame_graphs = {
            plan: f"frame-{name}"
            for name, plan in bundle.plans.items()
            if whole_frames and plan.reuse == "none" and f"frame-{name}" in self.graphs
        }
        for name in REQUIRED:  # what is broken is found now; what is compiled, when it is needed
            _ = self.graphs[name]

    def reserve(self, num_sessions: int) -> None:
        """Nothing: pages come in chunks that never move."""

    def commits_ahead(self, plan: Plan) -> bool:
        """Not where a frame graph serves the plan: it has the commit in it. See `Backend.commits_ahead`."""
        return plan not in self._frame_graphs

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """Rows run one after the other; see `Backend.batches`."""
        return (1,)

    @property
    def page_bytes(self) -> int:
        """Of the pages that somebody holds."""
        return sum(pool.num_used * pool.page_bytes for pool in self._pools)

    @property
    def pool_bytes(self) -> int:
        """Of all pages that memory is held for."""
        return sum(pool.num_pages * pool.page_bytes for pool in self._pools)

    @property
    def _pools(self) -> tuple[PagePool, ...]:
        return self.dynamics_pages, self.encoder_pages, self.decoder_pages

    @torch.inference_mode()
    def prefill(self, row_seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        row = Row(
            seed=row_seed, frame_index=-1, tokens=self.counting[:0], action=actions[0], pending=False,
            dynamics=(), encoder=(), decoder=(), spatial=(),
            change=torch.zeros(self.config.num_positions, dtype=torch.float32, device=self.device),
        )  # fmt: skip
        picture = frames[0]
        for frame, action in zip(frames.to(self.device), actions, strict=True):
            row = self._commit(row)
            tokens, encoder = self._encode(frame, row.encoder)
            (row,), pictures = self.show([row], [action], tokens)
            row, picture = replace(row, encoder=encoder), pictures[0]
        return replace(row, encoder=()), picture

    @torch.inference_mode()
    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """See `Backend.frame`. Where the bundle's frame graph does, the commit is part of that."""
        if decode:
            check_decoded(rows, self.decoder_pages.window)
        keys = [(row.seed, row.frame_index + 1) for row in rows]
        noise = uniforms_of_frames(keys, plan.passes, len(self.counting))
        u, noise_u = (x.to(self.device) for x in noise)  # [R, K, N]
        pictures = self._new_pictures(len(rows))
        name = self._frame_graphs.get(plan)
        done: dict[int, Row] = {}  # a row that is asked about several actions is committed once
        num_ready = self.graphs.num_ready
        new_rows, stats = [], []
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            shown: Pages = ()
            spatial: Pages = ()
            if name is not None and row.pending:
                last, tokens, pages, took = run_whole_frame(
                    self, name, row, action, plan, u[i], noise_u[i], pictures[i : i + 1]
                )
                shown = pages if decode else ()  # without a past it is no picture of this row
            else:
                if id(row) not in done:
                    done[id(row)] = self._commit(row)
                last = done[id(row)]
                passes = Passes(self, last, action, plan, u[i], noise_u[i])
                tokens, took, spatial = passes.decide(), passes.stats, passes.spatial
                if decode:
                    shown = self._decode(tokens, row.decoder, pictures[i : i + 1])
            new_rows.append(self._advance(last, action, tokens, shown, spatial))
            stats.append(took)
        if self.graphs.num_ready > num_ready:  # all rows waited for it
            stats = [replace(took, cold=True) for took in stats]
        return new_rows, pictures if decode else None, stats

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
        u, _ = uniforms(*self.keys(rows), pass_index, tokens.shape[1])
        shape = (*tokens.shape, self.config.tokenizer.codebook_size)
        logits, candidates = u.new_empty(shape), torch.empty_like(tokens)
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            inputs = self.pass_inputs(row, action, plan) | {"tokens": tokens[i : i + 1], "u": u[i : i + 1]}
            outputs = {"logits": logits[i : i + 1], "candidates": candidates[i : i + 1]}
            self.graphs.run("pass", inputs, outputs)
        return Probe(logits=logits, candidates=candidates)

    @torch.inference_mode()
    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """See `Backend.show`."""
        pictures = self._new_pictures(len(rows))
        new_rows = []
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            shown = self._decode(tokens[i], row.decoder, pictures[i : i + 1])
            new_rows.append(self._advance(row, action, tokens[i], shown, ()))
        return new_rows, pictures

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """A row's tensors on the CPU, its pages gathered; see `saved.save`."""
        return saved.save(row, self.dynamics_pages, self.decoder_pages)

    @torch.inference_mode()
    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """The row that `save_row` took apart; see `saved.load`."""
        return saved.load(
            tensors, self.config, self.dynamics_pages, self.decoder_pages,
            seed=seed, frame_index=frame_index, action=action, pending=pending,
        )  # fmt: skip

    def action_index(self, action: int) -> Tensor:
        """An action as graphs take it, `[1]` int64."""
        return self._actions[action + 1 : action + 2]

    def pass_inputs(self, row: Row, action: int, plan: Plan) -> dict[str, Tensor]:
        """What all passes of a committed row's next frame are given."""
        return {
            "previous": row.tokens[None],
            "action": self.action_index(action),
            "temperature": torch.tensor([plan.temperature], dtype=torch.float32, device=self.device),
            **self.dynamics_pages.past(row.dynamics),
        }

    def keys(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Of the rows' next frames: the bits of each seed and the index of the frame, `[R]` int64 both."""
        keys = [(signed(row.seed), row.frame_index + 1) for row in rows]
        seeds, frames = torch.tensor(keys, device=self.device).unbind(1)
        return seeds, frames

    def _new_pictures(self, count: int) -> Tensor:
        size = self.config.tokenizer.output_size
        return torch.empty(count, *size, 3, dtype=torch.uint8, device=self.device)

    def _advance(self, row: Row, action: int, tokens: Tensor, decoder: Pages, spatial: Pages) -> Row:
        """The row one frame later, pending."""
        change = row.change
        if row.frame_index >= 0:
            change = change_of([row], tokens[None], self.members, self.config)[0]
        return replace(
            row, frame_index=row.frame_index + 1, tokens=tokens, action=int(action), pending=True,
            decoder=decoder, spatial=spatial, change=change,
        )  # fmt: skip

    def _commit(self, row: Row) -> Row:
        """The row with its last frame's page, as it is where it has that already."""
        if not row.pending:
            return row
        pool = self.dynamics_pages
        page = pool.take()
        if pool.window > 1:  # or nobody will look at it
            inputs = {
                "tokens": row.tokens[None],
                "action": self.action_index(row.action),
                **pool.past(row.dynamics),
            }
            self.graphs.run("commit", inputs, {"page": pool.bound(page)})
        return replace(row, pending=False, dynamics=pool.push(row.dynamics, page))

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Pages]:
        """One picture `[H, W, 3]` uint8 after those of `pages`, to tokens `[1, N]`."""
        pool = self.encoder_pages
        page, tokens = pool.take(), torch.empty_like(self.masked)
        inputs = {"frame": frame[None].contiguous(), **pool.past(pages)}
        self.graphs.run("encode", inputs, {"tokens": tokens, "page": pool.bound(page)})
        return tokens, pool.push(pages, page)

    def _decode(self, tokens: Tensor, pages: Pages, picture: Tensor) -> Pages:
        """Tokens `[N]` after the frames of `pages`, into a picture `[1, Hout, Wout, 3]` uint8."""
        pool = self.decoder_pages
        page = pool.take()
        inputs = {"tokens": tokens[None], **pool.past(pages)}
        self.graphs.run("decode", inputs, {"rgb": picture, "page": pool.bound(page)})
        return pool.push(pages, page)
