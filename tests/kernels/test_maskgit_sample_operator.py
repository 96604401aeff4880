"""What a decision refuses, its operator as torch sees it, and the library calls that it is compared with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.maskgit_sample import maskgit_sample as operator
from genie_rt.kernels.maskgit_sample.cases import MARGIN, baselines, make_decisive, make_inputs
from genie_rt.kernels.maskgit_sample.kernel import maskgit_sample
from genie_rt.kernels.maskgit_sample.reference import decide, decide_with

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Change = Callable[[dict[str, Any]], dict[str, Any]]


def transposed(x: Tensor) -> Tensor:
    """The same numbers in another layout."""
    return x.mT.contiguous().mT


REFUSED: dict[str, tuple[Change, type[GenieError]]] = {
    "fp64 logits": (lambda x: {"logits": x["logits"].double()}, UnsupportedError),
    "rank of logits": (lambda x: {"logits": x["logits"][0]}, InputError),
    "layout of logits": (lambda x: {"logits": transposed(x["logits"])}, InputError),
    "too many codes": (lambda x: {"logits": x["logits"].repeat(1, 1, 257)}, UnsupportedError),
    "no codes": (lambda x: {"logits": x["logits"][..., :0]}, UnsupportedError),
    "logits of some": (lambda x: {"logits": x["logits"][:, :40].contiguous()}, InputError),
    "int32 tokens": (lambda x: {"tokens": x["tokens"].int()}, UnsupportedError),
    "rows of tokens": (lambda x: {"tokens": x["tokens"][:1]}, InputError),
    "layout of tokens": (lambda x: {"tokens": transposed(x["tokens"])}, InputError),
    "rows of seeds": (lambda x: {"seeds": x["seeds"][:1]}, InputError),
    "float seeds": (lambda x: {"seeds": x["seeds"].float()}, UnsupportedError),
    "layout of frames": (lambda x: {"frames": x["frames"].repeat_interleave(2)[::2]}, InputError),
    "negative pass": (lambda x: {"pass_index": -1}, InputError),
    "pass beyond the last": (lambda x: {"pass_index": 25}, InputError),
    "temperature 0": (lambda x: {"temperature": 0.0}, InputError),
    "infinite temperature": (lambda x: {"temperature": float("inf")}, InputError),
    "NaN for a temperature": (lambda x: {"temperature": float("nan")}, InputError),
    "rows of places": (lambda x: {"places": make_places()[:1].expand(3, -1)}, InputError),
    "number of places": (lambda x: {"places": make_places()[:, :9]}, InputError),
    "int16 places": (lambda x: {"places": make_places().short()}, UnsupportedError),
    "gaps in places": (lambda x: {"places": transposed(make_places())}, InputError),
    "targets alone": (lambda x: {"noise": None}, InputError),
    "noise alone": (lambda x: {"targets": None}, InputError),
    "passes alone": (lambda x: {"targets": None, "noise": None}, InputError),
    "int64 targets": (lambda x: {"targets": x["targets"].long()}, UnsupportedError),
    "shape of noise": (lambda x: {"noise": x["noise"][1:]}, InputError),
    "int64 passes": (lambda x: {"passes": x["passes"].long()}, UnsupportedError),
    "rows of passes": (lambda x: {"passes": x["passes"][:1]}, InputError),
    "threshold without passes": (lambda x: {"threshold": 0.5, "passes": None}, InputError),
    "threshold and places": (lambda x: {"threshold": 0.5, "places": make_places()}, InputError),
    "short scratch": (lambda x: {"scratch": x["passes"].new_zeros(383)}, InputError),
    "float scratch": (lambda x: {"scratch": x["noise"].new_zeros(384)}, UnsupportedError),
    "shape of out": (lambda x: {"out": x["tokens"][:1].clone()}, InputError),
    "tokens that are seeds": (lambda x: {"seeds": x["tokens"][0, :2]}, InputError),
    "scratch in the logits": (lambda x: {"scratch": x["logits"].view(torch.int32)}, InputError),
    "passes that are targets": (lambda x: {"passes": x["targets"][0, :2]}, InputError),
    "out beside the tokens": (
        lambda x: {"tokens": (both := x["tokens"].repeat(2, 1))[:2], "out": both[1:3]}, InputError
    ),
}  # fmt: skip
"""Arguments that do not go with the others, which are those of an adaptive plan's second pass."""

