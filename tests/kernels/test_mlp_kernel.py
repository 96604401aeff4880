"""GELU and its quantisation equal their reference everywhere on the axis, and stay inside their memory."""

import math
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from fp8_rounding import assert_quantised
from guards import guarded, guards
from int8_rounding import assert_quantised_int8
from torch import Tensor

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.launch import Config
from genie_rt.kernels.mlp import mlp_gelu as operator
from genie_rt.kernels.mlp import mlp_gelu_fp8 as operator_fp8
from genie_rt.kernels.mlp import mlp_gelu_int8 as operator_int8
from genie_rt.kernels.mlp import reference
from genie_rt.kernels.mlp.cases import cases
from genie_rt.kernels.mlp.cases import make_inputs as make_inputs_on
from genie_rt.kernels.mlp.kernel import (
    AUTOTUNE_SPACE,
    AUTOTUNE_SPACE_QUANTISED,
    mlp_gelu,
    mlp_gelu_fp8,
    mlp_gelu_int8,
)
from genie_rt.kernels.quantise import kernel as quantise_kernel

pytestmark = [  # far out, numbers go through infinity
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong
HAS_FP8 = not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 9)
needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9")

SHAPES = [(5, 768), (37, 37), (1, 1), (2, 2560)]


def make_inputs(num_rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return make_inputs_on(num_rows, width, dtype, torch.device(DEVICE))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_are_their_reference(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    h = make_inputs(*shape, dtype)
    expected = reference.mlp_gelu(h.double())
    out = mlp_gelu(h)
    assert out.dtype == dtype
    assert_close_norm(out, expected)
    assert_quantised_int8(*mlp_gelu_int8(h), expected)
    if HAS_FP8:
        assert_quantised(*mlp_gelu_fp8(h), expected)


def formula(h: float) -> float:
    """In fp64, as `h / (1 + exp(-2 z))`, which keeps its digits where tanh nears -1."""
    exponent = -2 * math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)
    return h / (1 + math.exp(exponent)) if exponent < 700 else 0.0


def test_every_number_has_its_digits() -> None:
    h = torch.cat([torch.linspace(-9, 9, 4001), torch.logspace(-30, 0, 50), -torch.logspace(-30, 0, 50)])
    out = mlp_gelu(h.to(DEVICE)[None])[0].cpu().double()
    expected = torch.tensor([formula(value) for value in h.double().tolist()], dtype=torch.float64)
    # exp(-2 z) takes over the rounding of its argument, which is at most 76 here: 76 * 2**-23 < 1e-5
    error = (out - expected).abs() - 1e-5 * expected.abs()
    assert error.max() <= 1e-37  # where numbers have fewer digits, or none


def test_far_out_it_is_the_number_or_nothing() -> None:
    far = [15.0, 60.0, 1e5, 1e10, 1e13, 1e20, 3e38, math.inf]  # cubes overflow from 7e12 on
    h = torch.tensor([far + [-value for value in far[:-1]]], device=DEVICE)
    out = mlp_gelu(h)[0].tolist()
    assert out[: len(far)] == h[0, : len(far)].tolist()
    assert all(value == 0 for value in out[len(far) :])
    odd = torch.tensor([[-math.inf, math.nan, 0.0, -0.0]], device=DEVICE)
    found, expected = mlp_gelu(odd), reference.mlp_gelu(odd)
    assert torch.equal(found.isnan(), expected.isnan())  # as the library does, so that a fault shows
    assert found[0, 2:].tolist() == [0, 0]


def test_it_may_write_over_its_input() -> None:
    h = make_inputs(5, 33, torch.float32)
    expected = reference.mlp_gelu(h.double())
    assert mlp_gelu(h, out=h) is h
    assert_close_norm(h, expected)


@pytest.mark.parametrize("shape", [(9, 37), (3, 768)])
def test_nothing_outside_is_read_or_written(shape: tuple[int, int]) -> None:
    h, h_whole = guarded(make_inputs(*shape, torch.float16))
    before, expected = h.clone(), reference.mlp_gelu(h.double())
    out, out_whole = guards(*shape, dtype=torch.float16, device=DEVICE)
    assert mlp_gelu(h, out=out) is out
    assert_close_norm(out, expected)
    assert out_whole()
    levels, levels_whole = guards(*shape, dtype=torch.int8, device=DEVICE)
    scale, scale_whole = guards(shape[0], 1, dtype=torch.float32, device=DEVICE)
    assert mlp_gelu_int8(h, out=(levels, scale)) == (levels, scale)
    assert_quantised_int8(levels, scale, expected)
    assert levels_whole() and scale_whole()
    if HAS_FP8:
        q, q_whole = guards(*shape, dtype=torch.float8_e4m3fn, device=DEVICE)
        scale, scale_whole = guards(shape[0], 1, dtype=torch.float32, device=DEVICE)
        assert mlp_gelu_fp8(h, out=(q, scale)) == (q, scale)
        assert_quantised(q, scale, expected)
        assert q_whole() and scale_whole()
    assert h_whole() and torch.equal(h, before)


def test_memory_that_is_not_aligned_will_do() -> None:
    h, _ = guarded(make_inputs(3, 64, torch.float16), room=6)
    assert_close_norm(mlp_gelu(h), reference.mlp_gelu(h.double()))


def test_rows_of_nothing_have_a_scale() -> None:
    for launch in (mlp_gelu_fp8, mlp_gelu_int8) if HAS_FP8 else (mlp_gelu_int8,):
        q, scale = launch(torch.zeros(2, 40, device=DEVICE))
        assert not q.float().any() and (scale > 0).all() and torch.isfinite(1 / scale).all()


def test_nan_and_infinity_show_in_the_scale_of_integers() -> None:
    h = make_inputs(4, 40, torch.float32)
    h[1, 5], h[2, 7] = torch.nan, torch.inf
    assert mlp_gelu_int8(h)[1].isfinite().flatten().tolist() == [True, False, False, True]


@pytest.mark.parametrize("config", AUTOTUNE_SPACE, ids=str)
def test_every_configuration_is_right(config: Config) -> None:
    h = make_inputs(11, 500, torch.float16)
    assert_close_norm(mlp_gelu(h, config=config), reference.mlp_gelu(h.double()))


@pytest.mark.parametrize("config", AUTOTUNE_SPACE_QUANTISED, ids=str)
def test_every_configuration_to_8_bits_is_right(config: Config) -> None:
    h = make_inputs(11, 500, torch.float16)
    expected = reference.mlp_gelu(h.double())
    assert_quantised_int8(*mlp_gelu_int8(h, config=config), expected)
    if HAS_FP8:
        assert_quantised(*mlp_gelu_fp8(h, config=config), expected)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"h": torch.zeros(3, 8, dtype=torch.float64)}, UnsupportedError),
        ({"h": torch.zeros(2, 3, 8)}, InputError),
        ({"h": torch.zeros(8, 3).T}, InputError),
        ({"h": torch.zeros(0, 8)}, UnsupportedError),
        ({"out": torch.zeros(3, 8, dtype=torch.float16)}, UnsupportedError),
        ({"out": torch.zeros(3, 7)}, InputError),
        ({"out": torch.zeros(8, 3).T}, InputError),
        ({"out": torch.zeros(3, 8, device="meta")}, InputError),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_refused(changes: dict[str, Any], error: type[GenieError]) -> None:
    given = {"h": torch.ones(3, 8)} | changes
    given = {name: x if x.device.type == "meta" else x.to(DEVICE) for name, x in given.items()}
    before = given["h"].clone()
    with pytest.raises(error, match="expected"):
        mlp_gelu(**given)
    if "out" not in changes:
        for launch in (mlp_gelu_fp8, mlp_gelu_int8):
            with pytest.raises(error, match="expected"):
                launch(**given)
    assert torch.equal(given["h"], before)


