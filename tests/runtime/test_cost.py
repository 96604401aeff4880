"""Counted costs equal what PyTorch counts when the real modules run, and the published sizes."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from genie_rt.kernels.patchify.reference import patchify
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import nearest_code
from genie_rt.runtime.config import (
    DynamicsConfig,
    LamConfig,
    ModelConfig,
    TokenizerConfig,
    TransformerConfig,
)
from genie_rt.runtime.cost import ACTION_CODES, DECODER, DYNAMICS, ENCODER, model_cost, transformer_flops
from genie_rt.runtime.model.st_lam import STLam
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.pages import PagePool
from genie_rt.runtime.presets import PRESETS, preset


def transformer(
    layers: int, width: int, heads: int, head_width: int, mlp: int, window: int
) -> TransformerConfig:
    return TransformerConfig(
        num_layers=layers, width=width, num_heads=heads, head_width=head_width, mlp_width=mlp, window=window
    )


PLAIN = ModelConfig(
    tokenizer=TokenizerConfig(
        height=12, width=20, patch=4, decoder_patch=4, codebook_size=24, codebook_dim=5,
        encoder=transformer(2, 16, 2, 8, 40, 3), decoder=transformer(3, 24, 3, 8, 56, 4),
    ),
    dynamics=DynamicsConfig(
        transformer=transformer(2, 32, 3, 16, 48, 5), num_actions=3, embedding_dim=7, tie_codebook=False,
        previous_token=False, copy_logit=False,
    ),
)  # fmt: skip
LAM_SIDE = transformer(1, 12, 2, 6, 20, 3)
FULL = ModelConfig(
    tokenizer=dataclasses.replace(PLAIN.tokenizer, height=15, width=23, decoder_patch=8),
    dynamics=DynamicsConfig(
        transformer=transformer(3, 24, 2, 8, 32, 4), num_actions=3, merge=2, embedding_dim=6
    ),
    lam=LamConfig(
        patch=8, num_actions=3, codebook_dim=4, encoder=LAM_SIDE, decoder=transformer(2, 20, 1, 8, 24, 2)
    ),
)
TOKEN_LAM = dataclasses.replace(FULL, lam=dataclasses.replace(FULL.lam, inputs="tokens"))
SMALL = pytest.mark.parametrize("config", [PLAIN, FULL, TOKEN_LAM], ids=["plain", "full", "token-lam"])


def count_flops() -> FlopCounterMode:
    """PyTorch's counter, taught the one operator of the CPU that it does not know."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(q, k, v)

    return FlopCounterMode(display=False, custom_mapping={fused: attention})


def context(config: TransformerConfig, num_positions: int) -> tuple[Tensor, list[KeysValues]]:
    """Ages and keys and values of a full window before one new frame."""
    past = config.window - 1
    shape = (1, past, num_positions, config.num_heads, config.head_width)
    pair = (torch.randn(shape), torch.randn(shape))
    return torch.zeros(1, 1, past + 1, dtype=torch.int64), [pair] * config.num_layers


def tokens_of(config: ModelConfig, num_frames: int = 1) -> Tensor:
    return torch.zeros(1, num_frames, config.tokenizer.num_tokens, dtype=torch.int64)


@SMALL
def test_a_pass_and_a_commit_of_the_dynamics(config: ModelConfig) -> None:
    model, cost = WorldModel(config), model_cost(config)
    tokens, actions = tokens_of(config), torch.zeros(1, 1, dtype=torch.int64)
    ages, history = context(config.dynamics.transformer, config.num_positions)
    table = model.token_table()
    with count_flops() as commit:
        hidden, _ = model.dynamics(tokens, tokens, actions, table, ages, history)
    with count_flops() as head:
        model.dynamics.logits(hidden, tokens, table)
    assert commit.get_total_flops() == cost.commit_flops
    assert commit.get_total_flops() + head.get_total_flops() == cost.part(DYNAMICS).pass_flops


@SMALL
def test_both_sides_of_the_tokenizer(config: ModelConfig) -> None:
    model, cost, sizes = WorldModel(config), model_cost(config), config.tokenizer
    frame = torch.zeros(1, 1, sizes.height, sizes.width, 3, dtype=torch.uint8)
    with count_flops() as encode:
        model.tokenizer.encode(frame, *context(sizes.encoder, sizes.num_tokens))
    with count_flops() as decode:
        model.tokenizer.decode(tokens_of(config), *context(sizes.decoder, sizes.num_tokens))
    assert encode.get_total_flops() == cost.part(ENCODER).pass_flops
    assert decode.get_total_flops() == cost.part(DECODER).pass_flops


