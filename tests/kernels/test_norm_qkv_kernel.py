"""The fused addition, norm and quantisation equal their reference, and stay inside their memory."""

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
from genie_rt.kernels.norm_qkv import norm_qkv as operator
from genie_rt.kernels.norm_qkv import norm_qkv_fp8 as operator_fp8
from genie_rt.kernels.norm_qkv import norm_qkv_int8 as operator_int8
from genie_rt.kernels.norm_qkv import reference
from genie_rt.kernels.norm_qkv.cases import cases
from genie_rt.kernels.norm_qkv.cases import make_inputs as make_inputs_on
from genie_rt.kernels.norm_qkv.kernel import AUTOTUNE_SPACE, norm_qkv, norm_qkv_fp8, norm_qkv_int8
from genie_rt.kernels.quantise import kernel as quantise_kernel
from genie_rt.kernels.quantise.reference import quantise_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong
HAS_FP8 = not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 9)
needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9")

SHAPES = [(5, 192), (37, 37), (1, 1), (2, 5120), (17, 512)]


def make_inputs(num_rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return make_inputs_on(num_rows, width, dtype, torch.device(DEVICE))


def added(x: Tensor, delta: Tensor | None) -> Tensor:
    """The sum, rounded once."""
    return x if delta is None else (x.double() + delta.double()).to(x.dtype)


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """In fp64."""
    return reference.rms_norm(x.double(), weight.double())


def check(x: Tensor, delta: Tensor | None, weight: Tensor, **options: Any) -> None:
    total = added(x, delta)
    y = norm_qkv(x, delta, weight, **options)
    assert torch.equal(x, total)
    assert y.dtype == x.dtype
    assert_close_norm(y, normed(total, weight))


def check_fp8(x: Tensor, delta: Tensor | None, weight: Tensor, **options: Any) -> None:
    total = added(x, delta)
    quantised, scale = norm_qkv_fp8(x, delta, weight, **options)
    assert torch.equal(x, total)
    assert_quantised(quantised, scale, normed(total, weight))


def check_int8(x: Tensor, delta: Tensor | None, weight: Tensor, **options: Any) -> None:
    total = added(x, delta)
    quantised, scale = norm_qkv_int8(x, delta, weight, **options)
    assert torch.equal(x, total)
    assert_quantised_int8(quantised, scale, normed(total, weight))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_is_its_reference(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, delta, weight = make_inputs(*shape, dtype)
    check(x, delta, weight)
    check(x, None, weight)
    check(x, delta, weight.float())


@needs_fp8
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_fp8_kernel_is_its_reference(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, delta, weight = make_inputs(*shape, dtype)
    check_fp8(x, delta, weight)
    check_fp8(x, None, weight.float())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_kernel_is_its_reference(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, delta, weight = make_inputs(*shape, dtype)
    check_int8(x, delta, weight)
    check_int8(x, None, weight.float())


def test_the_norm_sees_the_sum_as_it_is_stored() -> None:
    x, weight = torch.full((1, 4), 2048.0, dtype=torch.float16, device=DEVICE), torch.ones(4, device=DEVICE)
    delta = torch.tensor([[0.9, 1.1, 3.0, -0.4]], dtype=torch.float16, device=DEVICE)  # steps of 2, or of 1
    y = norm_qkv(x, delta, weight)
    assert x.tolist() == [[2048, 2050, 2052, 2048]]
    assert_close_norm(y, normed(x, weight), torch.float16)
    assert y[0, 0] == y[0, 3]


def test_a_delta_of_none_leaves_x_alone() -> None:
    x, _, weight = make_inputs(3, 64, torch.float32)
    before = x.clone()
    norm_qkv(x, None, weight)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(9, 37), (3, 192), (1, 5120)])
def test_nothing_outside_is_read_or_written(shape: tuple[int, int]) -> None:
    x, delta, weight = make_inputs(*shape, torch.float16)
    total = added(x, delta)
    expected = normed(total, weight)
    for launch in (norm_qkv, norm_qkv_int8, norm_qkv_fp8) if HAS_FP8 else (norm_qkv, norm_qkv_int8):
        inputs, watches = zip(*(guarded(tensor) for tensor in (x, delta, weight)), strict=True)
        if launch is norm_qkv:
            out, whole = guards(*shape, dtype=torch.float16, device=DEVICE)
            assert norm_qkv(*inputs, out=out) is out
            assert_close_norm(out, expected)
            watches += (whole,)
        else:
            fp8 = launch is norm_qkv_fp8
            number = torch.float8_e4m3fn if fp8 else torch.int8
            q, q_whole = guards(*shape, dtype=number, device=DEVICE)
            scale, scale_whole = guards(shape[0], 1, dtype=torch.float32, device=DEVICE)
            assert launch(*inputs, out=(q, scale)) == (q, scale)
            (assert_quantised if fp8 else assert_quantised_int8)(q, scale, expected)
            watches += (q_whole, scale_whole)
        assert torch.equal(inputs[0], total)
        assert torch.equal(inputs[1], delta) and torch.equal(inputs[2], weight)
        assert all(whole() for whole in watches)


def test_memory_that_is_not_aligned_will_do() -> None:
    x, delta, weight = (guarded(tensor, room=6)[0] for tensor in make_inputs(3, 192, torch.float16))
    check(x, delta, weight)


def test_rows_of_nothing_give_nothing() -> None:
    x, weight = torch.zeros(2, 64, device=DEVICE), torch.ones(64, device=DEVICE)
    assert torch.equal(norm_qkv(x, None, weight), x)
    for launch in (norm_qkv_fp8, norm_qkv_int8) if HAS_FP8 else (norm_qkv_int8,):
        quantised, scale = launch(x, None, weight)
        assert torch.equal(quantised.float(), x) and (scale > 0).all() and torch.isfinite(1 / scale).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nan_stays_in_its_row() -> None:
    x, delta, weight = make_inputs(4, 64, torch.float32)
    x[2, 5] = torch.nan
    y = norm_qkv(x, delta, weight)
    assert y[2].isnan().all() and y[[0, 1, 3]].isfinite().all()
    _, scale = norm_qkv_int8(x, None, weight)  # the scale says it: integers cannot
    assert not scale[2].isfinite() and scale[[0, 1, 3]].isfinite().all()


def test_squares_beyond_fp16_do_not_overflow() -> None:
    x = torch.full((1, 16), 6e4, dtype=torch.float16, device=DEVICE)
    y = norm_qkv(x, None, torch.ones(16, dtype=torch.float16, device=DEVICE))
    assert_close_norm(y, torch.ones(1, 16, device=DEVICE))


@pytest.mark.parametrize("config", AUTOTUNE_SPACE, ids=str)
def test_every_configuration_is_right(config: Config) -> None:
    x, delta, weight = make_inputs(11, 500, torch.float16)
    check(x, delta, weight, config=config)
    check_int8(x, delta, weight, config=config)
    if HAS_FP8:
        check_fp8(x, delta, weight, config=config)


@pytest.mark.parametrize("number", [None, torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x": torch.zeros(3, 8, dtype=torch.float64)}, UnsupportedError),
        ({"x": torch.zeros(3, 8, dtype=torch.int32)}, UnsupportedError),
        ({"x": torch.zeros(1, 3, 8)}, InputError),
        ({"x": torch.zeros(8, 3).T}, InputError),
        ({"x": torch.zeros(0, 8), "delta": None}, UnsupportedError),
        ({"x": torch.zeros(3, 0), "delta": None, "weight": torch.zeros(0)}, UnsupportedError),
        ({"x": torch.zeros(1, 16385), "delta": None, "weight": torch.zeros(16385)}, UnsupportedError),
        ({"delta": torch.zeros(2, 8)}, InputError),
        ({"delta": torch.zeros(3, 8, dtype=torch.float16)}, UnsupportedError),
        ({"delta": torch.zeros(8, 3).T}, InputError),
        ({"delta": torch.zeros(3, 8, device="meta")}, InputError),
        ({"weight": torch.zeros(7)}, InputError),
        ({"weight": torch.zeros(8, dtype=torch.float16)}, UnsupportedError),
        ({"weight": torch.zeros(16)[::2]}, InputError),
        ({"x": "delta"}, InputError),
        ({"out": "x"}, InputError),
        ({"out": "delta"}, InputError),
        ({"out": torch.zeros(2, 8)}, InputError),
        ({"out": torch.zeros(3, 8, dtype=torch.bfloat16)}, UnsupportedError),
        ({"out": torch.zeros(8, 3).T}, InputError),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_refused(
    number: torch.dtype | None, changes: dict[str, Any], error: type[GenieError]
) -> None:
    given: dict[str, Any] = {name: torch.ones(3, 8, device=DEVICE) for name in ("x", "delta")}
    given["weight"] = torch.ones(8, device=DEVICE)
    for name, value in changes.items():
        moved = isinstance(value, Tensor) and value.device.type == "cpu"
        given[name] = given[value] if isinstance(value, str) else value.to(DEVICE) if moved else value
    if number is not None and "out" in changes:
        given["out"] = (given["out"], torch.ones(3, 1, device=DEVICE))
        if error is InputError and not isinstance(changes["out"], str):
            given["out"] = (given["out"][0].to(number), given["out"][1])
        error = UnsupportedError if isinstance(changes["out"], str) else error  # another dtype, then
    before = given["x"].clone()
    with pytest.raises(error, match="expected"):
        {None: norm_qkv, torch.float8_e4m3fn: norm_qkv_fp8, torch.int8: norm_qkv_int8}[number](**given)
    assert torch.equal(given["x"], before)


@needs_fp8
def test_fp8_outputs_that_overlap_are_refused() -> None:
    x, delta, weight = make_inputs(4, 16, torch.float32)
    memory = torch.zeros(64 + 16, dtype=torch.uint8, device=DEVICE)
    q, scale = (
        memory[:64].view(torch.float8_e4m3fn).view(4, 16),
        memory[60:76].view(torch.float32).view(4, 1),
    )
    with pytest.raises(InputError, match="overlaps"):
        norm_qkv_fp8(x, delta, weight, out=(q, scale))
    with pytest.raises(InputError, match="scale"):
        norm_qkv_fp8(x, delta, weight, out=(q, torch.zeros(4, device=DEVICE)))
    with pytest.raises(InputError, match="overlaps"):
        norm_qkv_fp8(x, delta, weight, out=(torch.empty_like(x, dtype=q.dtype), x[0, :4].view(4, 1)))
    assert not memory.any()


def test_wrong_quantisation_would_be_seen() -> None:
    y = make_inputs(3, 64, torch.float32)[0].double().cpu()
    q, scale = quantise_rows(y)
    assert_quantised(q, scale, y)
    wide = q.float()
    broken = wide.clone()
    broken[1, 7] = torch.nan
    for other in (wide / 2, wide * 1.2, wide.roll(1, 1), torch.zeros_like(wide), broken):
        with pytest.raises(AssertionError):
            assert_quantised(other.to(torch.float8_e4m3fn), scale, y)
    with pytest.raises(AssertionError):
        assert_quantised(q, 1.001 * scale, y)


def test_a_device_without_fp8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, delta, weight = make_inputs(4, 16, torch.float32)
    before = x.clone()
    monkeypatch.setattr(quantise_kernel, "capability_of", lambda device: 86)
    with pytest.raises(UnsupportedError, match=r"8\.6"):
        norm_qkv_fp8(x, delta, weight)
    assert torch.equal(x, before)
    check_int8(x, delta, weight)  # every GPU has it


@pytest.mark.parametrize("with_delta", [False, True])
def test_operators_are_sound(with_delta: bool) -> None:
    x, delta, weight = (tensor.cpu() for tensor in make_inputs(3, 16, torch.float32))
    given = (x, delta if with_delta else None, weight)
    torch.library.opcheck(operator, given)
    torch.library.opcheck(operator_fp8, given, test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(operator_int8, given, test_utils=("test_schema", "test_faketensor"))


def test_compilation_sees_through_the_operators() -> None:
    def block(x: Tensor, delta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = operator(x, delta, weight)
        quantised, scale = operator_fp8(x, None, weight)
        return 2 * y, quantised.float() * scale, x + 1

    inputs = make_inputs(3, 16, torch.float32)
    again = [tensor.clone() for tensor in inputs]
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    if HAS_FP8:
        for found, expected in zip(compiled(*again), block(*inputs), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(again[0], inputs[0])


def test_cases_are_right_and_count_their_bytes() -> None:
    case = next(iter(cases(torch.float32, torch.device(DEVICE))))
    assert case.cost.flops == 0 and case.cost.bytes == 4 * (4 * 64 * 192 + 192)
    for found, expected in zip(case.reference(), case.run(), strict=True):
        assert_close_norm(found, expected)
    for baseline in case.baselines.values():
        baseline()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_operator_launches_the_kernel() -> None:
    x, delta, weight = make_inputs(920, 5120, torch.bfloat16)
    total = added(x, delta)
    y = operator(x, delta, weight)
    assert torch.equal(x, total)
    assert_close_norm(y, normed(total, weight))
    assert_quantised_int8(*operator_int8(x, None, weight), normed(total, weight))
    if HAS_FP8:
        assert_quantised(*operator_fp8(x, None, weight), normed(total, weight))
