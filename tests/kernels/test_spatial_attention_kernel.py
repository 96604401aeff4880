"""The spatial attention kernels equal their reference, for all positions, for some, and whatever is kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from makers import make_tensor
from torch import Tensor

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.launch import Config
from genie_rt.kernels.shapes import ModelShape
from genie_rt.kernels.spatial_attention import kernel
from genie_rt.kernels.spatial_attention import spatial_attention as operator
from genie_rt.kernels.spatial_attention.cases import Inputs, make_case, make_inputs
from genie_rt.kernels.spatial_attention.kernel import spatial_attention
from genie_rt.kernels.spatial_attention.reference import spatial_attention as attention
from genie_rt.kernels.spatial_attention.reference import spatial_attention_kept

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong


def make(dtype: torch.dtype = torch.float32, **sizes: Any) -> Inputs:
    given = {"positions": 7, "heads": 2, "head_width": 32} | sizes
    return make_inputs(dtype, DEVICE, **given)


def check(inputs: Inputs, **options: Any) -> Tensor:
    """Runs the kernel and compares its output, and what it kept."""
    wide = inputs.widened()
    expected = spatial_attention_kept(*wide.arguments)
    found = spatial_attention(*inputs.arguments, **options)
    assert found.dtype == inputs.qkv.dtype
    assert_close_norm(found, expected)
    if inputs.kept is not None and wide.kept is not None:
        assert_close_norm(inputs.kept, wide.kept)
    return found


def positions_of(inputs: Inputs) -> Tensor:
    assert inputs.index is not None
    return inputs.index.long()


def kept_of(inputs: Inputs) -> Tensor:
    assert inputs.kept is not None
    return inputs.kept


# The reference.


def test_reference_of_all_positions_is_attention() -> None:
    qkv, weights = make_tensor(2, 5, 3, 2, 6), (make_tensor(6, seed=1), make_tensor(6, seed=2))
    assert torch.equal(spatial_attention_kept(qkv, *weights), attention(*qkv.unbind(2), *weights))


def test_reference_attends_to_what_is_kept_of_the_others() -> None:
    qkv, weights = make_tensor(2, 5, 3, 2, 6), (make_tensor(6, seed=1), make_tensor(6, seed=2))
    new = make_tensor(2, 2, 3, 2, 6, seed=3)
    kept = torch.empty(2, 2, 5, 2, 6, dtype=torch.float64)
    spatial_attention_kept(qkv, *weights, None, kept)
    index = torch.tensor([[4, 1], [0, 2]], dtype=torch.int32)
    found = spatial_attention_kept(new, *weights, index, kept)
    k, v = qkv[:, :, 1].clone(), qkv[:, :, 2].clone()
    for frame in range(2):
        k[frame, index[frame].long()], v[frame, index[frame].long()] = new[frame, :, 1], new[frame, :, 2]
    assert_close_norm(found, attention(new[:, :, 0], k, v, *weights))


def test_reference_wants_kept_with_an_index() -> None:
    with pytest.raises(InputError, match="kept"):
        spatial_attention_kept(*replace(make(queries=3), kept=None).arguments)


# The kernels.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes",
    [
        {"positions": 64, "head_width": 64},
        {"frames": 2, "positions": 37, "heads": 1},
        {"positions": 130, "heads": 1},
        {"frames": 2, "heads": 3, "head_width": 128},
        {"positions": 1, "heads": 1},
        {"positions": 37, "heads": 3, "head_width": 64, "keep": True},
        {"frames": 3, "positions": 5, "queries": 5},
        {"frames": 2, "positions": 67, "queries": 33, "index_rows": 2},
        {"positions": 16, "heads": 4, "head_width": 128, "queries": 1},
    ],
    ids=str,
)
def test_kernel_is_its_reference(dtype: torch.dtype, sizes: dict[str, Any]) -> None:
    check(make(dtype, **sizes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_keeping_does_not_change_the_result(dtype: torch.dtype) -> None:
    inputs = make(dtype, frames=2, positions=19, keep=True)
    config = (kernel.FP32 if dtype == torch.float32 else kernel.KERNEL).space[0]
    out = spatial_attention(*inputs.arguments, config=config)
    assert torch.equal(out, spatial_attention(*replace(inputs, kept=None).arguments, config=config))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_positions_by_their_index_give_what_all_positions_give(dtype: torch.dtype) -> None:
    """The two modes differ by one rounding of the keys."""
    inputs = make(dtype, frames=2, positions=19, keep=True)
    out = spatial_attention(*inputs.arguments)
    kept = kept_of(inputs).clone()
    order = torch.arange(19, device=DEVICE, dtype=torch.int32).flip(0)[None].contiguous()
    turned = replace(inputs, qkv=inputs.qkv.flip(1).contiguous(), index=order)
    kept_of(inputs).fill_(torch.nan)
    assert_close_norm(spatial_attention(*turned.arguments).flip(1), out)
    assert torch.equal(kept_of(inputs), kept)


def test_only_the_indexed_positions_are_replaced() -> None:
    inputs = make(torch.float16, frames=2, positions=11, queries=4, index_rows=2)
    before = kept_of(inputs).clone()
    check(inputs)
    changed = (kept_of(inputs) != before).flatten(3).any(-1)  # [F, 2, P]
    for frame in range(2):
        assert changed[frame, :, positions_of(inputs)[frame]].all()
    assert changed.sum() == 2 * 2 * 4


def test_positions_that_do_not_exist_replace_nothing() -> None:
    inputs = make(frames=2, positions=11, queries=4, index_rows=2)
    assert inputs.index is not None
    inputs.index[0, 1:3] = torch.tensor([-1, 11])
    inputs.index[1] = torch.tensor([2**31 - 1, -(2**31), 10, 22])
    check(inputs)


@pytest.mark.parametrize("config", kernel.AUTOTUNE_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_is_right(config: Config) -> None:
    check(make(torch.float16, positions=131, queries=21, heads=1), config=config)
    check(make(torch.float16, positions=21, heads=1, keep=True), config=config)


@pytest.mark.parametrize("config", kernel.FP32_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_of_fp32_is_right(config: Config) -> None:
    check(make(positions=35, queries=33, heads=1, head_width=128), config=config)


@pytest.mark.parametrize("config", kernel.REPLACE_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_of_the_replacement_is_right(config: Config) -> None:
    check(make(frames=2, positions=35, queries=11, heads=3), replace_config=config)


@pytest.mark.parametrize("sizes", [{}, {"keep": True}, {"queries": 3}], ids=str)
def test_weights_in_fp32_go_with_narrow_activations(sizes: dict[str, Any]) -> None:
    inputs = make(torch.float16, **sizes)
    wide = {name: getattr(inputs, name).float() * 1.001 for name in ("q_weight", "k_weight")}
    check(replace(inputs, **wide))


def test_the_length_of_queries_and_keys_does_not_matter_and_may_be_nothing() -> None:
    inputs = make(positions=70, heads=1)
    inputs.qkv[:, :, 0] *= 1e4
    inputs.qkv[:, :, 1] *= torch.logspace(-12, 12, 70, device=DEVICE)[None, :, None, None]
    inputs.qkv[:, 3, :2] = 0
    inputs.qkv[:, -1, 1] = 0
    check(inputs)


def test_sharp_attention_does_not_overflow() -> None:
    inputs = make(positions=70, heads=1)
    inputs.q_weight.mul_(40)  # scores of several hundred; their rounding is relative, that of 2^s is not
    inputs.k_weight.mul_(40)
    expected = spatial_attention_kept(*inputs.widened().arguments)
    found = spatial_attention(*inputs.arguments)
    assert_close_norm(found, expected, factor=100)


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    inputs = make(torch.float16, frames=3, positions=9, queries=5)
    out = spatial_attention(*inputs.arguments)
    for frame in range(3):
        one = replace(inputs, qkv=inputs.qkv[frame : frame + 1], kept=kept_of(inputs)[frame : frame + 1])
        assert torch.equal(spatial_attention(*one.arguments)[0], out[frame])


def guarded(x: Tensor, fill: float, room: int = 512) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of `x` in the middle of other memory, and whether that is still as it was."""
    memory = torch.full((room + x.numel() + room,), fill, dtype=x.dtype, device=x.device)
    inner = memory[room:-room].view(x.shape)
    inner.copy_(x)

    def untouched() -> bool:
        around = torch.cat([memory[:room], memory[-room:]]).double()
        return bool(around.isnan().all() if fill != fill else (around == fill).all())

    return inner, untouched


