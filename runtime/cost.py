"""What a model costs: parameters, operations and memory, from its config alone.

Parameters are counted on the real modules, built on the meta device, which holds shapes and no memory.
Operations are counted by formula: a product of `[M, K]` by `[K, N]` takes `2 M N K` FLOPs, attention of `Q`
queries to `S` keys `4 Q S Dh` per head (scores, then values). Norms, softmax, GELU, embeddings and sampling
are not counted: together they are a few operations per number, and no device is limited by their arithmetic.

A **pass** evaluates one frame. Temporal attention counts with its window full, `W` keys, as it is in all but
the first frames of a session.

Axes: `T` frames, `P` positions, `D` width, `H` heads, `Dh` head width, `F` MLP width, `L` layers, `W` window,
`N` tokens, `V` codebook size, `d` its dimension, `E` embedding dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from genie_rt.runtime.config import (
    ConvLamConfig,
    LamConfig,
    ModelConfig,
    TokenizerConfig,
    TransformerConfig,
)

ENCODER = "tokenizer encoder"
DYNAMICS = "dynamics"
DECODER = "tokenizer decoder"
ACTION_CODES = "latent action codes"
LAM = "latent action model"

DTYPE_BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """One part of a model.

    Attributes:
        name: one of this module's constants.
        num_parameters: of the part; the codebook counts with the encoder.
        pass_flops: to evaluate one frame. Of the dynamics: inputs, transformer and head.
        page_values: numbers in the page of one frame, `2 L P H Dh`; 0 where a part has none.
        num_pages: pages that a session holds once its window is full, `W - 1`. The encoder holds its pages
            only while it reads a prompt, and needs none afterwards.
    """

    name: str
    num_parameters: int
    pass_flops: int
    page_values: int = 0
    num_pages: int = 0

    def weight_bytes(self, dtype: str) -> int:
        return self.num_parameters * DTYPE_BYTES[dtype]

    def page_bytes(self, dtype: str) -> int:
        return self.page_values * DTYPE_BYTES[dtype]

    def cache_bytes(self, dtype: str) -> int:
        """Bytes of all pages of a session whose window is full."""
        return self.num_pages * self.page_bytes(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """A whole model.

    Attributes:
        parts: what a bundle holds, in the order of a frame's way.
        lam: the latent action model, which only training needs; None where logged actions were used.
        commit_flops: to compute the page of a decided frame: a pass without the head.
        recomputed_pass_flops: a pass that recomputes the last `W` frames, as the paper's recipe does.
        recomputed_decode_flops: the decoder over the frames of its window, recomputed.
    """

    parts: tuple[PartCost, ...]
    lam: PartCost | None
    commit_flops: int
    recomputed_pass_flops: int
    recomputed_decode_flops: int

    def part(self, name: str) -> PartCost:
        return next(part for part in self.parts if part.name == name)

    @property
    def num_parameters(self) -> int:
        """Parameters of everything that a bundle holds."""
        return sum(part.num_parameters for part in self.parts)

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of everything that a bundle holds, all in one dtype, "fp32" or "bf16"."""
        return sum(part.weight_bytes(dtype) for part in self.parts)

    def cache_bytes(self, dtype: str) -> int:
        """Bytes of one session whose window is full."""
        return sum(part.cache_bytes(dtype) for part in self.parts)

    def frame_flops(self, passes: int) -> int:
        """One frame of a session: `K` passes, commit and decoder."""
        passes_flops = passes * self.part(DYNAMICS).pass_flops
        return passes_flops + self.commit_flops + self.part(DECODER).pass_flops

    def recomputed_frame_flops(self, passes: int) -> int:
        """The same frame by the paper's recipe, which keeps nothing: see `bench.latency.baseline`."""
        return passes * self.recomputed_pass_flops + self.recomputed_decode_flops


def model_cost(config: ModelConfig) -> ModelCost:
    """Counts a model. Builds it on the meta device: no memory, however large the model is."""
    tokenizer, transformer = config.tokenizer, config.dynamics.transformer
    num_parameters = _count_parameters(config)
    decoder_window = tokenizer.decoder.window
    parts = [
        PartCost(
            name=ENCODER,
            num_parameters=num_parameters[ENCODER],
            pass_flops=_encoder_flops(tokenizer),
            page_values=_page_values(tokenizer.encoder, tokenizer.num_tokens),
        ),
        PartCost(
            name=DYNAMICS,
            num_parameters=num_parameters[DYNAMICS],
            pass_flops=_hidden_flops(config) + _head_flops(config),
            page_values=_page_values(transformer, config.num_positions),
            num_pages=transformer.window - 1,
        ),
        PartCost(
            name=DECODER,
            num_parameters=num_parameters[DECODER],
            pass_flops=_decoder_flops(tokenizer),
            page_values=_page_values(tokenizer.decoder, tokenizer.num_tokens),
            num_pages=decoder_window - 1,
        ),
    ]
    lam = None
    if config.lam is not None:
        parts.append(PartCost(name=ACTION_CODES, num_parameters=num_parameters[ACTION_CODES], pass_flops=0))
        lam = PartCost(name=LAM, num_parameters=num_parameters[LAM], pass_flops=_lam_flops(config))
    return ModelCost(
        parts=tuple(parts),
        lam=lam,
        commit_flops=_hidden_flops(config),
        recomputed_pass_flops=_hidden_flops(config, num_frames=transformer.window) + _head_flops(config),
        recomputed_decode_flops=_decoder_flops(tokenizer, num_frames=decoder_window),
    )


