"""Embedding and scores of the dynamics as nodes: `runtime/model/dynamics.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.export.onnx.codebook import unit_codes
from genie_rt.export.onnx.sampling import sample
from genie_rt.export.onnx.transformer import Transformer, linear
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import position_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Positions that a pass computes and the tokens of each.

    Attributes:
        index: `[Q]` int64, the positions; None, all of them.
        tokens: `[Q S]` int64, their tokens, position by position.
    """

    index: Name | None
    tokens: Name


class Dynamics:
    """Nodes of the dynamics but for its transformer's inside.

    Axes as in `runtime/model/dynamics.py`; `Q` positions of `Places`, `S` tokens of each.
    """

    def __init__(self, g: Builder, config: ModelConfig) -> None:
        self.g, self.config = g, config
        self.slots = config.dynamics.merge**2
        self.transformer = Transformer(g, config.dynamics.transformer, "dynamics.transformer")
        self.everywhere = Places(index=None, tokens=g.constant(position_tokens(config).reshape(-1).numpy()))

    def at(self, index: Name) -> Places:
        """Dynamics at some positions only."""
        g = self.g
        tokens = g.node("Gather", g.constant(position_tokens(self.config).numpy()), index, axis=0)
        return Places(index=index, tokens=g.reshape(tokens, -1))

    def take(self, row: Name, places: Places) -> Name:
        """Numbers of all tokens, `[1, N]` in raster order, of these: `[Q S]`."""
        g = self.g
        flat = g.reshape(row, -1)
        if places.index is None and self.slots == 1:
            return flat
        return g.node("Gather", flat, places.tokens, axis=0)

    def embed(self, tokens: Name, previous: Name | None, action: Name, places: Places) -> Name:
        """Inputs of the transformer, `[Q, D]`.

        Args:
            tokens, previous: `[Q S]` int64 of these places, -1 where there is none. None for `previous` if
                every token is decided, which hides it.
            action: `[1]` int64, -1 for the null action.
        """
        g, config = self.g, self.config
        codes = g.constant(np.int64(config.tokenizer.codebook_size))
        with g.scope("embed"):
            masked = g.node("Less", tokens, g.constant(np.int64(0)), name="masked")
            row = g.node("Where", masked, codes, tokens)
            x = self._project("token_in", "mask_embedding", row)
            if previous is not None and config.dynamics.previous_token:
                unseen = g.node(
                    "Or", g.node("Not", masked), g.node("Less", previous, g.constant(np.int64(0)))
                )
                row = g.node("Where", unseen, codes, previous)
                x = g.node("Add", x, self._project("previous_in", None, row))
            position = g.narrow_weight("dynamics.position")
            if places.index is not None:
                position = g.node("Gather", position, places.index, axis=0)
            null = g.node("Less", action, g.constant(np.int64(0)))
            action = g.node("Where", null, g.constant(np.int64(config.dynamics.num_actions)), action)
            action = g.node("Gather", g.narrow_weight("dynamics.action_embedding"), action, axis=0)  # [1, D]
            return g.node("Add", x, g.node("Add", position, action))

    def _project(self, name: str, last: str | None, row: Name) -> Name:
        """Rows of the token table, with one more at its end, through a linear: `[Q S]` to `[Q, D]`."""
        g, config = self.g, self.config
        table, width = self._table(), config.dynamics.embedding_dim

        def make() -> Name:
            extra = g.number(0, 1, width)
            if last is not None:
                extra = g.reshape(g.weight(f"dynamics.{last}"), 1, width)
            return g.narrow(g.concat([table, extra], name="table"))

        vectors = g.node("Gather", g.once(("table", last), make, "dynamics", name), row, axis=0)
        vectors = g.reshape(vectors, -1, self.slots * width)
        return linear(g, vectors, f"dynamics.{name}")

    def _table(self) -> Name:
        """The vector of every token, `[V, E]` float32."""
        g = self.g
        if not self.config.dynamics.tie_codebook:
            return g.weight("dynamics.token_embedding")

        def make() -> Name:
            inputs = unit_codes(g), g.weight("dynamics.code_in.weight"), g.weight("dynamics.token_embedding")
            return g.node("Gemm", *inputs, transB=1, name="table")

        return g.once("token table", make, "dynamics")

    def logits(
        self, hidden: Name, previous: Name, temperature: float = 1.0, among: Name | None = None
    ) -> Name:
        """Scores of every token over the temperature, `[n, V]` float32.

        Args:
            hidden: `[Q, D]`.
            previous: `[n]` int64, the tokens of the frame before at the same places, -1 where there is none.
            among: `[n]` int64: entry `q S + slot` for a token of the `q`-th position; None, all `Q S`.
        """
        g, dynamics = self.g, self.config.dynamics
        scale = dynamics.embedding_dim**-0.5 / temperature

        def scaled() -> Name:
            return g.narrow(g.transpose(g.node("Mul", self._table(), g.number(scale)), 1, 0), name="scaled")

        def of_tokens(x: Name, width: int) -> Name:
            x = g.reshape(x, -1, width)
            return x if among is None else g.node("Gather", x, among, axis=0)

        with g.scope("head"):
            vectors = of_tokens(linear(g, hidden, "dynamics.token_out"), dynamics.embedding_dim)
            table = g.once(("scaled table", scale), scaled, "dynamics", "head")
            scores = g.wide(g.node("MatMul", vectors, table, name="scores"))
            if not dynamics.copy_logit:
                return scores
            copy = g.wide(of_tokens(linear(g, hidden, "dynamics.copy_out"), 1))
            copy = g.node("Add", copy, g.weight("dynamics.copy_logit"))
            if temperature != 1:
                copy = g.node("Mul", copy, g.number(1 / temperature))
            previous = g.node("Unsqueeze", previous, g.ints(1))
            none = g.node("Less", previous, g.constant(np.int64(0)))
            raised = g.node("Where", none, g.number(0), copy)
            place = g.node("Max", previous, g.constant(np.int64(0)))
            # without `reduction`, which TensorRT has not
            copied = g.node("Add", g.node("GatherElements", scores, place, axis=1), raised)
            return g.node("ScatterElements", scores, place, copied, axis=1, name="copy")

    def sample(self, logits: Name, u: Name, count: int | None) -> tuple[Name, Name]:
        """`sampling.sample` of `count` tokens."""
        return sample(self.g, logits, u, self.config.tokenizer.codebook_size, count)

    def in_raster(self, x: Name) -> Name:
        """Reorder values of all tokens from position order to raster order, `[N, ...]`."""
        if self.slots == 1:
            return x
        order = position_tokens(self.config).reshape(-1).argsort().numpy()
        return self.g.node("Gather", x, self.g.constant(order), axis=0, name="raster")
