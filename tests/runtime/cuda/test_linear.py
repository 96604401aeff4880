"""Projections in every precision are near the product, and take what kernels have quantised for them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.quantise.reference import quantise_rows, quantise_rows_int8
from genie_rt.runtime.backends.cuda.linear import Linear, filled_rows, pack_linear
from genie_rt.runtime.backends.cuda.precision import Precision

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HAS_FP8 = DEVICE == "cpu" or torch.cuda.get_device_capability() >= (8, 9)
QUANTISED = ["fp8", "int8"] if HAS_FP8 else ["int8"]
DENSE = ["fp32", "bf16", "fp16"]
QUANTISE: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "fp8": quantise_rows,
    "int8": quantise_rows_int8,
}
WHOLE = {
    "fp8": 0.052,  # errors uniform in +-2**-4 of a number: 2**-4 / sqrt(3) = 3.6%; of two, sqrt(2) times
    "int8": 0.016,  # rows of 4 sigma in 127 steps: 4 / 127 / sqrt(12) = 0.9%; of two, sqrt(2) times, + bf16
}
"""Largest relative error of a product of normal numbers as a whole."""

SHAPES = [(1, 16, 16), (7, 64, 48), (33, 512, 32), (64, 192, 576)]


def make(
    name: str, num_rows: int, in_features: int, out_features: int, seed: int = 0
) -> tuple[Linear, Tensor, Tensor]:
    """A projection, `x` in the dtype of its activations, and the weight in fp32."""
    precision = Precision.of(name)
    weight = make_tensor(out_features, in_features, seed=seed, dtype=torch.float32).to(DEVICE)
    x = make_tensor(num_rows, in_features, seed=seed + 1, dtype=precision.activations).to(DEVICE)
    return pack_linear(weight, precision), x, weight


def product(x: Tensor, weight: Tensor) -> Tensor:
    return x.double() @ weight.double().T


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("shape", [*SHAPES, (5, 7, 3)])
def test_a_dense_projection_is_the_product(name: str, shape: tuple[int, int, int]) -> None:
    linear, x, weight = make(name, *shape)
    y = linear(x)
    assert linear.kind == "dense" and y.dtype == x.dtype
    assert_close_norm(y, product(x, weight))


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_quantised_projection_is_near_the_product(name: str, shape: tuple[int, int, int]) -> None:
    linear, x, weight = make(name, *shape)
    y = linear(x)
    assert linear.kind == name and y.dtype == torch.bfloat16 and y.shape == (shape[0], shape[2])
    expected = product(x, weight)
    # each factor is off by at most half a step, so no number of the product can be off by more than this
    large_x, large_w = x.double().abs(), weight.double().abs()
    step_x, step_w = (half_step(name, factor) for factor in (large_x, large_w))
    bound = (large_x + step_x) @ (large_w + step_w).T - large_x @ large_w.T
    bound += 2**-8 * (expected.abs() + bound) + 1e-5 * bound  # bf16, and sums in fp32
    error = (y.double() - expected).abs()
    assert (error <= bound).all()
    if x.numel() > 100:
        assert error.norm() <= WHOLE[name] * expected.norm()


def half_step(name: str, magnitude: Tensor) -> Tensor:
    """What rounding a number of a row is off by at most."""
    amax = magnitude.amax(-1, keepdim=True)
    if name == "int8":
        return (amax / 127 / 2).expand_as(magnitude)
    return torch.maximum(
        magnitude * 2**-4, amax / 448 * 2.0**-10
    )  # 3 bits after the leading one, or fixed steps


@pytest.mark.parametrize("name", QUANTISED)
def test_a_product_in_8_bits_is_its_formula(name: str) -> None:
    linear, x, weight = make(name, 3, 32, 16)
    (q, scale), (levels, scales) = QUANTISE[name](x), QUANTISE[name](weight)
    expected = torch.zeros(3, 16, dtype=torch.float64)
    for m in range(3):
        for n in range(16):
            total = sum(float(q[m, k]) * float(levels[n, k]) for k in range(32))
            expected[m, n] = total * float(scale[m]) * float(scales[n])
    for y in (linear(x), linear.apply_quantised(q, scale)):
        assert ((y.cpu().double() - expected).abs() <= (2**-8 + 1e-5) * expected.abs()).all()  # bf16, fp32


def test_integers_are_added_up_exactly() -> None:
    weight = torch.linspace(0.5, 1, 4096 * 16, device=DEVICE).view(16, 4096)
    linear: Any = pack_linear(weight, Precision.of("int8"))
    q = torch.full((5, 4096), 127, dtype=torch.int8, device=DEVICE)
    found, expected = linear._product(q), q.long().cpu() @ linear.weight.long().cpu().T
    assert expected.min() > 2**24  # beyond what fp32 counts to
    assert found.dtype == torch.int32 and torch.equal(found.long().cpu(), expected)


@pytest.mark.parametrize("name", [*DENSE, *QUANTISED])
def test_out_is_written_to(name: str) -> None:
    linear, x, _ = make(name, 7, 64, 48)
    out = torch.full((7, 48), torch.nan, dtype=x.dtype, device=DEVICE)
    assert linear(x, out=out) is out
    assert torch.equal(out, linear(x))
    if linear.kind != "dense":
        again = torch.full_like(out, torch.nan)
        assert linear.apply_quantised(*QUANTISE[name](x), out=again) is again
        assert torch.equal(again, out)


@pytest.mark.parametrize("name", [*DENSE, *QUANTISED])
def test_rows_of_zeros_give_zeros_and_no_rows_give_none(name: str) -> None:
    linear, x, _ = make(name, 3, 64, 48)
    x[1] = 0
    y = linear(x)
    assert not y[1].any() and y[[0, 2]].all() and y.isfinite().all()
    none = linear(x[:0])
    assert none.shape == (0, 48) and none.dtype == x.dtype
    out = torch.empty(0, 48, dtype=x.dtype, device=DEVICE)
    assert linear(x[:0], out=out) is out


@pytest.mark.parametrize("name", [*DENSE, *QUANTISED])
def test_zero_weights_give_zeros(name: str) -> None:
    linear = pack_linear(torch.zeros(16, 32, device=DEVICE), Precision.of(name))
    x = torch.ones(2, 32, dtype=linear.activations, device=DEVICE)
    assert not linear(x).any()


@pytest.mark.parametrize("name", [*DENSE, *QUANTISED])
@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row_and_shows(name: str, fault: float) -> None:
    linear, x, _ = make(name, 4, 64, 48)
    x[2, 5] = fault
    y = linear(x)
    assert not y[2].isfinite().any() and y[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("shape", [(5, 24, 16), (5, 16, 24), (5, 7, 3)])
def test_odd_sizes_stay_dense_and_say_so(name: str, shape: tuple[int, int, int]) -> None:
    linear, x, weight = make(name, *shape)
    assert linear.kind == "dense" and linear.weight.dtype == torch.bfloat16
    assert_close_norm(linear(x), product(x, weight))
    with pytest.raises(UnsupportedError, match="dense projection takes activations in bfloat16"):
        linear.apply_quantised(*QUANTISE[name](x))


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_any_dtype_are_quantised_row_by_row(name: str, dtype: torch.dtype) -> None:
    weight = (make_tensor(32, 64) * torch.logspace(-3, 3, 32, dtype=torch.float64)[:, None]).to(dtype)
    linear: Any = pack_linear(weight.to(DEVICE).T.contiguous().T, Precision.of(name))
    assert linear.weight.is_contiguous() and linear.scale.shape == (1, 32)
    restored = linear.weight.double() * linear.scale.double().T
    assert_close_norm(
        restored.cpu(), weight.double(), torch.bfloat16, factor=1.5
    )  # rows alike: 3.6%, or 0.9%


@pytest.mark.parametrize("name", [*DENSE, *QUANTISED])
def test_sizes_are_told(name: str) -> None:
    linear, _, _ = make(name, 1, 64, 48)
    assert (linear.in_features, linear.out_features) == (64, 48)
    size = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}[name]
    assert linear.num_bytes == 64 * 48 * size + (4 * 48 if name in QUANTISED else 0)
    assert repr(linear).startswith(f"Linear({linear.kind}, 64 -> 48")


def test_float64_is_exact_where_there_is_no_kernel() -> None:
    weight, x = make_tensor(24, 40), make_tensor(5, 40, seed=1)
    y = pack_linear(weight, Precision.of("fp64"))(x)
    assert y.dtype == torch.float64
    assert_close_norm(y, x @ weight.T)


def test_a_dense_weight_is_not_copied_without_need() -> None:
    weight = torch.ones(16, 32, device=DEVICE, requires_grad=True)
    same = pack_linear(weight, Precision.of("fp32"))
    assert same.weight.data_ptr() == weight.data_ptr() and not same.weight.requires_grad
    assert pack_linear(weight, Precision.of("bf16")).weight.data_ptr() != weight.data_ptr()


@pytest.mark.parametrize("name", [*DENSE, "fp8", "int8"])
def test_meta_tensors_have_sizes_only(name: str) -> None:
    linear = pack_linear(torch.empty(13824, 5120, device="meta"), Precision.of(name))
    assert linear.num_bytes >= 13824 * 5120
    y = linear(torch.empty(920, 5120, dtype=linear.activations, device="meta"))
    assert y.shape == (920, 13824) and y.dtype == linear.activations and y.device.type == "meta"


@pytest.mark.parametrize("num_rows", [1, 7, 16, 17, 64, 920])
@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_a_gpu_is_asked_for_what_torch_allows(name: str, num_rows: int, monkeypatch: Any) -> None:
    """Needs no GPU: operators on fake tensors check layouts, scales and sizes as the real ones do."""
    asked = []

    def scaled(*given: Any, out: Tensor | None, **options: Any) -> Tensor:
        asked.append(given)
        assert out is None  # this form has no fake
        return real_scaled(*given, **options)

    def integer(*given: Any) -> Tensor:
        asked.append(given)
        return real_integer(*given)

    real_scaled, real_integer = torch._scaled_mm, torch._int_mm
    monkeypatch.setattr(torch, "_scaled_mm", scaled)
    monkeypatch.setattr(torch, "_int_mm", integer)
    with FakeTensorMode():
        linear = pack_linear(torch.empty(48, 64, device="cuda"), Precision.of(name))
        y = linear(torch.empty(num_rows, 64, dtype=torch.bfloat16, device="cuda"))
    assert y.shape == (num_rows, 48) and y.dtype == torch.bfloat16 and y.is_cuda
    ((left, right, *_),) = asked
    assert left.is_contiguous() and right.T.is_contiguous()
    if name == "int8":
        assert left.shape[0] >= 32 and left.shape[0] % 8 == 0 and left.shape[0] < num_rows + 32
    else:
        assert left.shape[0] == num_rows


@pytest.mark.parametrize("num_rows", [1, 16, 17, 31, 32, 37, 64])
def test_rows_that_fill_up_change_nothing(num_rows: int) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    q, weight = (
        torch.randint(-127, 128, size, generator=generator, dtype=torch.int8)
        for size in ((num_rows, 64), (48, 64))
    )
    rows = filled_rows(q)
    assert len(rows) >= 32 and len(rows) % 8 == 0
    assert (rows is q) == (num_rows in (32, 64))
    assert torch.equal(torch._int_mm(rows, weight.t())[:num_rows], q.int() @ weight.int().t())


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (torch.zeros(16), InputError),
        (torch.zeros(1, 16, 16), InputError),
        (torch.zeros(0, 16), InputError),
        (torch.zeros(16, 0), InputError),
        (torch.zeros(16, 16, dtype=torch.int8), UnsupportedError),
        (torch.zeros(16, 16, dtype=torch.complex64), UnsupportedError),
    ],
    ids=lambda value: str(list(value.shape)) if isinstance(value, Tensor) else value.__name__,
)
def test_weights_that_are_no_matrix_are_refused(weight: Tensor, error: type[GenieError]) -> None:
    for name in ("bf16", "fp8", "int8"):
        with pytest.raises(error, match="weight: expected"):
            pack_linear(weight, Precision.of(name))


@pytest.mark.parametrize("name", ["bf16", *QUANTISED])
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x": torch.zeros(3, 48, dtype=torch.bfloat16)}, InputError),
        ({"x": torch.zeros(64, dtype=torch.bfloat16)}, InputError),
        ({"x": torch.zeros(64, 3, dtype=torch.bfloat16).T}, InputError),
        ({"x": torch.zeros(3, 64, dtype=torch.int8)}, UnsupportedError),
        ({"x": torch.zeros(3, 64, dtype=torch.float64)}, UnsupportedError),
        ({"x": torch.zeros(3, 64, dtype=torch.bfloat16, device="meta")}, InputError),
        ({"out": torch.zeros(3, 64, dtype=torch.bfloat16)}, InputError),
        ({"out": torch.zeros(4, 48, dtype=torch.bfloat16)}, InputError),
        ({"out": torch.zeros(3, 48)}, UnsupportedError),
        ({"out": torch.zeros(48, 3, dtype=torch.bfloat16).T}, InputError),
        ({"out": torch.zeros(3, 48, dtype=torch.bfloat16, device="meta")}, InputError),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_refused(name: str, changes: dict[str, Any], error: type[GenieError]) -> None:
    linear, x, _ = make(name, 3, 64, 48)
    given = {"x": x, "out": None} | {
        key: value if value.device.type == "meta" else value.to(DEVICE) for key, value in changes.items()
    }
    with pytest.raises(error, match="expected"):
        linear(given["x"], out=given["out"])


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_rows_of_another_kind_are_refused(name: str) -> None:
    linear, x, _ = make(name, 3, 64, 48)
    q, scale = QUANTISE[name](x)
    other, _ = QUANTISE["fp8" if name == "int8" else "int8"](x)
    with pytest.raises(UnsupportedError, match="q: expected"):
        linear.apply_quantised(other, scale)
    with pytest.raises(InputError, match="q: expected"):
        linear.apply_quantised(q[:, :48].contiguous(), scale)
    with pytest.raises(InputError, match="scale: expected"):
        linear.apply_quantised(q, scale[:2])
    with pytest.raises(InputError, match="scale: expected"):
        linear.apply_quantised(q, scale[:, 0])
    with pytest.raises(UnsupportedError, match="scale: expected"):
        linear.apply_quantised(q, scale.double())
    with pytest.raises(InputError, match="out: expected"):
        linear.apply_quantised(q, scale, out=torch.zeros(3, 47, dtype=torch.bfloat16, device=DEVICE))


@pytest.mark.parametrize("name", QUANTISED)
def test_a_wrong_scale_would_be_seen(name: str) -> None:
    linear, x, weight = make(name, 33, 512, 32)
    expected = product(x, weight)
    broken: Any = copy.copy(linear)
    for scale in (broken.scale.roll(1, 1), 1.1 * broken.scale):
        broken.scale = scale
        assert (broken(x).double() - expected).norm() > WHOLE[name] * expected.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("num_rows", [1, 7, 17, 64, 920])
def test_a_gpu_gives_what_a_cpu_gives_in_a_graph_without_waiting(name: str, num_rows: int) -> None:
    linear, x, weight = make(name, num_rows, 4608, 5120)
    out = torch.empty(num_rows, 5120, dtype=torch.bfloat16, device=DEVICE)
    linear(x, out=out)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.graph(graph):
            linear(x, out=out)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    out.zero_()
    graph.replay()
    here = pack_linear(weight.cpu(), Precision.of(name))(x.cpu())
    assert_close_norm(out.cpu(), here.double())
