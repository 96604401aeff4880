"""The look-up kernels find the nearest code but for near ties, and stay inside their memory."""

from typing import Any

import pytest
import torch
from guards import guarded, guards
from makers import make_tensor
from torch import Tensor
from torch.nn.functional import normalize

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.launch import Config, Trial
from genie_rt.kernels.shapes import SHAPES
from genie_rt.kernels.vq_lookup import kernel, reference
from genie_rt.kernels.vq_lookup import vq_lookup as lookup_operator
from genie_rt.kernels.vq_lookup.cases import LARGE, cases
from genie_rt.kernels.vq_lookup.cases import make_inputs as make_inputs_on
from genie_rt.kernels.vq_lookup.kernel import (
    AUTOTUNE_SPACE,
    AUTOTUNE_SPACE_FEW,
    AUTOTUNE_SPACE_MERGE,
    num_splits,
    score_error,
    vq_lookup,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong
METRICS = pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "euclidean"])
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def make_inputs(num_rows: int, num_codes: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return make_inputs_on(num_rows, num_codes, width, dtype, torch.device(DEVICE))


def random_inputs(num_rows: int, num_codes: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Vectors that are near to no code."""
    x = make_tensor(num_rows, width, dtype=dtype, seed=1)
    codebook = make_tensor(num_codes, width, seed=2) * 10 ** make_tensor(num_codes, 1, seed=3)
    return x.to(DEVICE), codebook.to(DEVICE, dtype)


def missing(x: Tensor, codebook: Tensor, cosine: bool, found: Tensor) -> Tensor:
    """By how much the found code's score is below the best, in units of what rounding may hide: at most 1."""
    x, codebook = x.double(), codebook.double()
    squares = codebook.square().sum(-1)
    lengths = x.norm(dim=-1, keepdim=True)
    if cosine:
        scores, unit = x @ normalize(codebook, dim=-1).mT, lengths.expand(-1, len(codebook))
    else:
        scores, unit = x @ codebook.mT - squares / 2, lengths * squares.sqrt() + squares
    best = scores.argmax(-1, keepdim=True)
    gap = (scores.gather(1, best) - scores.gather(1, found[:, None]))[:, 0]
    hidden = score_error(x.shape[1]) * (unit.gather(1, best) + unit.gather(1, found[:, None]))[:, 0]
    return gap / hidden.clamp_min(1e-300)


@METRICS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(37, 300, 32), (5, 40, 4), (1, 1, 7), (18, 130, 48), (3, 128, 256)])
def test_vectors_find_the_code_that_they_are_near_to(
    dtype: torch.dtype, size: tuple[int, int, int], cosine: bool
) -> None:
    x, codebook, near = make_inputs(*size, dtype)
    found = vq_lookup(x, codebook, cosine)
    assert found.dtype == torch.int64
    assert torch.equal(found, near)
    assert torch.equal(found, reference.vq_lookup(x, codebook, cosine))


@METRICS
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_near_ties_are_decided_otherwise(dtype: torch.dtype, cosine: bool) -> None:
    x, codebook = random_inputs(96, 520, 24, dtype)
    found = vq_lookup(x, codebook, cosine)
    assert missing(x, codebook, cosine, found).max() <= 1


@METRICS
def test_what_tf32_could_not_tell_apart_is_told_apart(cosine: bool) -> None:
    width = 32
    x = normalize(make_tensor(16, width), dim=-1)
    codes = normalize(x + 0.3 * make_tensor(16, width, seed=1) * width**-0.5, dim=-1)
    turned = normalize(codes + 20 * score_error(width) * x, dim=-1)  # a little nearer to x
    codebook = torch.stack([codes, turned], 1).view(32, width)
    wide = normalize(codebook.float().double(), dim=-1)
    gap = (x * (wide[1::2] - wide[::2])).sum(-1)
    assert gap.min() > 0 and gap.max() < 2.0**-12  # a rounding to TF32 is up to 2**-11
    found = vq_lookup(x.float().to(DEVICE), codebook.float().to(DEVICE), cosine)
    assert found.tolist() == list(range(1, 32, 2))


@METRICS
@pytest.mark.parametrize("splits", [None, 3])
def test_the_lowest_index_wins_a_tie(cosine: bool, splits: int | None) -> None:
    x, codebook, near = make_inputs(20, 100, 16, torch.float32)
    if DEVICE == "cpu":  # the interpreter's BLAS may round equal columns differently: whole numbers are exact
        x, codebook = (4 * x).round(), (4 * codebook).round()
        near = reference.vq_lookup(x.double(), codebook.double(), cosine)
    partials = None if splits is None else torch.empty(2, splits, 20, device=DEVICE)
    found = vq_lookup(x, codebook.repeat(4, 1), cosine, partials=partials)
    assert torch.equal(found, near)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@METRICS
