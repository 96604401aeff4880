"""Precisions by name, and the GPUs that have them."""

import dataclasses

import pytest
import torch

from genie_rt.errors import ConfigError, UnsupportedError
from genie_rt.runtime.backends.cuda.precision import Precision

NAMES = {
    "fp32": (torch.float32, torch.float32),
    "bf16": (torch.bfloat16, torch.bfloat16),
    "fp16": (torch.float16, torch.float16),
    "fp8": (torch.bfloat16, torch.float8_e4m3fn),
    "int8": (torch.bfloat16, torch.int8),
    "fp64": (torch.float64, torch.float64),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_numbers_there_are(name: str) -> None:
    found = Precision.of(name)
    assert found.name == name
    assert (found.activations, found.weights) == NAMES[name]
    assert found.quantised == (name in ("fp8", "int8"))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("float64", "fp64")],
)
def test_torchs_names_mean_the_same(theirs: str, ours: str) -> None:
    assert Precision.of(theirs) is Precision.of(ours)


@pytest.mark.parametrize("name", ["fp4", "", "FP32", "float8_e4m3fn", "torch.float32"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"expected one of fp32, bf16, fp16, fp8, int8, .*float16"
    ) as raised:
        Precision.of(name)
    assert str(raised.value).endswith(f"found {name!r}")


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("fp8", "bf16"),
        ("int8", "bf16"),
        ("bf16", "bf16"),
        ("fp16", "fp16"),
        ("fp32", "fp32"),
        ("fp64", "fp64"),
    ],
)
def test_what_is_not_quantised_has_the_numbers_of_the_activations(name: str, dense: str) -> None:
    assert Precision.of(name).dense is Precision.of(dense)


def test_a_precision_does_not_change_and_holds_together() -> None:
    precision = Precision.of("fp8")
    with pytest.raises(dataclasses.FrozenInstanceError):
        precision.weights = torch.int8  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"weights: expected torch\.bfloat16"):
        dataclasses.replace(precision, weights=torch.float16)
    for dtype in (torch.int32, torch.float8_e4m3fn):
        with pytest.raises(ConfigError, match="activations: expected a floating dtype"):
            Precision(name="odd", activations=dtype, weights=dtype)


@pytest.mark.parametrize(
    ("name", "lowest"), [("fp8", 89), ("int8", 80), ("bf16", 80), ("fp16", 75), ("fp32", 75)]
)
def test_a_gpu_that_can_is_let_through(name: str, lowest: int) -> None:
    for capability in (0, lowest, 90, 100, 121):
        Precision.of(name).check(capability)


@pytest.mark.parametrize(
    ("name", "capability", "message"),
    [
        ("fp8", 80, "fp8 needs compute capability 8.9 or later, this GPU has 8.0; use int8 or bf16"),
        ("fp8", 86, "fp8 needs compute capability 8.9 or later, this GPU has 8.6; use int8 or bf16"),
        ("fp8", 75, "fp8 needs compute capability 8.9 or later, this GPU has 7.5; use fp16 or fp32"),
        ("int8", 75, "int8 needs compute capability 8.0 or later, this GPU has 7.5; use fp16 or fp32"),
        ("bf16", 75, "bf16 needs compute capability 8.0 or later, this GPU has 7.5; use fp16 or fp32"),
        ("fp64", 90, "fp64 is for a CPU: the kernels have no float64; use fp32"),
    ],
)
def test_a_gpu_that_cannot_is_told_in_one_line(name: str, capability: int, message: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        Precision.of(name).check(capability)
    assert str(raised.value) == message


def test_every_precision_runs_on_a_cpu() -> None:
    for name in NAMES:
        Precision.of(name).check(0)
