"""Pages in one tensor, in 16 bits or 8: what is written comes back, from a file and after growth as well."""

from typing import Any

import pytest
import safetensors.torch
import torch
from makers import make_config, make_tensor
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.temporal_attention.reference import indexable, to_page
from genie_rt.runtime.backends import row_io
from genie_rt.runtime.backends.cuda.pages import PageMemory
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.frame_reuse import Carried
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.pages import Pages

FP8 = torch.float8_e4m3fn
DTYPES = [torch.float64, torch.bfloat16, FP8]
CPU = torch.device("cpu")
CONFIG = make_config(window=4, decoder_window=3)


def make_pool(dtype: torch.dtype, num_pages: int = 6, *, decoder: bool = False) -> PageMemory:
    """Every page full of numbers, others in each."""
    transformer = CONFIG.tokenizer.decoder if decoder else CONFIG.dynamics.transformer
    pool = PageMemory(transformer, CONFIG.num_positions, dtype, CPU)
    pool.reserve(num_pages)
    pool.memory.copy_(to_page(make_tensor(num_pages, *pool.shape, seed=int(decoder)), dtype))
    return pool


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """Bit for bit, in 8 bits as well."""
    assert found.dtype == expected.dtype
    assert torch.equal(indexable(found), indexable(expected))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float64),
        ("fp8", FP8), ("int8", torch.bfloat16),
    ],
)  # fmt: skip
def test_pages_have_the_numbers_of_the_activations_or_8_bits(name: str, dtype: torch.dtype) -> None:
    assert Precision.of(name).pages == dtype


def test_pages_in_8_bits_take_half_of_those_in_16() -> None:
    narrow, wide = make_pool(FP8), make_pool(torch.bfloat16)
    assert 2 * narrow.page_bytes == wide.page_bytes
    assert narrow.memory.nbytes == narrow.num_pages * narrow.page_bytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_pages_that_are_scattered_are_gathered_again_rounded(dtype: torch.dtype) -> None:
    pool = make_pool(dtype)
    before = pool.memory.clone()
    values = make_tensor(2, *pool.shape, seed=7).transpose(0, 1).contiguous().transpose(0, 1)
    values[0, 0, 0, 0, 0, :3] = torch.tensor([1e4, -1e4, 1e-30])
    index = torch.tensor([4, 1])
    pool.scatter(index, values)
    assert_equal(pool.gather(index), to_page(values, dtype))
    assert pool.gather(index).double().isfinite().all()
    others = torch.tensor([0, 2, 3, 5])
    assert_equal(pool.gather(others), before.view(indexable(before).dtype)[others].view(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_pages_stay_as_they_are_when_the_memory_moves(dtype: torch.dtype) -> None:
    pool = make_pool(dtype)
    held = [pool.take() for _ in range(6)]
    before = pool.memory.clone()
    more = pool.take()
    assert pool.num_pages > 6 and more.index >= 6
    for page in held:
        assert_equal(pool.view(page), before[page.index])


def make_row(dynamics: PageMemory, decoder: PageMemory, *, spatial: int) -> Row:
    def take(pool: PageMemory, count: int) -> Pages:
        return tuple(pool.take() for _ in range(count))

    change = make_tensor(CONFIG.num_positions, dtype=torch.float32)
    return Row(
        seed=3, frame_index=5, tokens=torch.arange(CONFIG.tokenizer.num_tokens), action=1, pending=True,
        dynamics=take(dynamics, 3), decoder=take(decoder, 2),
        carried=Carried(spatial=dynamics.take(), change=change) if spatial else None,
    )  # fmt: skip


def spatial_of(row: Row) -> Pages:
    return () if row.carried is None else (row.carried.spatial,)


def load(tensors: dict[str, Tensor], dtype: torch.dtype) -> tuple[Row, tuple[PageMemory, PageMemory]]:
    pools = make_pool(dtype, 2), make_pool(dtype, 2, decoder=True)
    for pool in pools:
        indexable(pool.memory).zero_()
    options: dict[str, Any] = {"seed": 3, "frame_index": 5, "action": 1, "pending": True}
    return row_io.load(tensors, CONFIG, *pools, **options), pools


@pytest.mark.parametrize("spatial", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_comes_back_bit_for_bit(dtype: torch.dtype, spatial: int) -> None:
    pools = make_pool(dtype), make_pool(dtype, decoder=True)
    row = make_row(*pools, spatial=spatial)
    tensors = row_io.save(row, CONFIG, *pools)
    again, other_pools = load(safetensors.torch.load(safetensors.torch.save(tensors)), dtype)
    assert torch.equal(again.tokens, row.tokens)
    if row.carried is not None and again.carried is not None:
        assert torch.equal(again.carried.change, row.carried.change)
    for pages, others, pool, other in (
        (row.dynamics, again.dynamics, pools[0], other_pools[0]),
        (spatial_of(row), spatial_of(again), pools[0], other_pools[0]),
        (row.decoder, again.decoder, pools[1], other_pools[1]),
    ):
        assert len(pages) == len(others)
        for page, twin in zip(pages, others, strict=True):
            assert_equal(other.view(twin), pool.view(page))
    assert len(spatial_of(again)) == spatial


def tensors_of(dtype: torch.dtype) -> dict[str, Tensor]:
    pools = make_pool(dtype), make_pool(dtype, decoder=True)
    return row_io.save(make_row(*pools, spatial=1), CONFIG, *pools)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("name", ["dynamics", "decoder", "spatial"])
def test_a_page_in_8_bits_with_nan_is_refused(name: str, sign: int) -> None:
    tensors = tensors_of(FP8)
    indexable(tensors[name]).view(-1)[-1] = 0x7E | sign  # 448 will do
    load(tensors, FP8)
    indexable(tensors[name]).view(-1)[-1] = 0x7F | sign
    with pytest.raises(InputError, match=f"{name}: expected finite numbers"):
        load(tensors, FP8)


@pytest.mark.parametrize(("dtype", "other"), [(FP8, torch.bfloat16), (torch.bfloat16, FP8)])
def test_pages_of_another_dtype_are_refused(dtype: torch.dtype, other: torch.dtype) -> None:
    tensors = tensors_of(dtype)
    kept = "float8_e4m3fn" if other == FP8 else "float32 or bfloat16"
    with pytest.raises(InputError, match=rf"dynamics: expected \[.*\] {kept}, found \["):
        load(tensors, other)