def test_odd_vectors_get_a_code(cosine: bool) -> None:
    x, codebook, near = make_inputs(6, 150, 16, torch.float32)
    x[0], x[1], x[2, 3] = 0, torch.nan, torch.inf
    codebook[0], codebook[140, 2] = 0, torch.nan
    found = vq_lookup(x, codebook, cosine)
    assert found[0] == 0 and found[1] == 0
    assert 0 <= found[2] < 150
    sound = (near[3:] != 0) & (near[3:] != 140)
    assert torch.equal(found[3:][sound], near[3:][sound])


def test_lengths_count_nothing_for_cosines() -> None:
    x, codebook, near = make_inputs(12, 60, 16, torch.float32)
    lengths = 10 ** torch.linspace(-9, 9, 60, device=DEVICE)[:, None]
    for scale in (1e-8, 1e8):
        assert torch.equal(vq_lookup(scale * x, lengths * codebook, True), near)


@pytest.mark.parametrize(
    ("x_dtype", "code_dtype"), [(torch.float16, torch.float32), (torch.float32, torch.float16)]
)
def test_formats_may_differ(x_dtype: torch.dtype, code_dtype: torch.dtype) -> None:
    x, codebook = random_inputs(20, 150, 40, torch.float32)
    x, codebook = x.to(x_dtype), codebook.to(code_dtype)
    assert missing(x, codebook, True, vq_lookup(x, codebook, True)).max() <= 1


@METRICS
@pytest.mark.parametrize("splits", [1, 2, 5])
def test_splits_find_the_same(splits: int, cosine: bool) -> None:
    x, codebook = random_inputs(33, 300, 16, torch.float32)
    partials, whole = guards(2, splits, 33, dtype=torch.float32, device=DEVICE)
    found = vq_lookup(x, codebook, cosine, partials=partials)
    assert torch.equal(found, vq_lookup(x, codebook, cosine))
    assert whole()


def test_more_splits_than_codes_do_no_harm() -> None:
    x, codebook, near = make_inputs(5, 3, 16, torch.float32)
    x[0] = torch.nan
    found = vq_lookup(x, codebook, True, partials=torch.empty(2, 4, 5, device=DEVICE))
    assert found[0] == 0 and torch.equal(found[1:], near[1:])


def test_codes_are_split_where_rows_are_few_and_codes_many() -> None:
    assert num_splits(920, 1024, 16, 132) == 1
    assert num_splits(1, 1024, 16, 132) == 1
    assert num_splits(256, 16384, 16, 132) == 8
    assert num_splits(920, 16384, 16, 132) == 4
    assert num_splits(4096, 16384, 16, 132) == 1
    assert num_splits(14720, 65536, 64, 132) == 1
    assert num_splits(1, 65536, 16, 132) == 32


def test_many_rows_take_another_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codebook, near = make_inputs(70, 100, 16, torch.float32)
    monkeypatch.setattr(kernel, "FEW_ROWS", 69)
    with Trial() as trial:
        assert torch.equal(vq_lookup(x, codebook, True), near)
    assert [name for name, _ in trial.asked if name.startswith("vq")][-1] == "vq_lookup"


@METRICS
@pytest.mark.parametrize("size", [(9, 37, 5), (3, 130, 40)])
def test_nothing_outside_is_read_or_written(size: tuple[int, int, int], cosine: bool) -> None:
    x, codebook, near = make_inputs(*size, torch.float16)
    (x, x_whole), (codebook, codebook_whole) = guarded(x), guarded(codebook)
    indices, indices_whole = guards(size[0], dtype=torch.int64, device=DEVICE)
    assert vq_lookup(x, codebook, cosine, out=indices) is indices
    assert torch.equal(indices, near)
    assert x_whole() and codebook_whole() and indices_whole()


@pytest.mark.parametrize("config", AUTOTUNE_SPACE + AUTOTUNE_SPACE_FEW, ids=str)
def test_every_configuration_is_right(config: Config) -> None:
    x, codebook = random_inputs(18, 140, 48, torch.float32)
    assert missing(x, codebook, True, vq_lookup(x, codebook, True, config=config)).max() <= 1


