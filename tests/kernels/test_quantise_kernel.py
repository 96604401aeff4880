"""Kernels to 8 bits and back equal their references everywhere, and stay inside their memory."""

from itertools import takewhile
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
from genie_rt.kernels.quantise import dequantise_product as operator_product
from genie_rt.kernels.quantise import kernel, reference
from genie_rt.kernels.quantise import quantise_rows as operator
from genie_rt.kernels.quantise import quantise_rows_int8 as operator_int8
from genie_rt.kernels.quantise.cases import cases
from genie_rt.kernels.quantise.cases import make_inputs as make_inputs_on
from genie_rt.kernels.quantise.cases import make_product as make_product_on
from genie_rt.kernels.quantise.kernel import (
    AUTOTUNE_SPACE,
    AUTOTUNE_SPACE_PRODUCT,
    dequantise_product,
    quantise_rows,
    quantise_rows_int8,
)

# what is not finite goes through arithmetic
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong
HAS_FP8 = not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 9)
needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9")

SHAPES = [(5, 768), (37, 37), (1, 1), (2, 4608)]
LAUNCHES = (quantise_rows, quantise_rows_int8) if HAS_FP8 else (quantise_rows_int8,)


def make_inputs(num_rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return make_inputs_on(num_rows, width, dtype, torch.device(DEVICE))


def make_product(num_rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return make_product_on(num_rows, width, torch.device(DEVICE))


def check(x: Tensor, **options: Any) -> None:
    before = x.clone()
    assert_quantised_int8(*quantise_rows_int8(x, **options), x.double())
    if HAS_FP8:
        assert_quantised(*quantise_rows(x, **options), x.double())
    assert torch.equal(x, before)


def scaled(product: Tensor, row_scale: Tensor, column_scale: Tensor) -> Tensor:
    """In fp64."""
    return product.double() * row_scale.double() * column_scale.double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_quantised_as_the_reference_does(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    check(make_inputs(*shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 768), (37, 37), (1, 1), (3, 1100)])
def test_products_are_scaled_as_the_reference_does(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    given = make_product(*shape)
    out = torch.empty(shape, dtype=dtype, device=DEVICE)
    dequantise_product(*given, out)
    assert_close_norm(out, scaled(*given))


def test_integers_round_to_even_and_are_symmetric() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]], device=DEVICE)  # the scale is 1
    q, scale = quantise_rows_int8(x)
    assert scale.item() == 1 and q.tolist() == [[127, 0, 2, 2, 0, -2, -2, 126]]
    assert torch.equal(quantise_rows_int8(-x)[0], -q)


def test_rows_of_any_size_have_their_digits() -> None:
    sizes = torch.tensor([1e-28, 1e-6, 1.0, 1e6, 1e30], device=DEVICE)[:, None]
    check(make_inputs(5, 64, torch.float32) * sizes)


def test_rows_of_nothing_have_a_scale() -> None:
    for launch in LAUNCHES:
        q, scale = launch(torch.zeros(2, 40, device=DEVICE))
        assert not q.float().any() and (scale > 0).all() and torch.isfinite(1 / scale).all()


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_row_and_shows(fault: float) -> None:
    x = make_inputs(4, 40, torch.float32)
    x[2, 5] = fault
    q, scale = quantise_rows_int8(x)
    assert scale.isfinite().flatten().tolist() == [True, True, False, True]
    out = torch.empty(4, 40, device=DEVICE)
    dequantise_product(q.int(), scale, torch.ones(1, 40, device=DEVICE), out)
    assert out.isfinite().all(-1).tolist() == [True, True, False, True]


@pytest.mark.parametrize("shape", [(9, 37), (3, 768)])
def test_nothing_outside_is_read_or_written(shape: tuple[int, int]) -> None:
    x, x_whole = guarded(make_inputs(*shape, torch.float16))
    before = x.clone()
    for launch in LAUNCHES:
        fp8 = launch is quantise_rows
        q, q_whole = guards(*shape, dtype=torch.float8_e4m3fn if fp8 else torch.int8, device=DEVICE)
        scale, scale_whole = guards(shape[0], 1, dtype=torch.float32, device=DEVICE)
        assert launch(x, out=(q, scale)) == (q, scale)
        (assert_quantised if fp8 else assert_quantised_int8)(q, scale, x.double())
        assert q_whole() and scale_whole()
    assert x_whole() and torch.equal(x, before)

    given, watches = zip(*(guarded(tensor) for tensor in make_product(*shape)), strict=True)
    kept = [tensor.clone() for tensor in given]
    out, out_whole = guards(*shape, dtype=torch.float32, device=DEVICE)
    dequantise_product(*given, out)
    assert_close_norm(out, scaled(*kept))
    assert out_whole() and all(whole() for whole in watches)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(given, kept, strict=True))


