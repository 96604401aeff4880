"""The patchify kernels move every pixel to its place, and give the reference's bytes, bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.launch import Config
from genie_rt.kernels.patchify import kernel, reference
from genie_rt.kernels.patchify import patchify as patchify_operator
from genie_rt.kernels.patchify import unpatchify as unpatchify_operator
from genie_rt.kernels.patchify.cases import (
    make_frames,
    make_patches,
    make_patchify_case,
    make_unpatchify_case,
)
from genie_rt.kernels.patchify.kernel import patchify, unpatchify
from genie_rt.kernels.shapes import ModelShape

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong

SIZES = [(8, 16, 4), (9, 16, 4), (8, 15, 4), (5, 7, 3), (1, 1, 4), (6, 5, 1), (16, 33, 16), (3, 70, 64)]
"""Height, width, patch."""


def expected_patches(frames: Tensor, patch: int, dtype: torch.dtype) -> Tensor:
    """In fp32 on the CPU, where torch divides as IEEE does, rounded once."""
    return reference.patchify(frames.cpu(), patch, torch.float32).to(dtype).to(frames.device)


def expected_pixels(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    return reference.unpatchify_to_uint8(patches.cpu(), patch, height, width).to(patches.device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width", "patch"), SIZES)
def test_pixels_become_the_reference_s_patches(
    dtype: torch.dtype, height: int, width: int, patch: int
) -> None:
    frames = make_frames(DEVICE, batch=2, time=2, height=height, width=width)
    found = patchify(frames, patch, dtype)
    assert torch.equal(found, expected_patches(frames, patch, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width", "patch"), SIZES)
def test_patches_become_the_reference_s_pixels(
    dtype: torch.dtype, height: int, width: int, patch: int
) -> None:
    patches = make_patches(dtype, DEVICE, batch=2, time=2, height=height, width=width, patch=patch)
    found = unpatchify(patches, patch, height, width)
    assert torch.equal(found, expected_pixels(patches, patch, height, width))


def neighbours(x: Tensor, count: int) -> Tensor:
    """The `count` numbers of the same dtype below `x`, itself, and those above it."""
    integer = {2: torch.int16, 4: torch.int32}[x.element_size()]
    bits = x.view(integer)[:, None] + torch.arange(-count, count + 1, dtype=integer)
    return bits.flatten().view(x.dtype)


def around_boundaries(dtype: torch.dtype) -> Tensor:
    """Values in the units of the last place around `level` and `level + 1/2`, and beyond."""
    level = torch.arange(-2, 516).double() / 2  # -1, -0.5, ... 257
    values = neighbours((level / 127.5 - 1).to(dtype), 12)
    return torch.cat([values, torch.tensor([0.0, -0.0, 1e30, -1e30, torch.inf, -torch.inf]).to(dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_boundary_between_levels_is_the_reference_s(dtype: torch.dtype) -> None:
    values = around_boundaries(dtype)
    patches = torch.nn.functional.pad(values, (0, -len(values) % 192)).view(1, 1, -1, 192).to(DEVICE)
    width = 8 * patches.shape[2]
    found = unpatchify(patches, 8, 8, width)
    assert torch.equal(found, expected_pixels(patches, 8, 8, width))
    assert len(found.unique()) == 256


def test_ties_go_to_even_levels() -> None:
    """Values that `(x + 1) * 127.5` brings to just between two levels in fp32."""
    values = around_boundaries(torch.float32)
    scaled = (values + 1) * 127.5
    ties = values[(scaled - scaled.floor() == 0.5) & (scaled > 0) & (scaled < 255)]
    ties = ties[: len(ties) // 3 * 3]
    assert len(set(((ties + 1) * 127.5).tolist())) > 100  # of 255 boundaries
    found = unpatchify(ties.view(1, 1, -1, 3).to(DEVICE), 1, 1, len(ties) // 3)
    assert (found % 2 == 0).all()


def test_every_byte_survives_the_way_there_and_back() -> None:
    frames = torch.arange(256, dtype=torch.uint8, device=DEVICE).repeat(3).view(1, 1, 16, 16, 3)
    for dtype in DTYPES:
        if dtype != torch.bfloat16:  # 8 bits of a number near 1 are too few for its halves
            assert torch.equal(unpatchify(patchify(frames, 4, dtype), 4, 16, 16), frames)


def test_nan_becomes_black() -> None:
    patches = torch.full((1, 1, 1, 48), torch.nan, device=DEVICE)
    assert not unpatchify(patches, 4, 4, 4).any()


@pytest.mark.parametrize("config", kernel.AUTOTUNE_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_of_patchify_is_right(config: Config) -> None:
    frames = make_frames(DEVICE, height=9, width=62)
    found = patchify(frames, 4, torch.float16, config=config)
    assert torch.equal(found, expected_patches(frames, 4, torch.float16))


@pytest.mark.parametrize("config", kernel.UNPATCHIFY_SPACE, ids=lambda config: str(config.arguments))
def test_every_configuration_of_unpatchify_is_right(config: Config) -> None:
    patches = make_patches(torch.float16, DEVICE, height=9, width=110, patch=4)
    found = unpatchify(patches, 4, 9, 110, config=config)
    assert torch.equal(found, expected_pixels(patches, 4, 9, 110))


def guarded(x: Tensor, fill: float, room: int = 512) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of `x` in the middle of other memory, and whether that is still as it was."""
    memory = torch.full((room + x.numel() + room,), fill, dtype=x.dtype, device=x.device)
    inner = memory[room:-room].view(x.shape)
    inner.copy_(x)

    def untouched() -> bool:
        around = torch.cat([memory[:room], memory[-room:]]).double()
        return bool(around.isnan().all() if fill != fill else (around == fill).all())

    return inner, untouched


