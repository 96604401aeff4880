"""The ST transformer: spatial attention, temporal attention and MLP in every block, pre-norm and residual.

Axes: `B` sessions, `T` frames of this call, `Th` cached frames, `P` positions, `D` width, `H` heads, `Dh`
head width, `F` MLP width, `W` window. There is no cache in here: a caller who kept the keys and values of
earlier frames hands them in as `history`, with the age of every key; one who did not hands in all the frames.
Who plays also says which frames of a call see which others (`OwnFrames`): then each frame is
computed by itself, and its result is the same to the bit whatever is computed beside it.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.spatial_attention.reference import spatial_attention
from genie_rt.kernels.temporal_attention.reference import newest_attention, temporal_attention
from genie_rt.runtime.config import TransformerConfig
from genie_rt.runtime.model.by_frame import each_frame, feed_forward, project

KeysValues: TypeAlias = tuple[Tensor, Tensor]
"""Keys (after QK-norm) and values of one layer's temporal attention, `[B, T, P, H, Dh]` each."""

OwnFrames: TypeAlias = Sequence[tuple[int, ...]]
"""Which of `T` frames each of them sees, newest first, itself before all; `history` comes after these."""


class Seen(NamedTuple):
    """What one frame of a call sees, newest first, itself before all.

    Attributes:
        frames: those of the call. The history comes after them.
        ages: `[B or 1, Tk]` int64, of all of these, -1 where it is not seen.
    """

    frames: tuple[int, ...]
    ages: Tensor


def frames_seen(ages: Tensor, own: OwnFrames) -> list[Seen]:
    """What each of `T` frames sees, from the ages `[B or 1, T, Th + T]` of the history and of these."""
    past = ages.shape[2] - len(own)
    return [
        Seen(
            frames, torch.cat([*(ages[:, t, past + i : past + i + 1] for i in frames), ages[:, t, :past]], 1)
        )
        for t, frames in enumerate(own)
    ]


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

    def project(self, x: Tensor, by_frame: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """`[..., P, D]` to q, k, v of `[..., P, H, Dh]`."""
        qkv = project(self.qkv, x, by_frame)
        q, k, v = qkv.unflatten(-1, (3, *self.heads)).unbind(-3)
        return q, k, v

    def merge(self, x: Tensor, by_frame: bool = False) -> Tensor:
        """What the heads found, `[..., P, H, Dh]`, to `[..., P, D]`."""
        return project(self.out, x.flatten(-2), by_frame)


class SpatialAttention(Attention):
    """Full attention among the positions of one frame."""

    def forward(self, x: Tensor, by_frame: bool = False) -> Tensor:
        q, k, v = (part.flatten(0, 1) for part in self.project(x, by_frame))  # [B*T, P, H, Dh]
        attend = partial(spatial_attention, q_weight=self.q_norm, k_weight=self.k_norm)
        out = each_frame(attend, q, k, v) if by_frame else attend(q, k, v)
        return self.merge(out.unflatten(0, x.shape[:2]), by_frame)


class TemporalAttention(Attention):
    """Attention of each position to itself in visible frames, with a learned bias per head and age."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.age_bias = nn.Parameter(torch.zeros(config.num_heads, config.window))

    def forward(
        self, x: Tensor, ages: Tensor, history: KeysValues | None, seen: Sequence[Seen] | None = None
    ) -> tuple[Tensor, KeysValues]:
        q, k, v = self.project(x, seen is not None)  # [B, T, P, H, Dh]
        q, k = rms_norm(q, self.q_norm), rms_norm(k, self.k_norm)
        if seen is not None:
            return self.merge(self._each(q, k, v, history, seen), True), (k, v)
        all_k, all_v = k, v
        if history is not None:
            all_k, all_v = torch.cat([history[0], k], 1), torch.cat([history[1], v], 1)  # [B, Th+T, P, H, Dh]
        out = temporal_attention(q, all_k, all_v, self.age_bias, ages)
        return self.merge(out), (k, v)

    def _each(
        self, q: Tensor, k: Tensor, v: Tensor, history: KeysValues | None, seen: Sequence[Seen]
    ) -> Tensor:
        """Every frame with what it sees alone: `[B, T, P, H, Dh]`."""
        past_k, past_v = ([], []) if history is None else ([history[0]], [history[1]])
        each: list[Tensor] = []
        all_k, all_v = k, v
        frames: tuple[int, ...] = ()  # that these are of, besides the past
        for t in reversed(range(len(seen))):
            newer = len(frames) - len(seen[t].frames)
            if newer >= 0 and frames[newer:] == seen[t].frames:  # a commit's: part of what is there already
                all_k, all_v = all_k[:, newer:], all_v[:, newer:]
            else:
                all_k = torch.cat([*(k[:, i : i + 1] for i in seen[t].frames), *past_k], 1)
                all_v = torch.cat([*(v[:, i : i + 1] for i in seen[t].frames), *past_v], 1)
            frames = seen[t].frames
            each.append(newest_attention(q[:, t], all_k, all_v, self.age_bias, seen[t].ages))
        return torch.stack(each[::-1], 1) if len(each) > 1 else each[0][:, None]


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

    def forward(
        self, x: Tensor, ages: Tensor, history: KeysValues | None, seen: Sequence[Seen] | None = None
    ) -> tuple[Tensor, KeysValues]:
        x = x + self.spatial(self.spatial_norm(x), seen is not None)
        attended, keys_values = self.temporal(self.temporal_norm(x), ages, history, seen)
        x = x + attended
        added = feed_forward(self.mlp_norm(x), self.up, self.down, seen is not None)
        return x + added, keys_values


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
        own: OwnFrames | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Evaluates all blocks.

        Args:
            x: `[B, T, P, D]`, embedded inputs.
            ages: `[B or 1, T, Th + T]` int64: the age of every key frame to every frame of `x`, -1 unseen.
            history: per layer the keys and values of `Th` earlier frames, `[B, Th, P, H, Dh]` each. With
                `own` newest first, and those that are not seen after all that are.
            own: which frames of `x` each of them sees, where none is to depend on what is computed beside it,
                to the bit; None, the frames of `x` are a clip seen whole.

        Returns:
            `[B, T, P, D]` after the final norm, and per layer the keys and values of these `T` frames.
        """
        kept, seen = [], None if own is None else frames_seen(ages, own)
        for layer, block in enumerate(self.blocks):
            x, keys_values = block(x, ages, history[layer] if history is not None else None, seen)
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
