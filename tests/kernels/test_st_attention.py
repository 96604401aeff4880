"""`st_attention` is an ST block up to its MLP, whether the past comes from pages or from the whole clip."""

from importlib import import_module
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor, make_transformer, randomise
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.mlp.reference import mlp
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.st_attention import AttentionWeights, reference, st_attention
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.model.transformer import Attention, STBlock, STTransformer

W, P, D, L = 4, 5, 16, 3
B, FRAMES = 2, 9
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_stack() -> STTransformer:
    """`L` blocks, in float64."""
    stack = STTransformer(make_transformer(num_layers=L, window=W))
    randomise(stack, 0)
    return stack.double().requires_grad_(False)


def weights_of(norm: Tensor, attention: Attention) -> AttentionWeights:
    return AttentionWeights(
        norm=norm, qkv=attention.qkv.weight, out=attention.out.weight, q_norm=attention.q_norm,
        k_norm=attention.k_norm, age_bias=getattr(attention, "age_bias", None),
    )  # fmt: skip


def weights(block: STBlock) -> tuple[AttentionWeights, AttentionWeights, Tensor]:
    spatial = weights_of(block.spatial_norm.weight, block.spatial)
    return spatial, weights_of(block.temporal_norm.weight, block.temporal), block.mlp_norm.weight


def make_pages(num_pages: int = B * FRAMES) -> Tensor:
    """Nothing was written to them yet."""
    return torch.full((num_pages, L, 2, P, 2, 6), torch.nan, dtype=torch.float64)


def table_of(newest: int, frames: int, write: int) -> Tensor:
    """Row `b` keeps frame `t` in page `B * t + b`; its `write` oldest query frames are written."""
    age = torch.arange(W - 1 + frames)
    page = B * (newest - age) + torch.arange(B)[:, None]
    absent = (age > newest) | (age < frames - write)
    return torch.where(absent, -1, page).to(torch.int32)


def evaluate(stack: STTransformer, x: Tensor, pages: Tensor, table: Tensor) -> Tensor:
    """All blocks by `st_attention`, each MLP's output being added by the next block."""
    x, delta = x.clone(), None
    for layer, block in enumerate(stack.blocks):
        x, y = st_attention(x, *weights(block), pages, table, layer, delta=delta)
        delta = mlp(y, block.up.weight, block.down.weight)
    return rms_norm(x + delta, stack.norm.weight)


def test_a_block_is_the_model_s_block() -> None:
    block, x = make_stack().blocks[0], make_tensor(B, 1, P, D)
    expected, _ = block(x, causal_ages(1, W), None)
    given = x.clone()
    out, y = st_attention(given, *weights(block), make_pages(), table_of(0, 1, 0), 0)
    assert out is given
    assert_close_norm(out + mlp(y, block.up.weight, block.down.weight), expected)
    assert_close_norm(y, rms_norm(out, block.mlp_norm.weight))


def test_a_rollout_through_pages_equals_the_whole_clip() -> None:
    stack, x = make_stack(), make_tensor(B, FRAMES, P, D)
    expected, _ = stack(x, causal_ages(FRAMES, W))
    pages = make_pages()
    for t in range(FRAMES):  # windows that are partly empty at first
        assert_close_norm(evaluate(stack, x[:, t : t + 1], pages, table_of(t, 1, 1)), expected[:, t : t + 1])
    assert torch.isfinite(pages).all()


def test_a_rollout_with_fused_commits_equals_the_whole_clip() -> None:
    stack, x = make_stack(), make_tensor(B, FRAMES, P, D)
    expected, _ = stack(x, causal_ages(FRAMES, W))
    pages = make_pages()
    for t in range(1, FRAMES):  # frame t - 1 is committed in the pass that computes frame t
        both = slice(t - 1, t + 1)
        assert_close_norm(evaluate(stack, x[:, both], pages, table_of(t, 2, 1)), expected[:, both])
        again = evaluate(stack, x[:, t : t + 1], pages, table_of(t, 1, 0))
        assert_close_norm(again, expected[:, t : t + 1])
    assert torch.isfinite(pages[:-B]).all() and torch.isnan(pages[-B:]).all()


def test_rows_with_pasts_of_different_lengths_are_rows_alone() -> None:
    block, x = make_stack().blocks[1], make_tensor(B, 1, P, D)
    pages = make_tensor(8, L, 2, P, 2, 6, seed=1)
    table = torch.tensor([[-1, 3, 0, 5], [-1, 6, -1, -1]], dtype=torch.int32)
    both = st_attention(x.clone(), *weights(block), pages, table, 1)
    for row in range(B):
        one = slice(row, row + 1)
        alone = st_attention(x[one].clone(), *weights(block), pages, table[one], 1)
        for ours, theirs in zip(alone, both, strict=True):
            assert_close_norm(ours, theirs[one])


def subset_arguments() -> tuple[STBlock, Tensor, dict[str, Any]]:
    """A block, a frame, and its past; pages and what is kept of spatial attention are full."""
    past = {
        "pages": make_tensor(8, L, 2, P, 2, 6, seed=1),
        "table": torch.tensor([[-1, 3, 0, 5], [7, 6, 2, -1]], dtype=torch.int32),
        "layer": 2,
        "kept": make_tensor(B, 2, P, 2, 6, seed=2),
    }
    return make_stack().blocks[2], make_tensor(B, 1, P, D), past


