"""The temporal attention kernel equals its reference, on every shape and inside its own memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from torch import Tensor

pytest.importorskip("triton", reason="the kernels need Triton")

import triton
import triton.language as tl

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.launch import Config, Trial
from genie_rt.kernels.shapes import ModelShape
from genie_rt.kernels.temporal_attention import kernel
from genie_rt.kernels.temporal_attention import temporal_attention as operator
from genie_rt.kernels.temporal_attention.cases import Inputs, make_case, make_inputs
from genie_rt.kernels.temporal_attention.kernel import AUTOTUNE_SPACE, round_to_e4m3, temporal_attention
from genie_rt.kernels.temporal_attention.reference import indexable, paged_temporal_attention, to_page

# what is masked, and NaN, goes through arithmetic
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong
FP8 = torch.float8_e4m3fn
HAS_FP8 = not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 9)
needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9")
with_fp8 = pytest.mark.parametrize("page_dtype", [None, pytest.param(FP8, marks=needs_fp8)])
"""Pages in the dtype of the rest, and in 8 bits."""


def make(dtype: torch.dtype = torch.float32, **sizes: Any) -> Inputs:
    given = {"positions": 7, "heads": 3, "head_width": 32, "window": 4, "num_layers": 2} | sizes
    return make_inputs(dtype, DEVICE, **given)


def expected(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The output, and what is in the pages afterwards at this layer."""
    wide = inputs.widened()
    return paged_temporal_attention(*wide.arguments), wide.pages[:, 0]


def check(inputs: Inputs, **options: Any) -> None:
    """Runs the kernel; compares its output, and its pages, of which only `expected`'s may have changed."""
    out, pages = expected(inputs)
    before = inputs.pages.clone()
    found = temporal_attention(*inputs.arguments, **options)
    assert found.dtype == inputs.qkv.dtype
    assert_close_norm(found, out)
    assert_close_norm(inputs.pages[:, inputs.layer].float(), pages.float(), inputs.qkv.dtype)
    after, before, wanted = indexable(inputs.pages), indexable(before), indexable(pages)
    changed = (after != before).flatten(3).any(-1)  # [num_pages, L, 2]
    changed[:, inputs.layer] &= (wanted == before[:, inputs.layer]).flatten(2).all(-1)  # those that may not
    assert not changed.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes",
    [
        {"positions": 16, "heads": 4, "head_width": 64, "window": 8},
        {"frames": 2, "positions": 37, "heads": 1, "window": 5, "written": 2},
        {"batch": 2, "frames": 2, "positions": 5, "heads": 2, "head_width": 128, "window": 17, "written": 1},
        {"batch": 3, "frames": 1, "positions": 7, "head_width": 64, "window": 2, "written": 1},
        {"positions": 1, "heads": 1, "head_width": 128, "window": 1, "written": 1},
        {"frames": 2, "positions": 1, "heads": 1, "window": 1, "written": 2},
        {"frames": 2, "positions": 2, "heads": 1, "window": 2},
        {"frames": 2, "positions": 2, "heads": 1, "window": 64, "num_layers": 1},
    ],
    ids=str,
)
def test_kernel_is_its_reference(dtype: torch.dtype, sizes: dict[str, int]) -> None:
    check(make(dtype, **sizes))


@needs_fp8
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes",
    [
        {"positions": 3, "heads": 2, "frames": 2, "written": 1},
        {"positions": 2, "heads": 1, "head_width": 128, "window": 17, "written": 1},
        {"positions": 13, "heads": 2, "head_width": 64, "window": 6, "queries": 5, "batch": 2, "written": 1},
        {"positions": 1, "heads": 1, "window": 1, "written": 2, "frames": 2},
    ],
    ids=str,
)
def test_kernel_is_its_reference_over_pages_in_fp8(dtype: torch.dtype, sizes: dict[str, int]) -> None:
    check(make(dtype, page_dtype=FP8, **sizes))


