"""The latent action model (LAM; Bruce et al. 2024, section 2.1): which of `A` codes explains a change.

The encoder sees the frames up to `t+1` and gives one vector for the step from `t` to `t+1`, quantised to a
code. The decoder sees the frames up to `t` and the code, and predicts frame `t+1`; it exists only to teach
the encoder. `st_lam.py` is the paper's, `conv_lam.py` the one that learns on a small budget.
"""

from typing import TypeAlias

import torch

from genie_rt.runtime.config import ConvLamConfig, ModelConfig
from genie_rt.runtime.model.conv_lam import ConvLam
from genie_rt.runtime.model.st_lam import STLam

Lam: TypeAlias = STLam | ConvLam
"""Both have `inputs_of`, `action_vectors`, `actions`, `predict` and `decode_actions` in common."""


_ENCODER = ("encoder.", "encoder_in.", "encoder_position", "action_in.", "action_norm.running", "codebook")


def encoder_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight that telling actions from pictures needs, without allocating any."""
    with torch.device("meta"):
        lam = build_lam(config)
    return {name: tuple(value.shape) for name, value in lam.state_dict().items() if name.startswith(_ENCODER)}


def build_lam(config: ModelConfig) -> Lam:
    """The latent action model of a config, with fresh weights.

    Raises:
        ValueError: the config has none.
    """
    if config.lam is None:
        raise ValueError("the config has no latent action model")
    if isinstance(config.lam, ConvLamConfig):
        return ConvLam(config.lam, config.tokenizer)
    return STLam(config.lam, config.tokenizer)
