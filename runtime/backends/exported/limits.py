"""What a graph may take, from the sizes of its bundle's model: nodes, operations and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genie_rt.runtime.config import ModelConfig, TransformerConfig
from genie_rt.runtime.memory_bound import memory_limit
from genie_rt.runtime.plan import Plan

MOST_NODES = 200_000
"""Most nodes of any graph. A frame of more takes an engine hours to compile; such plans play pass by pass."""

NODES_PER_LAYER, NODES_PER_AGE, NODES_PER_PASS, NODES_PER_GRAPH = 80, 12, 140, 400
"""Above what any layer, age of a layer, pass and graph has in any number format and opset."""

SLACK, SPARE_OPERATIONS = 4, 4 * 10**9
"""A graph may take more than the formulas of `cost.py` count, by this factor, and this many operations, a
second or so, besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one graph may have.

    Attributes:
        nodes: operators.
        operations: of one run, as `operators` counts them.
        memory_bytes: of all values that are alive at once.
        subset: positions that a side without a fixed size may have.
        slots: tokens of each.
    """

    nodes: int
    operations: int
    memory_bytes: int
    subset: int = 1
    slots: int = 1

    def size(self, name: str) -> int:
        """The largest size of a side that the graph's signature calls by a name.

        Raises:
            ValueError: there is no such name.
        """
        sizes = {"Q": self.subset, "Q*S": self.subset * self.slots}
        if name not in sizes:
            raise ValueError(f"a side called {name[:100]!r}")
        return sizes[name]


def limits_of(config: ModelConfig, name: str, plans: Mapping[str, Plan], weight_bytes: int) -> Limits:
    """What the graph of that name may have.

    Args:
        name: "encode", "commit", "pass", "pass-at", "decode" or "frame-PLAN".
        plans: of the bundle.
        weight_bytes: of its file of weights.
    """
    tokenizer, transformer = config.tokenizer, config.dynamics.transformer
    dynamics, decoder = (transformer, config.num_positions), (tokenizer.decoder, tokenizer.num_tokens)
    parts = {"encode": [(tokenizer.encoder, tokenizer.num_tokens)], "decode": [decoder]}.get(name, [dynamics])
    passes = 1
    if name.startswith("frame-"):
        passes = plans[name.removeprefix("frame-")].passes
        parts = [*[dynamics] * (passes + 1), decoder]
    nodes = NODES_PER_GRAPH + NODES_PER_PASS * passes
    nodes += sum(part.num_layers * (NODES_PER_LAYER + NODES_PER_AGE * part.window) for part, _ in parts)
    operations = sum(_operations(part, positions) for part, positions in parts)
    operations += passes * _operations_besides(config) + 8 * weight_bytes
    return Limits(
        nodes=min(nodes, MOST_NODES),
        operations=SLACK * operations + SPARE_OPERATIONS,
        memory_bytes=memory_limit(weight_bytes),
        subset=config.num_positions,
        slots=config.dynamics.merge**2,
    )


def _operations(config: TransformerConfig, positions: int) -> int:
    """One frame through a transformer, as `cost.transformer_flops`, and its element-wise work."""
    attention = config.attention_width
    linear = 16 * config.width * attention + 4 * config.width * config.mlp_width
    attended = 4 * (positions + 2 * config.window) * attention
    others = 30 * (config.width + config.mlp_width + attention)
    return config.num_layers * positions * (linear + attended + others)


def _operations_besides(config: ModelConfig) -> int:
    """What is before and after the transformers: patches and codes, embeddings and scores, samples."""
    tokenizer, dynamics = config.tokenizer, config.dynamics
    tokens, codes = tokenizer.num_tokens, tokenizer.codebook_size
    pixels = 3 * (tokenizer.patch**2 + tokenizer.decoder_patch**2)
    width = tokenizer.encoder.width + tokenizer.decoder.width
    per_token = 2 * pixels * width + 2 * tokenizer.codebook_dim * (width + 2 * codes)
    per_token += 4 * dynamics.embedding_dim * (codes + dynamics.transformer.width)
    per_token += 60 * codes + 20 * pixels
    return tokens * per_token + 8 * codes * dynamics.embedding_dim * tokenizer.codebook_dim
