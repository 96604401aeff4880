"""The nearest code is the one that a plain search finds, whatever the lengths of the vectors."""

import math

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor

from genie_rt.kernels.vq_lookup.reference import (
    first_of_equal_rows,
    lookup_code,
    nearest_code,
    nearest_code_euclidean,
    vq_lookup,
)


def search(x: Tensor, codebook: Tensor) -> list[int]:
    """Cosines one by one; a later code has to be strictly closer."""
    found = []
    for vector in x.reshape(-1, x.shape[-1]).tolist():
        best, best_cosine = 0, -math.inf
        for index, code in enumerate(codebook.tolist()):
            cosine = sum(a * b for a, b in zip(vector, code, strict=True)) / (
                math.hypot(*vector) * math.hypot(*code)
            )
            if cosine > best_cosine:
                best, best_cosine = index, cosine
        found.append(best)
    return found


@pytest.mark.parametrize(("shape", "codes"), [((2, 3, 5), 40), ((1, 1), 1), ((7, 16), 33)])
def test_nearest_code_is_that_of_a_plain_search(shape: tuple[int, ...], codes: int) -> None:
    x, codebook = make_tensor(*shape), make_tensor(codes, shape[-1], seed=1)
    codebook *= 10 ** make_tensor(codes, 1, seed=2)  # rows of very different lengths
    found = nearest_code(x, codebook)
    assert found.shape == shape[:-1] and found.dtype == torch.int64
    assert found.flatten().tolist() == search(x, codebook)


def test_length_of_vectors_does_not_matter() -> None:
    x, codebook = make_tensor(50, 8), make_tensor(20, 8, seed=1)
    assert torch.equal(nearest_code(x * 1e-6, codebook), nearest_code(x * 1e6, codebook))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_lowest_index_wins_a_tie(dtype: torch.dtype) -> None:
    axes = torch.eye(4)
    codebook = torch.cat([-axes, axes, 3 * axes, axes]).to(dtype)
    assert nearest_code(axes.to(dtype), codebook).tolist() == [4, 5, 6, 7]
    assert nearest_code((axes[:1] + axes[1:2]).to(dtype), codebook).tolist() == [4]


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [4, 7, 16])
def test_of_equal_rows_the_lowest_wins_whatever_rounds_the_products(
    width: int, dtype: torch.dtype, cosine: bool
) -> None:
    codebook = make_tensor(33, width, dtype=dtype)
    for count in (1, 3, 20):  # a BLAS rounds by where a column stands, and by the number of rows
        x = make_tensor(count, width, dtype=dtype, seed=1)
        expected = vq_lookup(x, codebook, cosine)
        for copies in (2, 5):
            assert torch.equal(vq_lookup(x, codebook.repeat(copies, 1), cosine), expected)


def test_of_equal_rows_the_lowest_is_found() -> None:
    rows = torch.tensor([[1.0, 2], [0, 0], [1, 2], [1, -2], [-0.0, 0], [1, 2]])
    assert first_of_equal_rows(rows).tolist() == [0, 1, 0, 3, 1, 0]


def test_a_vector_of_nothing_gets_the_first_code() -> None:
    assert nearest_code(torch.zeros(2, 4), make_tensor(5, 4, dtype=torch.float32)).tolist() == [0, 0]


def test_narrow_inputs_are_compared_in_fp32() -> None:
    x, codebook = make_tensor(64, 16, dtype=torch.bfloat16), make_tensor(512, 16, dtype=torch.bfloat16)
    assert torch.equal(nearest_code(x, codebook), nearest_code(x.double(), codebook.double()))


def test_lookup_gives_unit_vectors_that_find_themselves() -> None:
    codebook = 5 * make_tensor(30, 6)
    indices = torch.arange(30).view(5, 6)
    vectors = lookup_code(indices, codebook)
    assert_close_norm(vectors, (codebook / codebook.norm(dim=-1, keepdim=True)).view(5, 6, 6))
    assert torch.equal(nearest_code(vectors, codebook), indices)


@pytest.mark.parametrize(("rows", "width", "codes"), [(20, 5, 40), (1, 1, 1), (7, 16, 33)])
def test_nearest_euclidean_code_is_that_of_a_plain_search(rows: int, width: int, codes: int) -> None:
    x, codebook = make_tensor(rows, width), make_tensor(codes, width, seed=1)
    codebook *= 10 ** make_tensor(codes, 1, seed=2)
    found = nearest_code_euclidean(x, codebook)
    assert found.dtype == torch.int64
    assert torch.equal(found, (x[:, None] - codebook).square().sum(-1).argmin(1))


def test_the_lowest_index_wins_a_euclidean_tie_and_lengths_count() -> None:
    axes = torch.eye(4)
    codebook = torch.cat([-axes, 2 * axes, axes, axes])
    assert nearest_code_euclidean(axes, codebook).tolist() == [8, 9, 10, 11]
    assert vq_lookup(axes, codebook, False).tolist() == [8, 9, 10, 11]
    assert vq_lookup(axes, codebook, True).tolist() == [4, 5, 6, 7]