def test_outputs_that_overlap_are_refused() -> None:
    memory = torch.ones(40, device=DEVICE)
    h, shifted = memory[:24].view(3, 8), memory[8:32].view(3, 8)
    with pytest.raises(InputError, match="overlaps"):
        mlp_gelu(h, out=shifted)
    with pytest.raises(InputError, match="overlaps"):
        mlp_gelu_fp8(
            h, out=(torch.zeros(3, 8, dtype=torch.float8_e4m3fn, device=DEVICE), memory[:3].view(3, 1))
        )
    with pytest.raises(InputError, match="overlaps"):
        mlp_gelu_int8(h, out=(torch.zeros(3, 8, dtype=torch.int8, device=DEVICE), memory[:3].view(3, 1)))
    with pytest.raises(UnsupportedError, match="expected int8"):
        mlp_gelu_int8(h, out=(torch.zeros_like(h), torch.zeros(3, 1, device=DEVICE)))
    assert memory.eq(1).all()


def test_limits_of_8_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="width"):
        mlp_gelu_fp8(torch.ones(1, 16385, device=DEVICE))
    with pytest.raises(UnsupportedError, match="width"):
        mlp_gelu_int8(torch.ones(1, 16385, device=DEVICE))
    monkeypatch.setattr(quantise_kernel, "capability_of", lambda device: 80)
    with pytest.raises(UnsupportedError, match=r"8\.0"):
        mlp_gelu_fp8(torch.ones(1, 16, device=DEVICE))
    assert mlp_gelu_int8(torch.ones(1, 16, device=DEVICE))[0].eq(127).all()


def test_operators_are_sound() -> None:
    h = make_inputs(3, 16, torch.float32).cpu()
    torch.library.opcheck(operator, (h,))
    torch.library.opcheck(operator_fp8, (h,), test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(operator_int8, (h,), test_utils=("test_schema", "test_faketensor"))


def test_compilation_sees_through_the_operators() -> None:
    def epilogue(h: Tensor) -> tuple[Tensor, Tensor]:
        quantised, scale = operator_fp8(h)
        return 2 * operator(h), quantised.float() * scale

    if not HAS_FP8:
        pytest.skip("needs compute capability 8.9")
    h = make_inputs(3, 16, torch.float32)
    compiled = torch.compile(epilogue, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(h), epilogue(h), strict=True):
        assert torch.equal(found, expected)


def test_cases_are_right_and_count_their_bytes() -> None:
    case = next(iter(cases(torch.float32, torch.device(DEVICE))))
    assert case.cost.flops == 0 and case.cost.bytes == 2 * 64 * 768 * 4
    for found, expected in zip(case.run(), case.reference(), strict=True):
        assert_close_norm(found, expected)
    for baseline in case.baselines.values():
        assert_close_norm(baseline(), case.reference()[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_operator_launches_the_kernel() -> None:
    h = make_inputs(920, 2048, torch.bfloat16)
    expected = reference.mlp_gelu(h.double())
    assert_close_norm(operator(h), expected)
    assert_quantised_int8(*operator_int8(h), expected)
    if HAS_FP8:
        assert_quantised(*operator_fp8(h), expected)