@pytest.mark.parametrize("sizes", [{}, {"keep": True}, {"queries": 5}], ids=str)
def test_nothing_outside_is_read_or_written(sizes: dict[str, Any]) -> None:
    inputs = make(torch.float16, frames=2, positions=13, heads=1, **sizes)
    watched = {}
    for name in ("qkv", "q_weight", "k_weight", "index", "kept"):
        if getattr(inputs, name) is not None:
            watched[name] = guarded(getattr(inputs, name), 0 if name == "index" else torch.nan)
    placed = replace(inputs, **{name: x for name, (x, _) in watched.items()})
    out, whole = guarded(torch.empty_like(inputs.qkv[:, :, 0]), torch.nan)
    assert check(placed, out=out) is out
    assert whole() and all(untouched() for _, untouched in watched.values())


def test_nothing_to_do_is_done() -> None:
    inputs = make(queries=3)
    assert inputs.index is not None
    nothing = replace(inputs, qkv=inputs.qkv[:, :0], index=inputs.index[:, :0])
    assert spatial_attention(*nothing.arguments).shape == (1, 0, 2, 32)


def strided(x: Tensor) -> Tensor:
    """`x`, every second number of its memory."""
    return torch.stack([x, x], -1)[..., 0]


def shares(memory: Tensor, x: Tensor) -> Tensor:
    """The start of `memory` in the shape of `x`."""
    return memory.view(-1)[: x.numel()].view(x.shape)


