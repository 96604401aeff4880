"""A model's weights, laid out for the kernels once: what the `cuda` back end computes with.

What can be multiplied out beforehand is. An embedded token goes through a linear map, and a hidden state
through two, so tables of rows take the place of the first and one matrix that of the others:

    token_rows[s, v]    = (table_v) token_in_s^T       slot s of a position holds token v
    head[s, v]          = table_v token_out_s / sqrt(E)

They are computed in at least fp32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from genie_rt.runtime.backends.cuda.linear import Linear, pack_linear
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.config import ModelConfig, TransformerConfig
from genie_rt.runtime.model.dynamics import Dynamics
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.runtime.model.transformer import Attention, STBlock, STTransformer
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.orders import position_tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedAttention:
    """One attention and the norm before it."""

    norm: Tensor
    qkv: Linear
    out: Linear
    q_norm: Tensor
    k_norm: Tensor
    heads: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedTemporal(PackedAttention):
    """Temporal attention. `bias` is that of age, `[H, W]`."""

    bias: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedBlock:
    """One ST block."""

    spatial: PackedAttention
    temporal: PackedTemporal
    mlp_norm: Tensor
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedTransformer:
    """The blocks and the final norm."""

    config: TransformerConfig
    blocks: tuple[PackedBlock, ...]
    norm: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedDynamics:
    """The dynamics.

    Attributes:
        token_rows: `[S, V + 1, D]`, what a decided token adds to its position; row `V` of a masked one.
        previous_rows: `[S, V, D]`, what the token of the frame before adds at a masked place, or None.
        position: `[P, D]`. action_rows: `[A + 1, D]`, the last of a first frame.
        head: `[S V, D]`, scores of every token in every slot.
        copy: `[S, D]` and the constant, `[]`, of what raises the previous token's score, or None.
    """

    transformer: PackedTransformer
    token_rows: Tensor
    previous_rows: Tensor | None
    position: Tensor
    action_rows: Tensor
    head: Tensor
    copy: tuple[Tensor, Tensor] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedTokenizer:
    """The tokenizer. `code_rows` is `[1, V + 1, D]`, each code as the decoder takes it in."""

    encoder: PackedTransformer
    patch_in: Linear
    encoder_position: Tensor
    code_in: Linear
    codebook: Tensor
    decoder: PackedTransformer
    code_rows: Tensor
    decoder_position: Tensor
    patch_out: Linear


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedModel:
    """All that a frame needs.

    Attributes:
        members: `[P, S]` int32, the tokens of each position of the dynamics.
        place_of: `[N]` int64, `position * S + slot` of each token.
        all_tokens: `[N, 1]` int32, each token as a position of its own: the decoder's.
    """

    config: ModelConfig
    precision: Precision
    dynamics: PackedDynamics
    tokenizer: PackedTokenizer
    members: Tensor
    place_of: Tensor
    all_tokens: Tensor

    @property
    def num_bytes(self) -> int:
        """Bytes of all weights, as they are kept."""
        return sum(_bytes(part) for part in _parts(self))


def pack(
    model: WorldModel, precision: Precision, device: torch.device, *, release: bool = False
) -> PackedModel:
    """Lays a model out, weight by weight.

    Args:
        model: anywhere, in any floating dtype.
        release: takes each weight away from the model once it is packed, so that there is never a second copy
            of more than one block.
    """
    packer = _Packer(precision, device, release)
    config = model.config
    members = position_tokens(config).to(device)
    tokenizer = model.tokenizer
    codebook = packer.wide(tokenizer.codebook)
    packed = PackedModel(
        config=config,
        precision=precision,
        dynamics=packer.dynamics(model.dynamics, codebook),
        tokenizer=packer.tokenizer(tokenizer, codebook),
        members=members.int(),
        place_of=members.flatten().argsort(),
        all_tokens=torch.arange(config.tokenizer.num_tokens, dtype=torch.int32, device=device)[:, None],
    )
    return packed


class _Packer:
    """Takes parameters out of modules."""

    def __init__(self, precision: Precision, device: torch.device, release: bool) -> None:
        self.precision, self.device, self.release = precision, device, release
        self.dtype = precision.activations

    def wide(self, parameter: Tensor) -> Tensor:
        """A weight to compute with, in at least fp32."""
        moved = parameter.detach().to(self.device)
        return moved.to(torch.promote_types(moved.dtype, torch.float32))

    def plain(self, parameter: Tensor) -> Tensor:
        """A weight in the dtype of the activations."""
        moved = parameter.detach().to(self.device, self.dtype, copy=not self.release).contiguous()
        self._drop(parameter)
        return moved

    def linear(self, module: nn.Linear, *, dense: bool = False) -> Linear:
        """A projection as the precision has it; `dense` in the dtype of the activations."""
        precision = self.precision.dense if dense else self.precision
        packed = pack_linear(module.weight.detach().to(self.device, copy=not self.release), precision)
        self._drop(module.weight)
        return packed

    def _drop(self, parameter: Tensor) -> None:
        if self.release:
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)

    def transformer(self, module: STTransformer) -> PackedTransformer:
        blocks = []
        for block in module.blocks:
            assert isinstance(block, STBlock)  # a ModuleList does not know
            blocks.append(
                PackedBlock(
                    spatial=PackedAttention(**self.attention(block.spatial, block.spatial_norm.weight)),
                    temporal=PackedTemporal(
                        **self.attention(block.temporal, block.temporal_norm.weight),
                        bias=self.plain(block.temporal.age_bias),
                    ),
                    mlp_norm=self.plain(block.mlp_norm.weight),
                    up=self.linear(block.up),
                    down=self.linear(block.down),
                )
            )
        return PackedTransformer(
            config=module.config, blocks=tuple(blocks), norm=self.plain(module.norm.weight)
        )

    def attention(self, module: Attention, norm: Tensor) -> dict[str, Any]:
        """The fields of a `PackedAttention`."""
        return {
            "norm": self.plain(norm),
            "qkv": self.linear(module.qkv),
            "out": self.linear(module.out),
            "q_norm": self.plain(module.q_norm),
            "k_norm": self.plain(module.k_norm),
            "heads": module.heads,
        }

    def dynamics(self, module: Dynamics, codebook: Tensor) -> PackedDynamics:
        slots, embedding = module.config.dynamics.merge**2, module.config.dynamics.embedding_dim
        table = self.wide(module.token_embedding)  # [V, E]
        if module.code_in is not None:
            table = table + normalize(codebook, dim=-1) @ self.wide(module.code_in.weight).mT

        def by_slot(weight: Tensor) -> Tensor:
            return self.wide(weight).unflatten(1, (slots, embedding)).transpose(0, 1)  # [S, D, E]

        with_mask = torch.cat([table, self.wide(module.mask_embedding)[None]])
        previous = None
        if module.previous_in is not None:
            previous = (table @ by_slot(module.previous_in.weight).mT).to(self.dtype)
        out = self.wide(module.token_out.weight).unflatten(0, (slots, embedding))  # [S, E, D]
        copy = None
        if module.copy_out is not None and module.copy_logit is not None:
            copy = (self.plain(module.copy_out.weight), self.wide(module.copy_logit).clone())
        return PackedDynamics(
            token_rows=(with_mask @ by_slot(module.token_in.weight).mT).to(self.dtype),
            previous_rows=previous,
            position=self.plain(module.position),
            action_rows=self.plain(module.action_embedding),
            head=(table @ out * embedding**-0.5).flatten(0, 1).to(self.dtype),
            copy=copy,
            transformer=self.transformer(module.transformer),
        )

    def tokenizer(self, module: Tokenizer, codebook: Tensor) -> PackedTokenizer:
        rows = normalize(codebook, dim=-1) @ self.wide(module.code_out.weight).mT  # [V, D]
        own = _Packer(self.precision.tokenizer, self.device, self.release)
        return PackedTokenizer(
            encoder=own.transformer(module.encoder),
            patch_in=self.linear(module.patch_in, dense=True),
            encoder_position=self.plain(module.encoder_position),
            code_in=self.linear(module.code_in, dense=True),
            codebook=codebook.to(self.dtype) if self.dtype == torch.float64 else codebook.float(),
            decoder=own.transformer(module.decoder),
            code_rows=torch.cat([rows, rows.new_zeros(1, rows.shape[1])])[None].to(self.dtype),
            decoder_position=self.plain(module.decoder_position),
            patch_out=self.linear(module.patch_out, dense=True),
        )


def _parts(value: object) -> Iterator[Tensor | Linear]:
    """All tensors and projections of packed weights."""
    if isinstance(value, Tensor | Linear):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _parts(getattr(value, name))


def _bytes(part: Tensor | Linear) -> int:
    return part.nbytes if isinstance(part, Tensor) else part.num_bytes
