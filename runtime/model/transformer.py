"""The ST transformer: spatial attention, temporal attention and MLP in every block, pre-norm and residual.

Axes: `B` sessions, `T` frames of this call, `Th` cached frames, `P` positions, `D` width, `H` heads, `Dh`
head width, `F` MLP width, `W` window. There is no cache in here: a caller who kept the keys and values of
earlier frames hands them in as `history`, with the age of every key; one who did not hands in all the frames.
At play frames are computed one by one: see `runtime/backends/frame_forward.py`.
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from genie_rt.kernels.mlp.reference import mlp
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.spatial_attention.reference import spatial_attention
from genie_rt.kernels.temporal_attention.reference import temporal_attention
from genie_rt.runtime.config import TransformerConfig

KeysValues: TypeAlias = tuple[Tensor, Tensor]
"""Keys (after QK-norm) and values of one layer's temporal attention, `[B, T, P, H, Dh]` each."""


class RMSNorm(nn.Module):
    """`kernels.norm_qkv`'s norm with a learned weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight)


class Attention(nn.Module):
    """The projections and QK-norm weights of one attention; the two kinds share their layout."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.head_width)
        self.qkv = nn.Linear(config.width, 3 * config.attention_width, bias=False)
        self.out = nn.Linear(config.attention_width, config.width, bias=False)
        self.q_norm = nn.Parameter(torch.ones(config.head_width))
        self.k_norm = nn.Parameter(torch.ones(config.head_width))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[..., P, D]` to q, k, v of `[..., P, H, Dh]`."""
        q, k, v = self.qkv(x).unflatten(-1, (3, *self.heads)).unbind(-3)
        return q, k, v

    def merge(self, x: Tensor) -> Tensor:
        """What the heads found, `[..., P, H, Dh]`, to `[..., P, D]`."""
        return self.out(x.flatten(-2))


class SpatialAttention(Attention):
    """Full attention among the positions of one frame."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.flatten(0, 1) for part in self.project(x))  # [B*T, P, H, Dh]
        out = spatial_attention(q, k, v, self.q_norm, self.k_norm)
        return self.merge(out.unflatten(0, x.shape[:2]))


class TemporalAttention(Attention):
    """Attention of each position to itself in visible frames, with a learned bias per head and age."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.age_bias = nn.Parameter(torch.zeros(config.num_heads, config.window))

    def forward(self, x: Tensor, ages: Tensor, history: KeysValues | None) -> tuple[Tensor, KeysValues]:
        q, k, v = self.project(x)  # [B, T, P, H, Dh]
        q, k = rms_norm(q, self.q_norm), rms_norm(k, self.k_norm)
        all_k, all_v = k, v
        if history is not None:
            all_k, all_v = torch.cat([history[0], k], 1), torch.cat([history[1], v], 1)  # [B, Th+T, P, H, Dh]
        out = temporal_attention(q, all_k, all_v, self.age_bias, ages)
        return self.merge(out), (k, v)


class STBlock(nn.Module):
    """`x += SA(norm x); x += TA(norm x); x += MLP(norm x)`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.spatial_norm = RMSNorm(config.width)
        self.spatial = SpatialAttention(config)
        self.temporal_norm = RMSNorm(config.width)
        self.temporal = TemporalAttention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor, ages: Tensor, history: KeysValues | None) -> tuple[Tensor, KeysValues]:
        x = x + self.spatial(self.spatial_norm(x))
        attended, keys_values = self.temporal(self.temporal_norm(x), ages, history)
        x = x + attended
        return x + mlp(self.mlp_norm(x), self.up.weight, self.down.weight), keys_values


class STTransformer(nn.Module):
    """`L` blocks and a final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(STBlock(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width)
        self._initialise()

    def _initialise(self) -> None:
        """Every linear at variance 1/fan_in; those that write to the residual smaller by sqrt(3 L)."""
        if self.norm.weight.is_meta:
            return  # nothing to fill, and the attempt would load half of torch's compiler
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.endswith("age_bias"):
                std = parameter.shape[1] ** -0.5
                if name.endswith(("out.weight", "down.weight")):
                    std /= math.sqrt(3 * self.config.num_layers)
                nn.init.normal_(parameter, std=std)

    def forward(
        self,
        x: Tensor,
        ages: Tensor,
        history: list[KeysValues] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Evaluates all blocks.

        Args:
            x: `[B, T, P, D]`, embedded inputs.
            ages: `[B or 1, T, Th + T]` int64: the age of every key frame to every frame of `x`, -1 unseen.
            history: per layer the keys and values of `Th` earlier frames, `[B, Th, P, H, Dh]` each.

        Returns:
            `[B, T, P, D]` after the final norm, and per layer the keys and values of these `T` frames.
        """
        kept = []
        for layer, block in enumerate(self.blocks):
            x, keys_values = block(x, ages, history[layer] if history is not None else None)
            kept.append(keys_values)
        return self.norm(x), kept


def position_grid(rows: int, columns: int, width: int) -> Tensor:
    """A start for learned position embeddings: 2-D sines and cosines.

    Nearby positions start out similar, so attention to neighbours is learnt within few steps. Source:
    Dosovitskiy et al. 2021, arXiv 2010.11929, D.4.

    Returns:
        `[rows * columns, width]` float32.
    """
    if (table := torch.zeros(rows * columns, width)).is_meta:
        return table
    num_waves = max(1, width // 4)
    frequency = 100.0 ** (-torch.arange(num_waves) / num_waves)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.cat([place.reshape(-1, 1) * frequency for place in (y, x)], 1)  # [P, 2 * num_waves]
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    table[:, : waves.shape[1]] = waves[:, :width]
    return table