def test_nothing_outside_is_read_or_written() -> None:
    frames = make_frames(DEVICE, time=2, height=9, width=15) % 200
    patches = expected_patches(frames, 4, torch.float32)
    inside, frames_whole = guarded(frames, 255)
    out, out_whole = guarded(torch.empty_like(patches), torch.nan)
    assert patchify(inside, 4, torch.float32, out=out) is out
    assert torch.equal(out, patches) and frames_whole() and out_whole()
    back, back_whole = guarded(torch.zeros_like(frames), 255)
    assert unpatchify(out, 4, 9, 15, out=back) is back
    assert torch.equal(back, frames) and back_whole() and out_whole()


def test_no_frames_are_no_patches() -> None:
    assert patchify(make_frames(DEVICE, batch=0, height=8, width=8), 4, torch.float32).shape == (0, 1, 4, 48)
    none = make_patches(torch.float32, DEVICE, time=0, height=8, width=8, patch=4)
    assert unpatchify(none, 4, 8, 8).shape == (1, 0, 8, 8, 3)


def strided(x: Tensor) -> Tensor:
    """`x`, every second number of its memory."""
    return torch.stack([x, x], -1)[..., 0]


Change = Callable[[Tensor, Tensor], dict[str, Any]]
"""Of the frames or patches and the output of a sound call: which of its arguments to change."""

