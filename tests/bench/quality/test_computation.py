"""What computes a world: by name, and emulated where there is no GPU."""

from typing import Any

import pytest
import torch

from genie_rt.bench.quality.computation import Computation, load_emulated
from genie_rt.errors import ConfigError, GenieError, InputError, UnsupportedError
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.reference import ReferenceBackend

OWN = Computation(backend="reference", dtype="float32", device="cpu")


def test_what_is_left_open_is_found_out() -> None:
    assert Computation.of("reference", "float32", None) == OWN
    assert Computation.of("reference", "float64", "cpu").name == "reference float64"
    emulated = Computation.of("cuda", "int8", None, emulate=True)
    assert emulated == Computation(backend="cuda", dtype="int8", device="cpu", emulated=True)
    assert emulated.name == "cuda int8 (emulated)"
    assert Computation.of("reference", "float32", None, emulate=True) == OWN  # nothing of it is cuda's


def test_auto_is_settled_before_it_is_written_down(no_library: None) -> None:
    """Without graphs, on a CPU, that is the definition."""
    assert Computation.of("auto", "auto", "cpu") == OWN


def test_others_are_named_by_back_end_and_dtype_or_one_of_them() -> None:
    assert OWN.versus("reference:bfloat16", None).dtype == "bfloat16"
    assert OWN.versus("float64", None) == Computation.of("reference", "float64", None)
    same = OWN.versus("cuda", None, emulate=True)
    assert (same.backend, same.dtype, same.emulated) == ("cuda", "float32", True)
    assert same.versus("fp8", None, emulate=True).name == "cuda fp8 (emulated)"


@pytest.mark.parametrize("name", ["tpu", "tpu:int8", "int9", "", ":", "reference:", "float32:float32"])
def test_unknown_names_are_refused(name: str) -> None:
    if name == "reference:":  # nothing after the colon is this dtype, as `bench --versus` has it
        assert OWN.versus(name, None) == OWN
        return
    with pytest.raises(InputError, match=r"--versus: expected some of reference:float64, .*cuda:int8"):
        OWN.versus(name, None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("tpu", "float32", None), UnsupportedError, "unknown back end 'tpu'"),
        (("reference", "int8", None), UnsupportedError, "does not compute in 'int8'"),
        (("cuda", "float64", None), UnsupportedError, "does not compute in 'float64'"),
        (("cuda", "int8", "cuda"), InputError, "--emulate computes on the CPU, found --device cuda"),
    ],
)
def test_what_cannot_be_computed_is_refused(arguments: Any, error: type[GenieError], message: str) -> None:
    with pytest.raises(error, match=message):
        Computation.of(*arguments, emulate=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to compute on")
def test_nothing_is_emulated_unless_asked() -> None:
    with pytest.raises(UnsupportedError, match="cuda"):
        Computation.of("cuda", "int8", None)


def test_an_emulated_world_computes_in_its_precision_on_the_cpu() -> None:
    world = OWN.versus("cuda:int8", None, emulate=True).load("demo")
    assert isinstance(world.backend, CudaBackend) and world.dtype == "int8"
    assert world.backend.precision.name == "int8" and world.backend.device.type == "cpu"
    assert isinstance(OWN.load("demo").backend, ReferenceBackend)
    with pytest.raises(ConfigError, match="int9"):
        load_emulated("demo", "int9")