def transformer_flops(config: TransformerConfig, num_positions: int, num_frames: int = 1) -> int:
    """An ST transformer on `T` frames of `P` positions, the temporal attention of each reading `W` frames.

    Per layer `T P (16 D H Dh + 4 D F)` for the projections of both attentions and the MLP, `4 T P P H Dh` for
    spatial and `4 T P W H Dh` for temporal attention.
    """
    attention = config.attention_width
    projections = 2 * 4 * 2 * config.width * attention  # q, k, v, out; twice
    mlp = 2 * 2 * config.width * config.mlp_width
    attended = 4 * (num_positions + config.window) * attention
    return config.num_layers * num_frames * num_positions * (projections + mlp + attended)


def _hidden_flops(config: ModelConfig, num_frames: int = 1) -> int:
    """The dynamics without its head: token inputs, previous tokens and the transformer."""
    dynamics, num_positions = config.dynamics, config.num_positions
    inputs = 2 * dynamics.merge**2 * dynamics.embedding_dim * dynamics.transformer.width
    num_inputs = 2 if dynamics.previous_token else 1
    blocks = transformer_flops(dynamics.transformer, num_positions, num_frames)
    return num_frames * num_positions * num_inputs * inputs + blocks


def _head_flops(config: ModelConfig) -> int:
    """Logits of one frame: back to token vectors, times the table `[V, E]`, and the copy logit."""
    dynamics, tokenizer = config.dynamics, config.tokenizer
    width, slots = dynamics.transformer.width, dynamics.merge**2
    vectors = 2 * config.num_positions * width * slots * dynamics.embedding_dim
    copy = 2 * config.num_positions * width * slots if dynamics.copy_logit else 0
    return vectors + copy + 2 * tokenizer.num_tokens * dynamics.embedding_dim * tokenizer.codebook_size


def _encoder_flops(config: TokenizerConfig) -> int:
    """Patches in, transformer, codes out, and their products with the codebook."""
    width, dim = config.encoder.width, config.codebook_dim
    per_token = 2 * (3 * config.patch**2 * width + width * dim + dim * config.codebook_size)
    return config.num_tokens * per_token + transformer_flops(config.encoder, config.num_tokens)


def _decoder_flops(config: TokenizerConfig, num_frames: int = 1) -> int:
    width = config.decoder.width
    per_token = 2 * (config.codebook_dim * width + width * 3 * config.decoder_patch**2)
    blocks = transformer_flops(config.decoder, config.num_tokens, num_frames)
    return num_frames * config.num_tokens * per_token + blocks


def _lam_flops(config: ModelConfig) -> int:
    """Encoder and decoder for one step of a clip: frames in, one action out and in again, pixels out."""
    if isinstance(config.lam, ConvLamConfig):
        return _conv_lam_flops(config.lam, config.tokenizer)
    return 0 if config.lam is None else _st_lam_flops(config.lam, config.tokenizer)


def _conv_lam_flops(config: ConvLamConfig, tokenizer: TokenizerConfig) -> int:
    """What torch counts of its convolutions and products, on the "meta" device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from genie_rt.runtime.model.conv_lam import ConvLam

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        lam = ConvLam(config, tokenizer).eval()
        inputs = lam.inputs_of(torch.empty(1, 2, tokenizer.height, tokenizer.width, 3, dtype=torch.uint8))
        lam.predict(inputs[:, :-1], lam.action_vectors(inputs))
    return int(counter.get_total_flops())


def _st_lam_flops(config: LamConfig, tokenizer: TokenizerConfig) -> int:
    patch = config.patch if config.inputs == "pixels" else tokenizer.patch
    pixels = 3 * patch**2
    inputs = pixels if config.inputs == "pixels" else tokenizer.codebook_dim
    positions = math.ceil(tokenizer.height / patch) * math.ceil(tokenizer.width / patch)
    encoder, decoder = config.encoder, config.decoder
    per_position = 2 * (inputs * encoder.width + inputs * decoder.width + decoder.width * pixels)
    per_frame = 2 * config.codebook_dim * (encoder.width + config.num_actions + decoder.width)
    blocks = transformer_flops(encoder, positions) + transformer_flops(decoder, positions)
    return positions * per_position + per_frame + blocks


def _page_values(config: TransformerConfig, num_positions: int) -> int:
    return 2 * config.num_layers * num_positions * config.attention_width


def _count_parameters(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, from the modules themselves."""
    import torch

    from genie_rt.runtime.model.lam import build_lam
    from genie_rt.runtime.model.world_model import parameter_shapes

    counts = dict.fromkeys((ENCODER, DECODER, DYNAMICS, ACTION_CODES), 0)
    for name, shape in parameter_shapes(config).items():
        counts[_part_of(name)] += math.prod(shape)
    if config.lam is not None:
        with torch.device("meta"):
            lam = build_lam(config)
        counts[LAM] = sum(parameter.numel() for parameter in lam.parameters())
    return counts


def _part_of(name: str) -> str:
    """Which part a weight of `WorldModel` belongs to."""
    if name == "lam_codebook":
        return ACTION_CODES
    if name.startswith("dynamics."):
        return DYNAMICS
    of_decoder = ("tokenizer.decoder", "tokenizer.code_out", "tokenizer.patch_out")
    return DECODER if name.startswith(of_decoder) else ENCODER