REFUSED: dict[str, tuple[Change, type[GenieError], str]] = {
    "frames' dtype": (lambda x, out: {"frames": x.int()}, UnsupportedError, "frames"),
    "frames' rank": (lambda x, out: {"frames": x[0]}, InputError, "frames"),
    "frames' channels": (lambda x, out: {"frames": x[..., :2].contiguous()}, InputError, "frames"),
    "frames' strides": (lambda x, out: {"frames": strided(x)}, InputError, "contiguous"),
    "no lines": (lambda x, out: {"frames": x[:, :, :0]}, UnsupportedError, "height: expected 1 to 16384"),
    "too wide": (lambda x, out: {"frames": x.new_empty(1, 1, 1, 16385, 3)}, UnsupportedError, "width"),
    "patch": (lambda x, out: {"patch": 0}, UnsupportedError, "patch: expected 1 to 64, found 0"),
    "large patch": (lambda x, out: {"patch": 65}, UnsupportedError, "patch"),
    "dtype": (lambda x, out: {"dtype": torch.float64}, UnsupportedError, "dtype"),
    "out's dtype": (lambda x, out: {"out": out.half()}, UnsupportedError, "out: expected float32"),
    "out's shape": (lambda x, out: {"out": out[:, :, 1:].contiguous()}, InputError, "out"),
    "out's strides": (lambda x, out: {"out": strided(out)}, InputError, "out"),
    "out's device": (lambda x, out: {"out": out.to("meta")}, InputError, "out"),
    "shared memory": (
        lambda x, out: {"frames": out.view(torch.uint8).view(-1)[: x.numel()].view(x.shape)},
        InputError,
        "out: expected memory of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_patchify_cannot_take_is_refused_untouched(name: str) -> None:
    frames = make_frames(DEVICE, height=8, width=8)
    out = torch.full((1, 1, 4, 48), 7.0, device=DEVICE)
    change, error, message = REFUSED[name]
    arguments = {"frames": frames, "patch": 4, "dtype": torch.float32, "out": out} | change(frames, out)
    with pytest.raises(error, match=message):
        patchify(**arguments)
    assert (out == 7).all()


REFUSED_BACK: dict[str, tuple[Change, type[GenieError], str]] = {
    "patches' dtype": (lambda x, out: {"patches": x.double()}, UnsupportedError, "patches"),
    "patches' rank": (lambda x, out: {"patches": x[0]}, InputError, "patches"),
    "patches' strides": (lambda x, out: {"patches": strided(x)}, InputError, "contiguous"),
    "patches' number": (lambda x, out: {"patches": x[:, :, 1:].contiguous()}, InputError, "patches"),
    "patches' width": (lambda x, out: {"patches": x[..., 1:].contiguous()}, InputError, "patches"),
    "another size": (
        lambda x, out: {"height": 9},
        InputError,
        r"patches: expected shape .*6, 48\]",
    ),
    "patch": (lambda x, out: {"patch": 0}, UnsupportedError, "patch"),
    "height": (lambda x, out: {"height": 0}, UnsupportedError, "height"),
    "width": (lambda x, out: {"width": 2**14 + 1}, UnsupportedError, "width"),
    "out's dtype": (lambda x, out: {"out": out.int()}, UnsupportedError, "out: expected uint8"),
    "out's shape": (lambda x, out: {"out": out[:, :, 1:].contiguous()}, InputError, "out"),
    "out's strides": (lambda x, out: {"out": strided(out)}, InputError, "out"),
    "out's device": (lambda x, out: {"out": out.to("meta")}, InputError, "out"),
    "shared memory": (
        lambda x, out: {"out": x.view(torch.uint8).view(-1)[: out.numel()].view(out.shape)},
        InputError,
        "out: expected memory of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED_BACK)
def test_what_unpatchify_cannot_take_is_refused_untouched(name: str) -> None:
    patches = make_patches(torch.float32, DEVICE, height=8, width=8, patch=4)
    out = torch.full((1, 1, 8, 8, 3), 7, dtype=torch.uint8, device=DEVICE)
    before = patches.clone()
    change, error, message = REFUSED_BACK[name]
    arguments = {"patches": patches, "patch": 4, "height": 8, "width": 8, "out": out} | change(patches, out)
    with pytest.raises(error, match=message):
        unpatchify(**arguments)
    assert (out == 7).all() and torch.equal(patches, before)


@pytest.mark.parametrize("patch", [1, 4])
def test_operators_are_registered_right(patch: int) -> None:
    frames = make_frames("cpu", time=2, height=9, width=8)
    patches = make_patches(torch.float32, "cpu", time=2, height=9, width=8, patch=patch)
    torch.library.opcheck(patchify_operator, (frames, patch, torch.float16))
    torch.library.opcheck(unpatchify_operator, (patches, patch, 9, 8))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compilers_see_through_the_operators(backend: str) -> None:
    frames = make_frames(DEVICE, height=9, width=8)

    def there_and_back(frames: Tensor) -> Tensor:
        return unpatchify_operator(-patchify_operator(frames, 4, torch.float32), 4, 9, 8)

    compiled = torch.compile(there_and_back, fullgraph=True, backend=backend)
    assert torch.equal(compiled(frames), there_and_back(frames))


TINY = ModelShape(
    tokens=12, positions=12, width=64, heads=2, head_width=32, mlp_width=64, layers=2, window=4,
    codes=8, code_width=4, patch=4, height=10, width_px=16,
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_cases_and_their_baselines_agree(dtype: torch.dtype) -> None:
    device = torch.device(DEVICE)
    there = make_patchify_case("tiny", TINY, 2, dtype, device)
    (found,), (expected,) = there.run(), there.reference()
    assert (found - expected).abs().max() < 1e-3  # half a unit in the last place of fp16 below 1
    assert all((call() - expected).abs().max() < 1e-3 for call in there.baselines.values())
    back = make_unpatchify_case("tiny", TINY, 2, dtype, device)
    (found,), (expected,) = back.run(), back.reference()
    assert torch.equal(found, expected)
    assert all(torch.equal(call(), expected) for call in back.baselines.values())


def test_cost_counts_every_byte_once() -> None:
    frames = make_frames(DEVICE, time=2, height=9, width=15)
    patches = expected_patches(frames, 4, torch.float16)
    assert kernel.cost(2, 9, 15, 4, torch.float16).bytes == frames.nbytes + patches.nbytes
    assert kernel.cost(2, 9, 15, 4, torch.float16, back=True).bytes == 3 * frames.nbytes  # 1 and 2 bytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device with 16 GB")
def test_frames_beyond_two_billion_numbers_are_found() -> None:
    frames = make_frames(DEVICE, time=700, height=1024, width=1024)
    patches = patchify(frames, 4, torch.float16)
    assert patches.numel() > 2**31
    assert torch.equal(patches[:, -1:], expected_patches(frames[:, -1:], 4, torch.float16))
    assert torch.equal(unpatchify(patches, 4, 1024, 1024)[:, -1:], frames[:, -1:])