def test_memory_that_is_not_aligned_will_do() -> None:
    check(guarded(make_inputs(3, 64, torch.float16), room=6)[0])


@pytest.mark.parametrize("config", AUTOTUNE_SPACE, ids=str)
def test_every_configuration_is_right(config: Config) -> None:
    check(make_inputs(11, 500, torch.float16), config=config)


@pytest.mark.parametrize("config", AUTOTUNE_SPACE_PRODUCT, ids=str)
def test_every_configuration_of_products_is_right(config: Config) -> None:
    given = make_product(11, 1100)
    out = torch.empty(11, 1100, device=DEVICE)
    dequantise_product(*given, out, config=config)
    assert_close_norm(out, scaled(*given))


def test_wrong_integers_would_be_seen() -> None:
    y = make_inputs(3, 64, torch.float32).double().cpu()
    q, scale = reference.quantise_rows_int8(y)
    assert_quantised_int8(q, scale, y)
    one_off, negative = q.clone(), q.clone()
    one_off[1, 7] += 1 if q[1, 7] < 0 else -1
    negative[q == 127] = -128
    for other in (q // 2, -q, q.roll(1, 1), torch.zeros_like(q), one_off, negative):
        with pytest.raises(AssertionError):
            assert_quantised_int8(other, scale, y)
    with pytest.raises(AssertionError):
        assert_quantised_int8(q, 1.001 * scale, y)
    with pytest.raises(AssertionError):
        assert_quantised_int8(q, scale * torch.nan, y)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x": torch.zeros(3, 8, dtype=torch.float64)}, UnsupportedError),
        ({"x": torch.zeros(3, 8, dtype=torch.int8)}, UnsupportedError),
        ({"x": torch.zeros(2, 3, 8)}, InputError),
        ({"x": torch.zeros(8, 3).T}, InputError),
        ({"x": torch.zeros(0, 8)}, UnsupportedError),
        ({"x": torch.zeros(1, 16385)}, UnsupportedError),
        ({"out": (torch.zeros(3, 8), torch.zeros(3, 1))}, UnsupportedError),
        ({"out": ("3 x 7", torch.zeros(3, 1))}, InputError),
        ({"out": ("3 x 8", torch.zeros(3))}, InputError),
        ({"out": ("3 x 8", torch.zeros(3, 1, device="meta"))}, InputError),
        ({"out": ("3 x 8", "x")}, InputError),
    ],
    ids=str,
)
def test_rows_that_it_cannot_take_are_refused(changes: dict[str, Any], error: type[GenieError]) -> None:
    x = changes.get("x", torch.ones(3, 8)).to(DEVICE)
    before = x.clone()
    for launch, number in ((quantise_rows, torch.float8_e4m3fn), (quantise_rows_int8, torch.int8)):
        out = changes.get("out")
        if out is not None:
            q, scale = out
            if isinstance(q, str):
                q = torch.zeros(*map(int, q.split(" x ")), dtype=number, device=DEVICE)
            scale = x.flatten()[:3].view(3, 1) if isinstance(scale, str) else scale
            out = (q.to(DEVICE), scale if scale.device.type == "meta" else scale.to(DEVICE))
        with pytest.raises(error, match="expected"):
            launch(x, out=out)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"product": torch.zeros(3, 8)}, UnsupportedError),
        ({"product": torch.zeros(3, 8, dtype=torch.int64)}, UnsupportedError),
        ({"product": torch.zeros(2, 3, 8, dtype=torch.int32)}, InputError),
        ({"product": torch.zeros(8, 3, dtype=torch.int32).T}, InputError),
        ({"product": torch.zeros(0, 8, dtype=torch.int32)}, UnsupportedError),
        ({"product": torch.zeros(1, 2**20 + 1, dtype=torch.int32)}, UnsupportedError),
        ({"row_scale": torch.zeros(3)}, InputError),
        ({"row_scale": torch.zeros(3, 1, dtype=torch.float16)}, UnsupportedError),
        ({"column_scale": torch.zeros(8, 1)}, InputError),
        ({"column_scale": torch.zeros(1, 16)[:, ::2]}, InputError),
        ({"out": torch.zeros(3, 8, dtype=torch.int32)}, UnsupportedError),
        ({"out": torch.zeros(3, 7)}, InputError),
        ({"out": torch.zeros(8, 3).T}, InputError),
        ({"out": torch.zeros(3, 8, device="meta")}, InputError),
        ({"out": "row_scale"}, InputError),
    ],
    ids=str,
)
def test_products_that_it_cannot_take_are_refused(changes: dict[str, Any], error: type[GenieError]) -> None:
    memory = torch.ones(24, device=DEVICE)
    given: dict[str, Any] = {
        "product": torch.ones(3, 8, dtype=torch.int32, device=DEVICE),
        "row_scale": memory[:3].view(3, 1),
        "column_scale": torch.ones(1, 8, device=DEVICE),
        "out": torch.ones(3, 8, device=DEVICE),
    }
    for name, value in changes.items():
        if isinstance(value, str):
            given[name] = memory.view(3, 8)
        else:
            given[name] = value if value.device.type == "meta" else value.to(DEVICE)
    with pytest.raises(error, match="expected"):
        dequantise_product(**given)
    assert memory.eq(1).all()