@pytest.mark.parametrize("config", AUTOTUNE_SPACE_MERGE, ids=str)
def test_every_configuration_of_the_merge_is_right(config: Config) -> None:
    x, codebook, near = make_inputs(40, 260, 16, torch.float32)
    with Trial(configs={("vq_merge", "splits2"): config}):
        found = vq_lookup(x, codebook, True, partials=torch.empty(2, 2, 40, device=DEVICE))
    assert torch.equal(found, near)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x": torch.ones(3, 8, dtype=torch.float64)}, UnsupportedError),
        ({"x": torch.ones(1, 3, 8)}, InputError),
        ({"x": torch.ones(8, 3).T}, InputError),
        ({"x": torch.ones(0, 8)}, UnsupportedError),
        ({"x": torch.ones(3, 0), "codebook": torch.ones(5, 0)}, UnsupportedError),
        ({"x": torch.ones(3, 257), "codebook": torch.ones(5, 257)}, UnsupportedError),
        ({"codebook": torch.ones(5, 7)}, InputError),
        ({"codebook": torch.ones(0, 8)}, UnsupportedError),
        ({"codebook": torch.ones(65537, 8)}, UnsupportedError),
        ({"codebook": torch.ones(8, 5).T}, InputError),
        ({"codebook": torch.ones(5, 8, dtype=torch.int32)}, UnsupportedError),
        ({"codebook": torch.ones(5, 8, device="meta")}, InputError),
        ({"out": torch.ones(3, dtype=torch.int32)}, UnsupportedError),
        ({"out": torch.ones(4, dtype=torch.int64)}, InputError),
        ({"out": torch.ones(6, dtype=torch.int64)[::2]}, InputError),
        ({"partials": torch.ones(2, 65, 3)}, UnsupportedError),
        ({"partials": torch.ones(2, 0, 3)}, UnsupportedError),
        ({"partials": torch.ones(2, 2, 4)}, InputError),
        ({"partials": torch.ones(2, 2, 3, dtype=torch.float16)}, UnsupportedError),
    ],
    ids=lambda value: None if isinstance(value, type) else next(iter(value)),
)
def test_lookups_that_cannot_be_are_refused(changes: dict[str, Any], error: type[GenieError]) -> None:
    given = {"x": torch.ones(3, 8), "codebook": torch.ones(5, 8)} | changes
    given = {name: x if x.device.type == "meta" else x.to(DEVICE) for name, x in given.items()}
    with pytest.raises(error, match="expected"):
        vq_lookup(**given, cosine=True)
    assert "out" not in given or given["out"].eq(1).all()


def test_outputs_that_overlap_are_refused() -> None:
    memory = torch.ones(64, device=DEVICE)
    x, codebook = memory[:24].view(3, 8), memory[24:64].view(5, 8)
    for out in (memory[:6].view(torch.int64), memory[30:36].view(torch.int64)):
        with pytest.raises(InputError, match="overlaps"):
            vq_lookup(x, codebook, True, out=out)
    with pytest.raises(InputError, match="overlaps"):
        vq_lookup(x, codebook, True, partials=memory[20:32].view(2, 2, 3))
    assert memory.eq(1).all()


def test_the_operator_is_sound() -> None:
    x, codebook, _ = (tensor.cpu() for tensor in make_inputs(5, 9, 8, torch.float32))
    for cosine in (True, False):
        torch.library.opcheck(lookup_operator, (x, codebook, cosine))


def test_compilation_sees_through_the_operator() -> None:
    def found_code(x: Tensor, codebook: Tensor) -> Tensor:
        return 2 * codebook[lookup_operator(x, codebook, True)]

    x, codebook, _ = make_inputs(5, 9, 8, torch.float32)
    compiled = torch.compile(found_code, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, codebook), found_code(x, codebook))


def test_cases_are_right_and_count_their_work() -> None:
    lookup = next(cases(torch.float32, torch.device(DEVICE)))
    assert lookup.cost.flops == 2 * 256 * 1024 * 16
    assert lookup.cost.bytes == 256 * (16 * 4 + 8) + 1024 * 16 * 4
    assert torch.equal(lookup.run()[0], lookup.reference()[0])
    for baseline in lookup.baselines.values():
        assert torch.equal(baseline(), lookup.reference()[0])


@METRICS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_decides_nothing_in_the_cases(dtype: torch.dtype, cosine: bool) -> None:
    sizes = {(shape.codes, shape.code_width) for shape in SHAPES.values()} | {LARGE}
    for size in sorted(sizes):
        x, codebook, near = make_inputs(256, *size, dtype)
        assert torch.equal(reference.vq_lookup(x, codebook, cosine), near)
        assert torch.equal(reference.vq_lookup(x.double(), codebook.double(), cosine), near)


@pytest.mark.gpu
@needs_cuda
@METRICS
def test_the_operator_launches_the_kernels(cosine: bool) -> None:
    for num_rows, num_codes in ((920, 1024), (920, 16384), (14720, 16384)):
        for dtype in DTYPES:
            x, codebook, near = make_inputs(num_rows, num_codes, 32, dtype)
            assert torch.equal(lookup_operator(x, codebook, cosine), near)


@pytest.mark.gpu
@needs_cuda
def test_scores_are_never_all_in_memory() -> None:
    x, codebook, _ = make_inputs(14720, 16384, 32, torch.bfloat16)
    vq_lookup(x, codebook, True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    vq_lookup(x, codebook, True)
    assert torch.cuda.max_memory_allocated() - before < 2**20