def test_all_positions_by_index_are_all_positions() -> None:
    block, x, past = subset_arguments()
    expected = st_attention(x.clone(), *weights(block), **past)
    order = torch.tensor([[4, 1, 0, 3, 2], [0, 1, 2, 4, 3]])
    row = torch.arange(B)[:, None]
    other = subset_arguments()[2] | {"index": order.to(torch.int32)}
    found = st_attention(x[row, 0, order][:, None].contiguous(), *weights(block), **other)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close_norm(ours, theirs[row, 0, order][:, None])
    for name in ("pages", "kept"):
        assert_close_norm(other[name], past[name])


def test_other_positions_keep_what_was_seen_of_them() -> None:
    block, x, past = subset_arguments()
    st_attention(x.clone(), *weights(block), **past)
    x[:, :, 3:] += 1  # these change, and only these are computed
    before = {name: past[name].clone() for name in ("pages", "kept")}
    index = torch.tensor([[3, 4]], dtype=torch.int32)
    st_attention(x[:, :, 3:].contiguous(), *weights(block), **past, index=index)
    assert torch.equal(past["kept"][:, :, :3], before["kept"][:, :, :3])
    assert (past["kept"][:, :, 3:] != before["kept"][:, :, 3:]).all()
    same = past["pages"] == before["pages"]
    assert not same[7, 2, :, 3:].any()
    same[7, 2, :, 3:] = True
    assert same.all()


@pytest.mark.parametrize("frames", [1, 2])
def test_operators_in_sequence_are_the_reference(frames: int) -> None:
    block = make_stack().blocks[0]
    x, delta = make_tensor(B, frames, P, D), make_tensor(B, frames, P, D, seed=5)
    given = []
    for _ in range(2):
        kept = torch.empty(B * frames, 2, P, 2, 6, dtype=torch.float64)
        pages = make_tensor(B * FRAMES, L, 2, P, 2, 6, seed=1)
        given.append(
            {"pages": pages, "table": table_of(5, frames, 1), "layer": 1, "kept": kept, "delta": delta}
        )
    ours = st_attention(x.clone(), *weights(block), **given[0])
    theirs = reference.st_attention(x, *weights(block), **given[1])
    for found, expected in zip(ours, theirs, strict=True):
        assert_close_norm(found, expected)
    for name in ("pages", "kept"):
        assert_close_norm(given[0][name], given[1][name])


@pytest.mark.parametrize("frames", [1, 2])
def test_its_kernels_are_the_reference(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the kernels need Triton")
    if not torch.cuda.is_available():  # there the operators take them; here they are interpreted
        for name in ("norm_qkv", "spatial_attention", "temporal_attention"):
            kernel = import_module(f"genie_rt.kernels.{name}.kernel")
            monkeypatch.setattr(f"genie_rt.kernels.st_attention.{name}", getattr(kernel, name))
    block = STTransformer(make_transformer(num_layers=1, window=W, head_width=32)).blocks[0]
    randomise(block, 0)
    block = block.requires_grad_(False).to(DEVICE)
    x, pages = make_tensor(B, frames, P, D).float(), make_tensor(B * FRAMES, 1, 2, P, 2, 32, seed=1).float()
    x, pages, table = x.to(DEVICE), pages.to(DEVICE), table_of(5, frames, 1).to(DEVICE)
    other = pages.double()
    found = st_attention(x.clone(), *weights(block), pages, table, 0)
    expected = reference.st_attention(x.double(), *weights(block.double()), other, table, 0)
    for ours, theirs in zip((*found, pages), (*expected, other), strict=True):
        assert_close_norm(ours, theirs)


def test_compilers_see_through_it() -> None:
    stack, x = make_stack(), make_tensor(B, 2, P, D)
    block, pages, other = stack.blocks[0], make_pages(), make_pages()
    table = table_of(1, 2, 1)
    expected = st_attention(x.clone(), *weights(block), pages, table, 0)
    compiled = torch.compile(st_attention, fullgraph=True, backend="aot_eager")
    given = x.clone()
    found = compiled(given, *weights(block), other, table, 0)
    for ours, theirs in zip((*found, given), (*expected, expected[0]), strict=True):
        assert_close_norm(ours, theirs)
    assert torch.equal(other.nan_to_num(7), pages.nan_to_num(7))


def test_wrong_arguments_are_refused() -> None:
    spatial, temporal, mlp_norm = weights(make_stack().blocks[0])
    x, pages, table = make_tensor(B, 2, P, D), make_pages(), table_of(1, 2, 0)
    with pytest.raises(InputError, match="age_bias"):
        st_attention(x, temporal, spatial, mlp_norm, pages, table, 0)
    with pytest.raises(InputError, match="contiguous"):
        st_attention(x.transpose(0, 1), spatial, temporal, mlp_norm, pages, table, 0)
    with pytest.raises(InputError, match="one frame"):
        st_attention(
            x, spatial, temporal, mlp_norm, pages, table, 0,
            index=torch.zeros(1, P, dtype=torch.int32), kept=torch.zeros(4, 2, P, 2, 6),
        )  # fmt: skip
