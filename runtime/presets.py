"""Named model configurations. A preset is a config, not a class.

Sizes of the `genie-*` and `coinrun` presets: Bruce et al. 2024 (arXiv 2402.15391), appendices C, D and F. The
paper prints layers, widths and heads but not the MLP width; the dynamics' is chosen so that the published
parameter counts hold, the others' is 4 D.
"""

from collections.abc import Callable
from pathlib import Path

from genie_rt.errors import ConfigError
from genie_rt.runtime.arguments import found, one_of
from genie_rt.runtime.config import (
    ConvLamConfig,
    DynamicsConfig,
    LamConfig,
    ModelConfig,
    TokenizerConfig,
    TransformerConfig,
    from_dict,
)
from genie_rt.runtime.untrusted_json import read_json

MAX_PRESET_BYTES = 1 << 20


def _transformer(
    layers: int, width: int, heads: int, head_width: int, mlp: int, window: int
) -> TransformerConfig:
    return TransformerConfig(
        num_layers=layers, width=width, num_heads=heads, head_width=head_width, mlp_width=mlp, window=window
    )


def _demo() -> ModelConfig:
    """Small enough to train in some hours on two CPU cores, and to play there in real time."""
    tokenizer = TokenizerConfig(
        height=64, width=64, patch=4, decoder_patch=4, codebook_size=1024, codebook_dim=16,
        encoder=_transformer(2, 128, 4, 32, 384, 2), decoder=_transformer(3, 128, 4, 32, 512, 2),
    )  # fmt: skip
    lam = ConvLamConfig(num_actions=8)
    dynamics = DynamicsConfig(
        transformer=_transformer(6, 192, 6, 32, 768, 8), num_actions=8, merge=2, embedding_dim=64
    )
    return ModelConfig(tokenizer=tokenizer, lam=lam, dynamics=dynamics)


def _coinrun() -> ModelConfig:
    side = _transformer(8, 512, 8, 64, 2048, 16)
    tokenizer = TokenizerConfig(
        height=64, width=64, patch=4, decoder_patch=4, codebook_size=1024, codebook_dim=32,
        encoder=side, decoder=side,
    )  # fmt: skip
    lam = LamConfig(patch=16, num_actions=6, codebook_dim=32, encoder=side, decoder=side)
    dynamics = DynamicsConfig(transformer=_transformer(12, 512, 8, 64, 2048, 16), num_actions=6)
    return ModelConfig(tokenizer=tokenizer, lam=lam, dynamics=dynamics)


def _genie(layers: int, width: int, heads: int, mlp: int) -> ModelConfig:
    tokenizer = TokenizerConfig(
        height=90, width=160, patch=4, decoder_patch=4, codebook_size=1024, codebook_dim=32,
        encoder=_transformer(12, 512, 8, 64, 2048, 16), decoder=_transformer(20, 1024, 16, 64, 4096, 16),
    )  # fmt: skip
    lam_side = _transformer(20, 1024, 16, 64, 4096, 16)
    lam = LamConfig(patch=16, num_actions=8, codebook_dim=32, encoder=lam_side, decoder=lam_side)
    dynamics = DynamicsConfig(transformer=_transformer(layers, width, heads, 128, mlp, 16), num_actions=8)
    return ModelConfig(tokenizer=tokenizer, lam=lam, dynamics=dynamics)


_PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "demo": _demo,
    "coinrun": _coinrun,
    "genie-500m": lambda: _genie(21, 1536, 12, 2048),
    "genie-2b": lambda: _genie(34, 2560, 20, 2560),
    "genie-10b": lambda: _genie(48, 5120, 36, 2048),
}

PRESETS: tuple[str, ...] = tuple(_PRESETS)


def preset(name: str) -> ModelConfig:
    """The configuration of that name, or in that JSON file.

    Args:
        name: one of `PRESETS`, or the path of a file that ends in ".json": a `ModelConfig` as
            `genie-rt info NAME --json` prints it under "config", or the whole of what that prints.

    Raises:
        ConfigError: there is no such preset, and the message lists those there are; or the file is missing
            or holds no config.
    """
    known = one_of(name, _PRESETS)
    if known is not None:
        return _PRESETS[known]()
    if isinstance(name, str) and name.endswith(".json"):
        values = read_json(
            Path(name), max_bytes=MAX_PRESET_BYTES, expected="the sizes of a model", error=ConfigError
        )
        inner = values.get("config")  # of what `genie-rt info --json` prints
        return from_dict(ModelConfig, values.value if inner is None else inner.value, name)
    raise ConfigError(
        f"unknown preset {found(name)}: expected one of {', '.join(PRESETS)}, or a file NAME.json"
    )
