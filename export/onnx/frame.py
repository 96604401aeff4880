"""A whole frame as one graph, `frame-NAME`: the commit of the last one, all passes of a plan, the decoder.

Axes: `K` passes, `N` tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from onnx import ModelProto

from genie_rt.errors import ConfigError
from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.export.onnx.dynamics import Dynamics
from genie_rt.export.onnx.graphs import decoder, to_uint8, total
from genie_rt.export.onnx.transformer import Frames
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import StaticOrder, position_tokens
from genie_rt.runtime.plan import Plan

DECIDED = -1e30
"""Confidence of a token that is decided already: below any other."""

SMALLEST = 1e-38
"""Lower bound on a probability, so that its logarithm is above `DECIDED`."""


def frame(g: Builder, config: ModelConfig, name: str, plan: Plan) -> ModelProto:
    """The graph of the plan of that name.

    Raises:
        ConfigError: such a plan has no graph: it reuses what an earlier pass or frame saw.
    """
    if plan.reuse != "none":
        raise ConfigError(
            f'frame-{name}: expected a plan with reuse "none", found {plan.reuse!r}; '
            "a back end runs such plans by pass and pass-at"
        )
    passes = _Passes(g, config, plan.check(config))
    tokens, num_passes = passes.ranked() if plan.static_order is None else passes.static(plan.static_order)
    with g.scope("decoder"):
        tokens = g.reshape(tokens, 1, -1)
        pixels, picture_page = decoder(g, config, tokens, "picture_")
        checksum = g.node("Sum", *passes.checksums, total(g, pixels))
        outputs = {
            "tokens": tokens,
            "passes": num_passes,
            "rgb": to_uint8(g, pixels),
            "page": passes.page,
            "picture_page": picture_page,
            "checksum": checksum,
        }
    return g.finish(f"frame-{name}", outputs)


RANKINGS: dict[str, Callable[[Builder, Name], Name]] = {"likely": lambda g, p: g.node("Log", p)}
"""Scores of probabilities as nodes: `kernels/maskgit_sample/reference.py`."""


class _Passes:
    """The commit, and passes one after the other.

    Attributes:
        page: of the last frame.
        checksums: of every pass.
    """

    def __init__(self, g: Builder, config: ModelConfig, plan: Plan) -> None:
        self.g, self.config, self.plan = g, config, plan
        self.num_tokens = config.tokenizer.num_tokens
        self.dynamics = Dynamics(g, config)
        self.checksums: list[Name] = []
        places, transformer = self.dynamics.everywhere, self.dynamics.transformer
        with g.scope("commit"):
            self.last = self.dynamics.take("last_tokens", places)
            past = transformer.past()
            _, kept = transformer(self.dynamics.embed(self.last, None, "last_action", places), past)
            self.page = transformer.page(kept)
            self.past: Frames | None = transformer.after(kept, past)

    def ranked(self) -> tuple[Name, Name]:
        """Passes that decide the most confident tokens: `[N]` tokens, and the number of passes."""
        g, plan, dynamics = self.g, self.plan, self.dynamics
        tokens = g.constant(np.full(self.num_tokens, -1))
        num_passes, schedule = g.constant(np.array([plan.passes])), None
        for k in range(plan.passes):
            with g.scope(f"pass{k}"):
                hidden = self._evaluate(tokens)
                logits = self._count(dynamics.logits(hidden, self.last, plan.temperature))
                u = dynamics.take(self._of_pass("u", k), dynamics.everywhere)
                drawn = dynamics.sample(logits, u, self.num_tokens)
                candidates, p = (dynamics.in_raster(x) for x in drawn)
                if plan.adapts and not k:
                    num_passes = self._passes_for(p)
                    schedule = _Schedule(g, plan, self.num_tokens, num_passes)
                if schedule is not None:
                    tokens = schedule.decide(k, tokens, candidates, self._confidence(k, p, tokens, schedule))
                elif k + 1 < plan.passes:
                    done = plan.decided_after(k - 1, self.num_tokens) if k else 0
                    count = plan.decided_after(k, self.num_tokens) - done
                    confidence = self._confidence(k, p, tokens, None)
                    chosen = g.nodes("TopK", confidence, g.ints(count), count=2, name="most_confident")[1]
                    new = g.node("Gather", candidates, chosen, axis=0)
                    tokens = g.node("ScatterElements", tokens, chosen, new, axis=0, name="decide")
                elif k:
                    tokens = g.node("Where", self._undecided(tokens), candidates, tokens, name="decide")
                else:
                    tokens = candidates
        return tokens, g.node("Identity", num_passes)

    def static(self, known: StaticOrder) -> tuple[Name, Name]:
        """Passes of an order that is known: `[N]` tokens, and the number of passes."""
        g, plan, dynamics = self.g, self.plan, self.dynamics
        order: Name = "order"  # an input, unless it is the same for all frames
        if known.is_fixed:
            none = torch.zeros(1, dtype=torch.int64)
            order = g.constant(known.tokens(self.config, none, none, by_position=False)[0].numpy())
        place_of = g.constant(position_tokens(self.config).reshape(-1).argsort().numpy())
        previous = g.reshape("last_tokens", -1)
        tokens, done = g.constant(np.full(self.num_tokens, -1)), 0
        for k in range(plan.passes):
            with g.scope(f"pass{k}"):
                target = plan.decided_after(k, self.num_tokens)
                decided = g.node("Slice", order, g.ints(done), g.ints(target), name="decided")
                among, seen, u = (
                    g.node("Gather", x, decided, axis=0)
                    for x in (place_of, previous, g.reshape(self._of_pass("u", k), -1))
                )
                hidden = self._evaluate(tokens)
                logits = self._count(dynamics.logits(hidden, seen, plan.temperature, among))
                new, _ = dynamics.sample(logits, u, target - done)
                tokens = g.node("ScatterElements", tokens, decided, new, axis=0, name="decide")
                done = target
        return tokens, g.node("Identity", g.constant(np.array([plan.passes])))

    def _evaluate(self, tokens: Name) -> Name:
        """The transformer's output, tokens `[N]` in raster order to `[P, D]`."""
        places = self.dynamics.everywhere
        x = self.dynamics.embed(self.dynamics.take(tokens, places), self.last, "action", places)
        return self.dynamics.transformer(x, self.past)[0]

    def _count(self, logits: Name) -> Name:
        self.checksums.append(total(self.g, logits))
        return logits

    def _of_pass(self, name: str, k: int) -> Name:
        """Row `k` of an input `[K, N]`."""
        if self.plan.passes == 1:
            return name
        return self.g.node("Slice", name, self.g.ints(k), self.g.ints(k + 1), self.g.ints(0))

    def _undecided(self, tokens: Name) -> Name:
        return self.g.node("Less", tokens, self.g.constant(np.int64(0)))

    def _confidence(self, k: int, p: Name, tokens: Name, schedule: _Schedule | None) -> Name:
        """Compute the samples' confidence with noise, `[N]`; decided tokens get less than any other."""
        g, noise = self.g, self.plan.noise_in(k)
        confidence = RANKINGS[self.plan.ranking](g, g.node("Max", p, g.number(SMALLEST)))
        if schedule is not None or noise:
            scale = g.number(noise) if schedule is None else schedule.noise(k)
            gumbel = g.reshape(self._of_pass("gumbel", k), -1)
            confidence = g.node("Add", confidence, g.node("Mul", gumbel, scale))
        if not k:
            return confidence
        return g.node("Where", self._undecided(tokens), confidence, g.number(DECIDED), name="confidence")

    def _passes_for(self, p: Name) -> Name:
        """`Plan.passes_for` of the samples' probabilities: `[1]` int64.

        Looked up, not divided: OpenVINO's CPU divides integers as floats, and rounds.
        """
        g = self.g
        unsure = g.cast(g.node("Less", p, g.number(self.plan.threshold)), "int64")
        count = g.node("Min", g.node("ReduceSum", unsure, keepdims=1), g.ints(self.num_tokens))
        passes = [self.plan.passes_for(n, self.num_tokens) for n in range(self.num_tokens + 1)]
        return g.node("Gather", g.ints(*passes), count, axis=0)


