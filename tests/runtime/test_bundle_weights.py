"""Weights that were touched anywhere are refused before a model is built from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_bundle import CONFIG, SHAPES, TENSOR, edit, seal

from genie_rt.errors import BundleError
from genie_rt.runtime.bundle import load_weights, open_bundle
from genie_rt.runtime.config import (
    to_dict,
)
from genie_rt.runtime.model.world_model import parameter_shapes


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = dict(load_file(folder / "weights.safetensors"))
    change(tensors)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    (folder / "weights.safetensors").unlink()  # the tensors are views of the old file
    save_file(tensors, folder / "weights.safetensors")
    seal(folder)


def with_value(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[TENSOR] = tensors[TENSOR].clone()
        tensors[TENSOR].view(-1)[-1] = value

    return change


def test_weights_come_in_the_expected_order_and_shape(folder: Path) -> None:
    weights = load_weights(open_bundle(folder), SHAPES)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == SHAPES
    assert list(weights) == list(SHAPES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_either_dtype_is_read_for_any_tensor(folder: Path, dtype: torch.dtype) -> None:
    rewrite(folder, lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))
    weights = load_weights(open_bundle(folder), SHAPES)
    assert {weight.dtype for weight in weights.values()} == {dtype}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda tensors: tensors.pop(TENSOR), (f"{TENSOR!r} is missing",)),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), ("'extra' is unknown",)),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors)[:5]],
            ("and 4 more is missing",),
        ),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR].T.contiguous()}), ("[8, 4]", "[4, 8]")),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR].flatten()}), ("[8, 4]", "[32]")),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR][None]}), ("[8, 4]", "[1, 8, 4]")),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR].half()}), ("F32 or BF16", "F16")),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR].double()}), ("F32 or BF16", "F64")),
        (lambda tensors: tensors.update({TENSOR: tensors[TENSOR].int()}), ("F32 or BF16", "I32")),
        (with_value(float("nan")), ("found 1 NaN or Inf",)),
        (with_value(float("-inf")), ("found 1 NaN or Inf",)),
    ],
)
def test_a_wrong_tensor(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], parts: tuple[str, ...]
) -> None:
    rewrite(folder, change)
    bundle = open_bundle(folder)
    with pytest.raises(BundleError) as caught:
        load_weights(bundle, SHAPES)
    for part in ("weights.safetensors", *parts):
        assert part in str(caught.value)
    if "missing" not in parts[0] and "unknown" not in parts[0]:
        assert TENSOR in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: (10**15).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"?" + data[9:],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data.replace(b'"shape":[8,4]', b'"shape":[9,4]'),
        lambda data: b"\x80\x04\x95" + data,
    ],
)
def test_a_corrupt_header(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    seal(folder)
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        load_weights(bundle, SHAPES)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 6000), mask=st.integers(1, 255))
def test_random_damage_to_a_header_gives_nothing_but_bundle_errors(
    folder: Path, pristine: Path, where: int, mask: int
) -> None:
    data = bytearray((pristine / "weights.safetensors").read_bytes())
    data[where] ^= mask
    (folder / "weights.safetensors").unlink(missing_ok=True)
    (folder / "weights.safetensors").write_bytes(data)
    seal(folder)
    bundle = open_bundle(folder)
    try:
        weights = load_weights(bundle, SHAPES)  # two tensors of one shape may have swapped names, say
    except BundleError as error:
        assert "weights.safetensors" in str(error)
        return
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_weights_that_vanish_after_opening(folder: Path) -> None:
    bundle = open_bundle(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        load_weights(bundle, SHAPES)


def test_a_config_of_another_model_is_noticed_by_its_shapes(folder: Path) -> None:
    other = to_dict(CONFIG)
    other["tokenizer"]["codebook_size"] = 16
    edit(folder, lambda values: values.update(config=other))
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match="expected shape"):
        load_weights(bundle, parameter_shapes(bundle.config))