REFUSED: dict[str, tuple[Callable[[Inputs], dict[str, Any]], type[GenieError], str]] = {
    "qkv's dtype": (lambda i: {"qkv": i.qkv.double()}, UnsupportedError, "qkv"),
    "qkv's rank": (lambda i: {"qkv": i.qkv[0]}, InputError, "qkv"),
    "qkv's parts": (lambda i: {"qkv": i.qkv[:, :, :2].contiguous()}, InputError, "qkv"),
    "qkv's strides": (lambda i: {"qkv": strided(i.qkv)}, InputError, "contiguous"),
    "qkv's queries": (lambda i: {"qkv": i.qkv[:, 1:].contiguous()}, InputError, "index"),
    "head width": (lambda i: {"qkv": i.qkv[..., :16].contiguous()}, UnsupportedError, "head width"),
    "too wide": (
        lambda i: {"qkv": i.qkv.new_empty(1, 1, 3, 1025, 32), "kept": None, "index": None},
        UnsupportedError,
        r"H \* Dh: expected 1 to 32768, found 32800",
    ),
    "too many positions": (
        lambda i: {"qkv": i.qkv.new_empty(1, 4097, 3, 1, 32), "kept": None, "index": None},
        UnsupportedError,
        "positions: expected 1 to 4096, found 4097",
    ),
    "no positions": (
        lambda i: {"qkv": i.qkv[:, :0], "kept": None, "index": None},
        UnsupportedError,
        "positions",
    ),
    "weight's size": (lambda i: {"q_weight": i.q_weight[:-1]}, InputError, "q_weight"),
    "weight's dtype": (lambda i: {"k_weight": i.k_weight.half()}, UnsupportedError, "k_weight"),
    "weight's strides": (lambda i: {"k_weight": strided(i.k_weight)}, InputError, "k_weight"),
    "index's dtype": (lambda i: {"index": positions_of(i)}, UnsupportedError, "index"),
    "index's length": (lambda i: {"index": i.qkv.new_zeros(2, 4).int()}, InputError, "index"),
    "index's rows": (lambda i: {"index": i.qkv.new_zeros(3, 5).int()}, InputError, "found 3"),
    "index's strides": (lambda i: {"index": strided(i.qkv.new_zeros(2, 5).int())}, InputError, "index"),
    "index alone": (lambda i: {"kept": None}, InputError, "kept"),
    "kept without index": (lambda i: {"index": None}, InputError, "all 7 positions of kept, found 5"),
    "kept's dtype": (lambda i: {"kept": kept_of(i).half()}, UnsupportedError, "kept"),
    "kept's frames": (lambda i: {"kept": kept_of(i)[:1]}, InputError, "kept"),
    "kept's strides": (lambda i: {"kept": strided(kept_of(i))}, InputError, "kept"),
    "kept's device": (lambda i: {"kept": kept_of(i).to("meta")}, InputError, "kept"),
    "shared memory": (
        lambda i: {"qkv": shares(kept_of(i), i.qkv[:1]), "kept": kept_of(i)[:1], "index": i.index},
        InputError,
        "kept: expected memory of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernel_cannot_take_is_refused_untouched(name: str) -> None:
    inputs = make(frames=2, queries=5)
    change, error, message = REFUSED[name]
    refused = replace(inputs, **change(inputs))
    before, out = kept_of(inputs).clone(), torch.full_like(inputs.qkv[:, :, 0], 7)
    with pytest.raises(error, match=message):
        spatial_attention(*refused.arguments, out=out)
    assert torch.equal(kept_of(inputs), before) and (out == 7).all()


def test_an_unfit_output_is_refused() -> None:
    inputs = make(queries=5)
    before = kept_of(inputs).clone()
    shape = inputs.qkv[:, :, 0].shape
    with pytest.raises(InputError, match="out: expected shape"):
        spatial_attention(*inputs.arguments, out=torch.empty(shape[1:], device=DEVICE))
    with pytest.raises(UnsupportedError, match="out: expected float32"):
        spatial_attention(*inputs.arguments, out=torch.empty(shape, device=DEVICE).half())
    with pytest.raises(InputError, match="out: expected a contiguous tensor"):
        spatial_attention(*inputs.arguments, out=strided(torch.empty(shape, device=DEVICE)))
    for other in (inputs.qkv, kept_of(inputs)):
        with pytest.raises(InputError, match="out: expected memory of its own"):
            spatial_attention(*inputs.arguments, out=shares(other, inputs.qkv[:, :, 0]))
    assert torch.equal(kept_of(inputs), before)


@pytest.mark.parametrize("sizes", [{}, {"keep": True}, {"queries": 3}], ids=str)
def test_operator_is_registered_right(sizes: dict[str, Any]) -> None:
    inputs = make_inputs(torch.float32, "cpu", frames=2, positions=5, heads=2, head_width=32, **sizes)
    torch.library.opcheck(operator, inputs.arguments)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("sizes", [{}, {"keep": True}, {"queries": 3}], ids=str)
def test_compilers_see_through_the_operator(backend: str, sizes: dict[str, Any]) -> None:
    inputs, other = make(**sizes), make(**sizes)
    compiled = torch.compile(lambda *given: 2 * operator(*given), fullgraph=True, backend=backend)
    assert torch.equal(compiled(*inputs.arguments), 2 * operator(*other.arguments))
    if inputs.kept is not None:
        assert torch.equal(inputs.kept, kept_of(other))


TINY = ModelShape(
    tokens=20, positions=20, width=64, heads=2, head_width=32, mlp_width=64, layers=2, window=4,
    codes=8, code_width=4, patch=4, height=16, width_px=20,
)  # fmt: skip


@pytest.mark.parametrize("options", [{"frames": 2}, {"keep": True}, {"queries": 8}], ids=str)
def test_cases_and_their_baselines_agree(options: dict[str, Any]) -> None:
    case = make_case("tiny", TINY, torch.float32, torch.device(DEVICE), **options)
    reference = case.reference()
    found = case.run()
    assert len(found) == (1 if "frames" in options else 2)
    for ours, theirs in zip(found, reference, strict=True):
        assert_close_norm(ours, theirs)
    assert case.baselines
    for baseline in case.baselines.values():
        assert_close_norm(baseline(), reference[0])


@pytest.mark.parametrize("sizes", [{}, {"keep": True}, {"queries": 3}], ids=str)
def test_cost_counts_every_byte_once(sizes: dict[str, Any]) -> None:
    inputs = make(torch.float16, frames=2, **sizes)
    queries = inputs.qkv.shape[1]
    found = kernel.cost(2, queries, 7, 2, 32, torch.float16, indexed="queries" in sizes, keep="keep" in sizes)
    tensors = [x for x in inputs.arguments if x is not None] + [inputs.qkv[:, :, 0]]
    assert found.bytes == sum(x.numel() * x.element_size() for x in tensors)
    assert found.flops == 2 * 2 * 2 * (2 * queries * 7 * 32)  # frames, heads, two products


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device with 12 GB")
def test_frames_beyond_two_billion_numbers_are_found() -> None:
    inputs = make(torch.bfloat16, frames=170, positions=920, heads=36, head_width=128)
    assert inputs.qkv.numel() > 2**31
    last = replace(inputs, qkv=inputs.qkv[-1:])
    assert torch.equal(spatial_attention(*inputs.arguments)[-1:], spatial_attention(*last.arguments))
