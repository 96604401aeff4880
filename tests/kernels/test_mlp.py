"""The MLP equals its formula, with the tanh form of GELU and not the exact one."""

import math

import torch
from comparator import assert_close_norm
from makers import make_tensor

from genie_rt.kernels.mlp.reference import mlp, mlp_gelu, mlp_gelu_fp8, mlp_gelu_int8
from genie_rt.kernels.quantise.reference import quantise_rows, quantise_rows_int8


def test_mlp_is_its_formula() -> None:
    x, up, down = make_tensor(2, 3, 5), make_tensor(7, 5, seed=1), make_tensor(5, 7, seed=2)
    h = torch.einsum("btd,fd->btf", x, up)
    h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    assert_close_norm(mlp(x, up, down), torch.einsum("btf,df->btd", h, down))


def test_the_exact_gelu_is_another_function() -> None:
    x, up, down = make_tensor(2, 3, 5), make_tensor(7, 5, seed=1), make_tensor(5, 7, seed=2)
    exact = torch.nn.functional.gelu(x @ up.T) @ down.T
    assert not torch.allclose(mlp(x, up, down), exact, rtol=1e-6)


def test_bf16_is_close() -> None:
    x, up, down = (make_tensor(*shape, dtype=torch.bfloat16) for shape in ((9, 64), (128, 64), (64, 128)))
    assert_close_norm(mlp(x, up, down), mlp(x.double(), up.double(), down.double()))


def test_the_epilogues_are_the_gelu_in_the_middle() -> None:
    x, up, down = make_tensor(3, 5), make_tensor(7, 5, seed=1), make_tensor(5, 7, seed=2)
    h = x @ up.T
    assert_close_norm(mlp_gelu(h) @ down.T, mlp(x, up, down))
    for quantised, quantise in ((mlp_gelu_fp8, quantise_rows), (mlp_gelu_int8, quantise_rows_int8)):
        q, scale = quantised(h)
        expected, expected_scale = quantise(mlp_gelu(h))
        assert torch.equal(q.float(), expected.float()) and torch.equal(scale, expected_scale)
    assert mlp_gelu(h.bfloat16()).dtype == torch.bfloat16