def test_a_device_without_fp8_has_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = make_inputs(4, 16, torch.float32)
    monkeypatch.setattr(kernel, "capability_of", lambda device: 86)
    with pytest.raises(
        UnsupportedError, match=r"quantise_rows: expected .* 8\.9 or later for fp8, found 8\.6"
    ):
        quantise_rows(x)
    assert_quantised_int8(*quantise_rows_int8(x), x.double())


def test_operators_are_sound() -> None:
    x = make_inputs(3, 16, torch.float32).cpu()
    torch.library.opcheck(operator, (x,), test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(operator_int8, (x,), test_utils=("test_schema", "test_faketensor"))
    product = [tensor.cpu() for tensor in make_product(3, 16)]
    torch.library.opcheck(operator_product, (*product, torch.empty(3, 16)))


def test_compilation_sees_through_the_operators() -> None:
    def there_and_back(x: Tensor, out: Tensor) -> Tensor:
        q, scale = operator_int8(x)
        operator_product(q.int() * 2, scale, torch.ones_like(x[:1]), out)
        return out + 1

    x = make_inputs(3, 16, torch.float32)
    out, again = torch.empty_like(x), torch.empty_like(x)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, again), there_and_back(x, out))
    assert torch.equal(again, out)
    assert_close_norm(out, 2 * x.double(), torch.float16, factor=4)  # 3 sigma in 127 steps


def test_cases_are_right_and_count_their_bytes() -> None:
    smallest = takewhile(lambda case: case.name == "demo T=1", cases(torch.float16, torch.device(DEVICE)))
    found = {case.op: case for case in smallest}
    rows, product = found["quantise_rows_int8"], found["dequantise_product"]
    assert rows.cost.flops == 0 and rows.cost.bytes == 64 * (192 * 3 + 4)
    assert product.cost.flops == 0 and product.cost.bytes == 64 * 576 * 6 + 4 * (64 + 576)
    q, scale = rows.run()
    expected, expected_scale = rows.reference()
    assert_close_norm(scale, expected_scale)
    assert_close_norm(
        q.float(), expected.float(), torch.float16
    )  # one step off where a tie is not seen as one
    assert_close_norm(product.run()[0], product.reference()[0])
    for case in (rows, product):
        for baseline in case.baselines.values():
            baseline()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_operators_launch_the_kernels() -> None:
    x = make_inputs(920, 4608, torch.bfloat16)
    assert_quantised_int8(*operator_int8(x), x.double())
    if HAS_FP8:
        assert_quantised(*operator(x), x.double())
    given = make_product(920, 4608)
    out = torch.empty(920, 4608, dtype=torch.bfloat16, device=DEVICE)
    operator_product(*given, out)
    assert_close_norm(out, scaled(*given))
