"""Linears of a model that int8 may round, by name."""

from __future__ import annotations

from genie_rt.runtime.config import ModelConfig

_OF_A_BLOCK = ("spatial.qkv", "spatial.out", "temporal.qkv", "temporal.out", "up", "down")


def linear_names(config: ModelConfig) -> tuple[str, ...]:
    """Linears that can be quantised: those of the transformers' blocks, named as modules of `WorldModel`.

    The others, at a model's ends, are a few hundredths of its work, and the most sensitive.
    """
    transformers = {
        "tokenizer.encoder": config.tokenizer.encoder,
        "tokenizer.decoder": config.tokenizer.decoder,
        "dynamics.transformer": config.dynamics.transformer,
    }
    return tuple(
        f"{part}.blocks.{layer}.{linear}"
        for part, transformer in transformers.items()
        for layer in range(transformer.num_layers)
        for linear in _OF_A_BLOCK
    )