if DEVICE == "cuda":
    REFUSED["another device"] = (lambda x: {"seeds": x["seeds"].cpu()}, InputError)


def make_places() -> Tensor:
    return torch.arange(48, dtype=torch.int32, device=DEVICE).repeat(2, 1)


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name: str) -> None:
    change, error = REFUSED[name]
    given = make_inputs(torch.float32, DEVICE, adaptive=True, pass_index=1).fresh()
    given |= change(given)
    before = {key: x.clone() for key, x in given.items() if isinstance(x, Tensor)}
    with pytest.raises(error):
        maskgit_sample(**given)
    assert all(torch.equal(given[key], x) for key, x in before.items())


@pytest.mark.skipif(DEVICE == "cuda", reason="a CPU tensor is refused where Triton compiles")
def test_the_operator_on_a_cpu_is_the_reference() -> None:
    inputs = make_inputs(torch.float64, "cpu", adaptive=True, threshold=0.5)
    found, expected = inputs.fresh(), inputs.fresh()
    operator(**found)
    decide(**expected)
    assert torch.equal(found["tokens"], expected["tokens"])
    assert torch.equal(found["passes"], expected["passes"])


@pytest.mark.parametrize(
    "sizes",
    [{"adaptive": True, "threshold": 0.5}, {"num_places": 9, "ranked": False}],
    ids=["adaptive", "known"],
)
def test_the_operator_is_registered_right(sizes: dict[str, Any]) -> None:
    inputs = make_inputs(torch.float32, "cpu", num_tokens=12, num_codes=8, **sizes)
    torch.library.opcheck(operator, (), inputs.fresh())
    compiled = torch.compile(lambda given: operator(**given), fullgraph=True, backend="aot_eager")
    found = inputs.fresh()
    compiled(found)
    expected = inputs.fresh()
    decide(**expected)
    assert torch.equal(found["tokens"], expected["tokens"])


def test_baselines_decide_what_the_reference_decides() -> None:
    for sizes in ({}, {"adaptive": True, "threshold": 0.5}, {"num_places": 9, "ranked": False}):
        inputs = make_inputs(torch.float32, "cpu", **sizes)
        tokens, _ = baselines(inputs)["eager"]()
        expected = inputs.fresh(logits=inputs.logits.double())
        decide(**expected)
        assert torch.equal(tokens, expected["tokens"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_decides_nothing_in_the_cases(dtype: torch.dtype) -> None:
    """Uniforms that are off by as much as the margin allows give the same tokens; before, they do not."""
    kinds: list[dict[str, Any]] = [
        {"adaptive": True, "threshold": 0.5}, {"num_places": 400, "ranked": False},
        {"num_decided": 200, "pass_index": 15},
    ]  # fmt: skip
    differs = []
    for sizes in kinds:
        inputs = make_inputs(dtype, "cpu", num_tokens=500, num_codes=1024, num_rows=8, **sizes)
        wide = inputs.drawn(logits=inputs.logits.double())
        moved = {"u": (wide["u"].double() + 0.9 * MARGIN).clamp(max=1 - 2**-30)}
        differs.append(not torch.equal(decide_with(**wide)[0], decide_with(**wide | moved)[0]))
        make_decisive(inputs)
        wide = inputs.drawn(logits=inputs.logits.double())
        expected = decide_with(**wide)
        for sign in (-1, 1):
            moved = {"u": (wide["u"].double() + 0.9 * sign * MARGIN).clamp(0, 1 - 2**-30)}
            found = decide_with(**wide | moved)
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
        narrow = decide_with(**inputs.drawn(logits=inputs.logits.float()))
        assert torch.equal(narrow[0], expected[0]) and torch.equal(narrow[1], expected[1])
    assert any(differs)