@SMALL
def test_a_frame_of_the_papers_recipe(config: ModelConfig) -> None:
    model, cost, window = WorldModel(config), model_cost(config), config.dynamics.transformer.window
    shown, table = config.tokenizer.decoder.window, model.token_table()
    tokens = tokens_of(config, window)
    actions = torch.zeros(1, window, dtype=torch.int64)
    with count_flops() as counter:
        for _ in range(3):
            hidden, _ = model.dynamics(tokens, tokens, actions, table, causal_ages(window, window))
            model.dynamics.logits(hidden[:, -1:], tokens[:, -1:], table)
        model.tokenizer.decode(tokens_of(config, shown), causal_ages(shown, shown))
    assert counter.get_total_flops() == cost.recomputed_frame_flops(passes=3)


@pytest.mark.parametrize("config", [FULL, TOKEN_LAM], ids=["pixels", "tokens"])
def test_the_latent_action_model(config: ModelConfig) -> None:
    cost, sizes = model_cost(config), config.tokenizer
    assert config.lam is not None and cost.lam is not None
    lam = STLam(config.lam, sizes)
    frame = torch.zeros(1, 1, sizes.height, sizes.width, 3, dtype=torch.uint8)
    codes = torch.zeros(1, 1, sizes.num_tokens, sizes.codebook_dim)
    inputs = patchify(frame, lam.patch, torch.float32) if config.lam.inputs == "pixels" else codes
    num_positions = inputs.shape[2]
    with count_flops() as counter:  # `actions` and `predict`, but with a full window behind them
        x, _ = lam.encoder(lam.encoder_in(inputs), *context(config.lam.encoder, num_positions))
        vector = lam.action_in(x.mean(2))
        nearest_code(vector, lam.codebook)
        x = lam.decoder_in(inputs) + lam.action_out(vector)[:, :, None]
        x, _ = lam.decoder(x, *context(config.lam.decoder, num_positions))
        lam.pixels_out(x)
    assert counter.get_total_flops() == cost.lam.pass_flops
    assert cost.lam.num_parameters == sum(parameter.numel() for parameter in lam.parameters())


def test_a_transformer_by_hand() -> None:
    config = transformer(3, 5, 2, 4, 6, 7)  # H Dh = 8
    qkv_and_out, mlp = 2 * 5 * 24 + 2 * 8 * 5, 4 * 5 * 6
    spatial, temporal = 4 * 11 * 8, 4 * 7 * 8
    assert transformer_flops(config, 11) == 3 * 11 * (2 * qkv_and_out + mlp + spatial + temporal)
    assert transformer_flops(config, 11, num_frames=2) == 2 * transformer_flops(config, 11)


@SMALL
def test_every_weight_of_a_bundle_counts_once(config: ModelConfig) -> None:
    model, cost = WorldModel(config), model_cost(config)
    assert cost.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.part(DYNAMICS).num_parameters == sum(p.numel() for p in model.dynamics.parameters())
    assert cost.weight_bytes("bf16") * 2 == cost.weight_bytes("fp32") == cost.num_parameters * 4
    assert (config.lam is None) == (cost.lam is None)
    assert (config.lam is not None) == (ACTION_CODES in [part.name for part in cost.parts])


@SMALL
@pytest.mark.parametrize(("dtype", "torch_dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_pages_are_those_of_the_pool(config: ModelConfig, dtype: str, torch_dtype: torch.dtype) -> None:
    cost, total = model_cost(config), 0
    sides = {
        ENCODER: (config.tokenizer.encoder, config.tokenizer.num_tokens, False),
        DYNAMICS: (config.dynamics.transformer, config.num_positions, True),
        DECODER: (config.tokenizer.decoder, config.tokenizer.num_tokens, True),
    }
    for name, (side, num_positions, is_kept) in sides.items():
        pool = PagePool(side, num_positions, torch_dtype, torch.device("meta"))
        assert cost.part(name).page_bytes(dtype) == pool.page_bytes
        assert cost.part(name).num_pages == (side.window - 1 if is_kept else 0)
        total += pool.page_bytes * cost.part(name).num_pages
    assert cost.cache_bytes(dtype) == total


def test_a_frame_is_its_passes_and_commit_and_decoder() -> None:
    cost = model_cost(PLAIN)
    one, three = cost.frame_flops(1), cost.frame_flops(3)
    assert three - one == 2 * cost.part(DYNAMICS).pass_flops
    assert one == cost.part(DYNAMICS).pass_flops + cost.commit_flops + cost.part(DECODER).pass_flops


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("coinrun", 50e6, 0.02),
        ("genie-500m", 0.53e9, 0.02),
        ("genie-2b", 2.24e9, 0.02),
        ("genie-10b", 10.1e9, 0.02),
    ],
)
def test_dynamics_have_the_published_sizes(name: str, published: float, within: float) -> None:
    assert model_cost(preset(name)).part(DYNAMICS).num_parameters == pytest.approx(published, rel=within)


def test_the_largest_preset_takes_no_memory() -> None:
    resource = pytest.importorskip("resource", reason="the operating system does not say what a process took")
    assert "genie-10b" in PRESETS
    model_cost(preset("demo"))  # what the first use imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = model_cost(preset("genie-10b"))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert cost.weight_bytes("fp32") > 40e9
    assert grown_kib < 200_000