class _Schedule:
    """Number of tokens that each pass decides, known only after the first pass.

    Args:
        num_passes: `[1]` int64.
    """

    def __init__(self, g: Builder, plan: Plan, num_tokens: int, num_passes: Name) -> None:
        self.g, self.num_tokens = g, num_tokens
        counts, noise = np.zeros((2, plan.passes, plan.passes))
        for index in range(plan.passes):
            own = plan.replace(passes=index + 1)
            targets = [0, *(own.decided_after(k, num_tokens) for k in range(plan.passes))]
            counts[index] = np.diff(targets)
            noise[index, : index + 1] = [own.noise_in(k) for k in range(index + 1)]
        row = g.node("Sub", num_passes, g.ints(1))
        self._counts, self._noise = (
            g.node("Gather", g.constant(table), row, axis=0)  # [1, K]
            for table in (counts.astype(np.int64), noise.astype(np.float32))
        )

    def _entry(self, row: Name, k: int) -> Name:
        return self.g.node("Gather", row, self.g.ints(k), axis=1)

    def noise(self, k: int) -> Name:
        """Its scale in pass `k`: `[1]` float32."""
        return self.g.reshape(self._entry(self._noise, k), 1)

    def decide(self, k: int, tokens: Name, candidates: Name, confidence: Name) -> Name:
        """Tokens `[N]` after pass `k`; the same ones once the frame is done."""
        g = self.g
        keep = g.reshape(self._entry(self._counts, k), 1)
        order = g.nodes("TopK", confidence, g.ints(self.num_tokens), count=2, name="most_confident")[1]
        chosen = g.node("Less", g.constant(np.arange(self.num_tokens)), keep)
        new, old = (g.node("Gather", x, order, axis=0) for x in (candidates, tokens))
        return g.node(
            "ScatterElements", tokens, order, g.node("Where", chosen, new, old), axis=0, name="decide"
        )