@with_fp8
@pytest.mark.parametrize("frames", [1, 2])
def test_frames_that_do_not_exist_are_not_seen(frames: int, page_dtype: torch.dtype | None) -> None:
    inputs = make(batch=4, frames=frames, window=9, written=frames, page_dtype=page_dtype)
    past = inputs.table[:, frames:]
    past[0] = -1
    past[1, 3:] = -1
    past[2, 0] = len(inputs.pages)
    past[2, 5], past[2, 6] = 2**31 - 1, -(2**31)
    inputs.table[3, 0] = len(inputs.pages) + 3
    inputs.table[1, frames - 1] = -7
    check(inputs)


@pytest.mark.parametrize("rows", [1, 3])
def test_some_positions_see_their_own_past(rows: int) -> None:
    inputs = make(batch=3, positions=9, queries=4, window=6, written=1)
    assert inputs.index is not None
    check(replace(inputs, index=inputs.index[:rows].contiguous()))


def test_positions_that_do_not_exist_have_no_past() -> None:
    inputs = make(positions=9, queries=4, window=6, written=1)
    assert inputs.index is not None
    inputs.index[0, 1], inputs.index[0, 2] = 9, -1
    alone = replace(inputs, table=torch.full_like(inputs.table, -1), index=torch.zeros_like(inputs.index))
    without_past, _ = expected(alone)
    before = inputs.pages.clone()
    out = temporal_attention(*inputs.arguments)
    assert_close_norm(out[:, :, 1:3], without_past[:, :, 1:3])
    sound = [0, 3]
    qkv, index = inputs.qkv[:, :, sound].contiguous(), inputs.index[:, sound].contiguous()
    part = replace(inputs, qkv=qkv, index=index, pages=before)
    assert_close_norm(out[:, :, sound], expected(part)[0])
    temporal_attention(*part.arguments)
    assert torch.equal(inputs.pages, before)


@with_fp8
@pytest.mark.parametrize("config", AUTOTUNE_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_is_right(config: Config, page_dtype: torch.dtype | None) -> None:
    sizes = {"frames": 2, "positions": 3, "heads": 2, "head_width": 128, "window": 11, "written": 1}
    check(make(page_dtype=page_dtype, **sizes), config=config)


def test_weights_in_fp32_go_with_narrow_activations() -> None:
    inputs = make(torch.float16, frames=2, window=5, written=2)
    wide = {name: getattr(inputs, name).float() * 1.001 for name in ("q_weight", "k_weight", "bias")}
    check(replace(inputs, **wide))


@with_fp8
def test_a_fused_commit_is_the_commit_and_then_the_frame(page_dtype: torch.dtype | None) -> None:
    """The newer frame sees the older one's keys and values as its page would give them: rounded."""
    inputs = make(torch.float16, frames=2, positions=16, window=6, written=1, page_dtype=page_dtype)
    fused = temporal_attention(*inputs.arguments)
    pages = inputs.pages.clone()
    inputs.pages[inputs.table[0, 1]] = torch.nan
    older = replace(inputs, qkv=inputs.qkv[:, :1].contiguous(), table=inputs.table[:, 1:].contiguous())
    newer = replace(inputs, qkv=inputs.qkv[:, 1:].contiguous(), table=inputs.table[:, :-1].contiguous())
    apart = [temporal_attention(*part.arguments) for part in (older, newer)]
    assert torch.equal(indexable(inputs.pages[:, inputs.layer]), indexable(pages[:, inputs.layer]))
    assert_close_norm(fused, torch.cat(apart, 1), factor=0.01)  # sums in another order: few roundings differ


@needs_fp8
def test_a_frame_sees_itself_as_its_page_will_give_it() -> None:
    inputs = make(torch.float16, window=1, written=1, page_dtype=FP8)
    out = temporal_attention(*inputs.arguments)
    page = inputs.pages[int(inputs.table[0, 0]), inputs.layer]
    assert torch.equal(indexable(page[1]), indexable(to_page(inputs.qkv[0, 0, :, 2], FP8)))
    assert torch.equal(out[0, 0], page[1].half())  # alone it has a weight of 1


@needs_fp8
def test_what_fp8_cannot_say_becomes_its_largest_number_and_nan_shows() -> None:
    inputs = make(window=1, written=1, page_dtype=FP8, num_layers=1)
    values = inputs.qkv[0, 0, :, 2]
    values[0, 0, 0], values[0, 1, 0], values[1, 2, 5] = 1e5, -449, -torch.inf
    values[3, 1, 7] = torch.nan
    inputs.k_weight[3] = 1e6
    out = temporal_attention(*inputs.arguments)
    keys = inputs.pages[inputs.table[0, 0], 0, 0].float()
    assert set(keys[..., 3].abs().flatten().tolist()) == {448}
    assert (out[0, 0, 0, 0, 0], out[0, 0, 0, 1, 0], out[0, 0, 1, 2, 5]) == (448, -448, -448)
    nan = torch.zeros(7, 3, 32, dtype=torch.bool)
    nan[3, 1, 7] = True
    assert torch.equal(out[0, 0].isnan().cpu(), nan)


@triton.jit
def _round(x, rounded, cast, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    on_grid = round_to_e4m3(tl.load(x + place))
    tl.store(rounded + place, on_grid)
    tl.store(cast + place, on_grid.to(tl.float8e4nv))


@needs_fp8
def test_numbers_are_rounded_to_fp8_as_torch_does() -> None:
    """At every number of e4m3, halfway between any two, and at the floats on either side of each."""
    grid = torch.arange(127, dtype=torch.uint8).view(FP8).float()  # from 0 to 448
    points = torch.cat([grid, (grid[1:] + grid[:-1]) / 2, torch.tensor([464.0, 1e4, 3e38, 1e-30, torch.inf])])
    up, down = (points.nextafter(torch.tensor(to)) for to in (torch.inf, -torch.inf))
    points = torch.cat([points, up, down, torch.rand(200, generator=torch.Generator().manual_seed(0))])
    points = torch.cat([points, -points])
    x = torch.zeros(2048)
    x[: len(points)] = points
    rounded, cast = torch.empty_like(x, device=DEVICE), torch.empty_like(x, dtype=FP8, device=DEVICE)
    _round[(1,)](x.to(DEVICE), rounded, cast, COUNT=len(x))
    expected = x.clamp(-448, 448).to(FP8)
    assert torch.equal(indexable(cast).cpu(), indexable(expected))  # the sign of 0 as well
    assert torch.equal(rounded.cpu(), expected.float())
    assert len(rounded.unique()) == 2 * 127 - 1  # every number of e4m3


@needs_fp8
def test_every_number_of_fp8_is_read_as_what_it_is() -> None:
    inputs = make(window=2, heads=2, head_width=64, positions=2, page_dtype=FP8, num_layers=1)
    inputs.qkv[:, :, :, :2], inputs.bias[:] = 0, torch.tensor([-1e4, 0.0])  # all weight is on the last frame
    numbers = torch.arange(256, dtype=torch.uint8)
    numbers[numbers & 127 == 127] = 0  # the two that are NaN
    page = inputs.pages[int(inputs.table[0, 1]), 0]
    indexable(page[1]).copy_(numbers.view(page[1].shape))
    out = temporal_attention(*inputs.arguments)
    assert torch.equal(out[0, 0].flatten().cpu(), numbers.view(FP8).float())


@pytest.mark.parametrize("capability", [80, 86])
def test_pages_in_fp8_are_refused_where_there_is_no_fp8(
    capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "capability_of", lambda device: capability)
    inputs = make(page_dtype=FP8, written=1)
    before = inputs.pages.clone()
    with pytest.raises(
        UnsupportedError, match=r"pages: expected .* 8\.9 or later .* found 8\.[06]; keep them"
    ):
        temporal_attention(*inputs.arguments)
    assert torch.equal(indexable(inputs.pages), indexable(before))


def test_pages_in_fp8_have_configurations_of_their_own() -> None:
    found = {}
    for variant in kernel.KERNEL.variants:
        found[variant.name] = variant.types["qkv"], variant.types["pages"], variant.capability
    assert found["bf16-dh128-w16-t1"] == ("*bf16", "*bf16", 80)
    assert found["bf16-fp8e4nv-dh128-w16-t1"] == ("*bf16", "*fp8e4nv", 89)
    assert found["fp16-fp8e4nv-dh32-w8-t1-indexed"] == ("*fp16", "*fp8e4nv", 89)
    with Trial() as trial:
        temporal_attention(*make(torch.float16, window=8).arguments)
        if HAS_FP8:
            temporal_attention(*make(torch.float16, window=8, page_dtype=FP8).arguments)
    asked = {variant for _, variant in trial.asked}
    assert asked == {"fp16-dh32-w8-t1", "fp16-fp8e4nv-dh32-w8-t1"} if HAS_FP8 else {"fp16-dh32-w8-t1"}


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    inputs = make(batch=3, frames=2, window=5)
    out = temporal_attention(*inputs.arguments)
    for row in range(3):
        one = replace(inputs, qkv=inputs.qkv[row : row + 1], table=inputs.table[row : row + 1])
        assert torch.equal(temporal_attention(*one.arguments)[0], out[row])


def guarded(x: Tensor, fill: float, room: int = 512) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of `x` in the middle of other memory, and whether that is still as it was."""
    memory = torch.full((room + x.numel() + room,), fill, dtype=x.dtype, device=x.device)
    inner = memory[room:-room].view(x.shape)
    inner.copy_(x)

    def untouched() -> bool:
        around = torch.cat([memory[:room], memory[-room:]]).double()
        return bool(around.isnan().all() if fill != fill else (around == fill).all())

    return inner, untouched


@with_fp8
@pytest.mark.parametrize("sizes", [{"frames": 2}, {"queries": 5}], ids=str)
def test_nothing_outside_is_read_or_written(sizes: dict[str, int], page_dtype: torch.dtype | None) -> None:
    inputs = make(torch.float16, batch=2, positions=13, window=6, written=1, page_dtype=page_dtype, **sizes)
    unused = sorted(set(range(len(inputs.pages))) - set(inputs.table.flatten().tolist()))
    inputs.pages[:, 1 - inputs.layer] = torch.nan
    inputs.pages[unused] = torch.nan
    inputs.pages[inputs.table[:, len(inputs.qkv[0]) - 1].long()] = torch.nan  # what will be written
    inputs.table[1, -2] = -1
    fills = {"table": unused[0], "index": 0} if inputs.index is not None else {"table": unused[0]}
    watched = {}
    for name in ("qkv", "q_weight", "k_weight", "bias", "pages", *fills):
        watched[name] = guarded(getattr(inputs, name), fills.get(name, torch.nan))
    out, whole = guarded(torch.empty_like(inputs.qkv[:, :, :, 0]), torch.nan)
    result, pages = expected(inputs)
    placed = replace(inputs, **{name: x for name, (x, _) in watched.items()})
    assert temporal_attention(*placed.arguments, out=out) is out
    assert_close_norm(out, result)
    assert torch.equal(placed.pages[:, inputs.layer].isnan(), pages.isnan())
    assert placed.pages[:, 1 - inputs.layer].isnan().all()
    assert whole() and all(untouched() for _, untouched in watched.values())


def test_more_positions_than_fit_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="window: expected 1 to 64, found 65"):
        temporal_attention(*make(window=65, positions=1, heads=1).arguments)
    with pytest.raises(UnsupportedError, match="heads: expected 1 to 512, found 513"):
        temporal_attention(*make(window=1, positions=1, heads=513).arguments)
    with pytest.raises(UnsupportedError, match="queries: expected 1 to 4096, found 4097"):
        temporal_attention(*make(window=1, positions=4097, heads=1).arguments)


def strided(x: Tensor) -> Tensor:
    """`x`, every second number of its memory."""
    return torch.stack([x, x], -1)[..., 0]


def shares(memory: Tensor, x: Tensor) -> Tensor:
    """The start of `memory` in the shape of `x`."""
    return memory.view(-1)[: x.numel()].view(x.shape)


REFUSED: dict[str, tuple[Callable[[Inputs], dict[str, Any]], type[GenieError], str]] = {
    "qkv's dtype": (lambda i: {"qkv": i.qkv.double()}, UnsupportedError, "qkv"),
    "qkv's rank": (lambda i: {"qkv": i.qkv[0]}, InputError, "qkv"),
    "qkv's parts": (lambda i: {"qkv": i.qkv[:, :, :, :2].contiguous()}, InputError, "qkv"),
    "qkv's strides": (lambda i: {"qkv": strided(i.qkv)}, InputError, "contiguous"),
    "qkv's positions": (lambda i: {"qkv": i.qkv[:, :, 1:].contiguous()}, InputError, "give index"),
    "head width": (lambda i: {"qkv": i.qkv[..., :16].contiguous()}, UnsupportedError, "head width"),
    "no rows": (lambda i: {"qkv": i.qkv[:0]}, UnsupportedError, "sessions"),
    "three frames": (lambda i: {"qkv": i.qkv.repeat(1, 3, 1, 1, 1, 1)}, UnsupportedError, "query frames"),
    "weight's size": (lambda i: {"q_weight": i.q_weight[:-1]}, InputError, "q_weight"),
    "weight's dtype": (lambda i: {"k_weight": i.k_weight.half()}, UnsupportedError, "k_weight"),
    "weight's strides": (lambda i: {"k_weight": strided(i.k_weight)}, InputError, "k_weight"),
    "bias's heads": (lambda i: {"bias": i.bias[:1]}, InputError, "bias"),
    "bias's strides": (lambda i: {"bias": strided(i.bias)}, InputError, "bias"),
    "pages' dtype": (lambda i: {"pages": i.pages.half()}, UnsupportedError, "pages"),
    "pages' other 8 bits": (lambda i: {"pages": i.pages.to(torch.float8_e5m2)}, UnsupportedError, "pages"),
    "pages' heads": (lambda i: {"pages": i.pages[..., :1, :].contiguous()}, InputError, "pages"),
    "pages' strides": (lambda i: {"pages": strided(i.pages)}, InputError, "pages"),
    "pages' device": (lambda i: {"pages": i.pages.to("meta")}, InputError, "pages"),
    "table's dtype": (lambda i: {"table": i.table.long()}, UnsupportedError, "table"),
    "table's length": (lambda i: {"table": i.table[:, 1:].contiguous()}, InputError, "table"),
    "table's strides": (lambda i: {"table": strided(i.table)}, InputError, "table"),
    "layer": (lambda i: {"layer": 2}, InputError, "layer: expected 0 to 1, found 2"),
    "negative layer": (lambda i: {"layer": -1}, InputError, "layer"),
    "index's dtype": (lambda i: {"index": torch.zeros(2, 7).long()}, UnsupportedError, "index"),
    "index's length": (lambda i: {"index": torch.zeros(2, 6).int()}, InputError, "index"),
    "index's rows": (lambda i: {"index": torch.zeros(3, 7).int()}, InputError, "index: expected 1 or 2 rows"),
    "index's rank": (lambda i: {"index": torch.tensor(0).int()}, InputError, "index"),
    "shared memory": (lambda i: {"qkv": shares(i.pages, i.qkv)}, InputError, "pages: expected memory of its"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernel_cannot_take_is_refused_untouched(name: str) -> None:
    inputs = make(batch=2, written=1)
    change, error, message = REFUSED[name]
    changes = {
        key: value.to(DEVICE) if isinstance(value, Tensor) and value.device.type != "meta" else value
        for key, value in change(inputs).items()
    }
    before, out = inputs.pages.clone(), torch.full_like(inputs.qkv[:, :, :, 0], 7)
    with pytest.raises(error, match=message):
        temporal_attention(*replace(inputs, **changes).arguments, out=out)
    assert torch.equal(inputs.pages, before) and (out == 7).all()


def test_two_query_frames_at_some_positions_are_refused() -> None:
    inputs = make(frames=2, queries=3)
    with pytest.raises(UnsupportedError, match="query frames: expected 1 together with index, found 2"):
        temporal_attention(*inputs.arguments)


def test_an_unfit_output_is_refused() -> None:
    inputs = make()
    shape = inputs.qkv[:, :, :, 0].shape
    with pytest.raises(InputError, match="out: expected shape"):
        temporal_attention(*inputs.arguments, out=torch.empty(shape[1:], device=DEVICE))
    with pytest.raises(UnsupportedError, match="out: expected float32"):
        temporal_attention(*inputs.arguments, out=torch.empty(shape, device=DEVICE).half())
    with pytest.raises(InputError, match="out: expected a contiguous tensor"):
        temporal_attention(*inputs.arguments, out=strided(torch.empty(shape, device=DEVICE)))
    for other in (inputs.qkv, inputs.pages):
        out = shares(other, inputs.qkv[:, :, :, 0])
        with pytest.raises(InputError, match="out: expected memory of its own"):
            temporal_attention(*inputs.arguments, out=out)


@pytest.mark.parametrize("sizes", [{"frames": 2, "written": 1}, {"queries": 3}], ids=str)
def test_operator_is_registered_right(sizes: dict[str, int]) -> None:
    inputs = make_inputs(
        torch.float32, "cpu", batch=2, positions=4, heads=2, head_width=32, window=3, **sizes
    )
    torch.library.opcheck(operator, inputs.arguments)
    if HAS_FP8:  # torch cannot compare its numbers, which "test_schema" would
        tests = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        inputs = replace(inputs, pages=to_page(inputs.pages, FP8))
        torch.library.opcheck(operator, inputs.arguments, test_utils=tests)


@with_fp8
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compilers_see_through_the_operator(backend: str, page_dtype: torch.dtype | None) -> None:
    inputs, other = (make(frames=2, written=1, page_dtype=page_dtype) for _ in range(2))

    def doubled(inputs: Inputs) -> Tensor:
        return 2 * operator(*inputs.arguments)

    compiled = torch.compile(lambda *given: 2 * operator(*given), fullgraph=True, backend=backend)
    assert torch.equal(compiled(*inputs.arguments), doubled(other))
    assert torch.equal(indexable(inputs.pages), indexable(other.pages))


TINY = ModelShape(
    tokens=16, positions=16, width=64, heads=2, head_width=32, mlp_width=64, layers=2, window=4,
    codes=8, code_width=4, patch=4, height=16, width_px=16,
)  # fmt: skip


@with_fp8
@pytest.mark.parametrize("options", [{}, {"frames": 2}, {"queries": 8}], ids=str)
def test_cases_and_their_baselines_agree(options: dict[str, int], page_dtype: torch.dtype | None) -> None:
    dtype = torch.float32 if page_dtype is None else torch.float16
    given = {"num_layers": 2, "page_dtype": page_dtype, **options}
    case = make_case("tiny", TINY, dtype, torch.device(DEVICE), **given)
    reference = case.reference()
    found = case.run()
    assert len(found) == options.get("frames", 1)
    for ours, theirs in zip(found, reference, strict=True):
        assert_close_norm(ours.float(), theirs.float(), dtype)
    assert {"sdpa", "sdpa, stacked"} <= case.baselines.keys()
    for baseline in case.baselines.values():
        assert_close_norm(baseline(), reference[0])


@with_fp8
def test_cost_counts_every_byte_once(page_dtype: torch.dtype | None) -> None:
    inputs = make(torch.float16, batch=2, frames=2, written=1)
    small = (inputs.q_weight, inputs.k_weight, inputs.bias, inputs.table, inputs.qkv)
    frame = inputs.qkv[0, 0, :, 0].numel()
    cost = kernel.cost(
        torch.float16, batch=2, frames=2, queries=7, heads=3, head_width=32, window=4, written=1,
        page_dtype=page_dtype,
    )  # fmt: skip
    # of each row: two outputs, keys and values of three pages read and of one written
    paged = 2 if page_dtype is None else 1
    assert cost.bytes == sum(x.nbytes for x in small) + 2 * (2 * 2 + (2 * 3 + 2 * 1) * paged) * frame
    assert cost.flops == 2 * 2 * 4 * (2 * 2 * frame)  # rows, queries, keys each, two products


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device with 8 GB")
def test_pages_beyond_two_billion_numbers_are_found() -> None:
    inputs = make(torch.bfloat16, positions=920, heads=36, head_width=128, window=16, num_layers=16)
    assert inputs.pages.numel() > 2**31
    check(replace(inputs, layer=15))
