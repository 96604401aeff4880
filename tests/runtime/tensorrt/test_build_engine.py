"""What TensorRT is told to build, and what is refused before it does."""

from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import BuilderFlag, MemoryPoolType, page, write_graph
from tensorrt_place import ADA, SIGNATURE, Place

from genie_rt.errors import BundleError, DeviceError
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.tensorrt.build import Built, build_engine
from genie_rt.runtime.backends.tensorrt.cache import Settings


def build_here(
    place: Place, signature: Signature = SIGNATURE, precision: str = "float32", **more: Any
) -> Built:
    settings = Settings(level=4, workspace_bytes=1 << 30)
    return build_engine(
        place.flavour, place.graph, signature, ADA, precision=precision, settings=settings, **more
    )  # fmt: skip


def test_the_network_is_strongly_typed(place: Place) -> None:
    build_here(place)
    assert ("create_network", 1 << 1) in place.trt.calls


def test_settings_reach_the_builder(place: Place) -> None:
    build_here(place)
    _, _, config = place.trt.calls[-1]
    assert config.builder_optimization_level == 4
    assert ("set_memory_pool_limit", MemoryPoolType.WORKSPACE, 1 << 30) in place.trt.calls


@pytest.mark.parametrize(("precision", "cleared"), [("float32", True), ("float16", False), ("int8", False)])
def test_float32_is_never_rounded_to_tf32(place: Place, precision: str, cleared: bool) -> None:
    build_here(place, precision=precision)
    assert (("clear_flag", BuilderFlag.TF32) in place.trt.calls) == cleared


def test_attention_may_be_spelled_out(place: Place) -> None:
    build_here(place)
    _, network, _ = place.trt.calls[-1]
    assert [layer.attention.decomposable for layer in network.layers] == [False, True]


def test_rtx_is_told_the_capability_and_nothing_that_needs_a_gpu(rtx: Place) -> None:
    built = build_here(rtx)
    _, _, config = rtx.trt.calls[-1]
    assert config.num_compute_capabilities == 1
    assert ("set_compute_capability", rtx.trt.ComputeCapability.SM89, 0) in rtx.trt.calls
    assert ("set_flag", BuilderFlag.REQUIRE_USER_ALLOCATION) in rtx.trt.calls
    assert built.timing is None
    assert not [call for call in rtx.trt.calls if call[0] == "create_timing_cache"]


def test_tensorrt_starts_from_what_it_measured(full: Place) -> None:
    built = build_here(full, timing=b"measured before")
    assert built.timing is not None and bytes(built.timing) == b"measured before+measured"
    assert not [call for call in full.trt.calls if call[0] == "set_compute_capability"]


def test_measurements_of_another_gpu_are_left(full: Place) -> None:
    built = build_here(full, timing=b"of another GPU")
    assert built.timing is not None and bytes(built.timing) == b"+measured"


def test_a_subset_may_have_any_size_up_to_all(place: Place) -> None:
    signature = Signature(
        inputs={"index": Value(dtype="int64", shape=("Q",)), "around": page(2, 9, 2, 16)},
        outputs={"candidates": Value(dtype="int64", shape=(1, "Q*S"))},
    )
    write_graph(place.path, signature)
    build_here(place, signature)
    (profile,) = [call[1] for call in place.trt.calls if call[0] == "add_optimization_profile"]
    assert profile.shapes == {"index": ((1,), (4,), (9,))}


def test_a_graph_that_cannot_be_read_says_why(place: Place) -> None:
    write_graph(place.path, SIGNATURE, missing="weights.safetensors")
    with pytest.raises(
        BundleError,
        match=r"pass\.onnx: expected a graph that .* can read, found: Failed to open file: weights",
    ) as raised:
        build_here(place)
    assert "Frobnicate node_7: no such operator" in str(raised.value)


def test_a_build_that_fails_says_why(place: Place) -> None:
    place.trt.build_fails = True
    with pytest.raises(DeviceError, match=r"pass\.onnx: .* builds none: no implementation for node_7"):
        build_here(place)


OTHERS = {
    r"input 'tokens': expected int64 \[1, 5\] .* found int64 \[1, 6\]": ("tokens", "int64", (1, 6)),
    r"input 'tokens': expected int64 \[1, 5\] .* found float32": ("tokens", "float32", (1, 5)),
    r"input 'past_1': expected float32 \[2, 8, 2, 16\] .* found none": ("past_1", "", ()),
    r"input 'action': expected none of that name .* found int64 \[1\]": ("action", "int64", (1,)),
}


@pytest.mark.parametrize("says", OTHERS)
def test_inputs_that_are_not_the_signatures_are_refused(place: Place, says: str) -> None:
    name, dtype, shape = OTHERS[says]
    inputs = {key: value for key, value in SIGNATURE.inputs.items() if key != name}
    if dtype:
        inputs[name] = Value(dtype=dtype, shape=shape)
    write_graph(place.path, Signature(inputs=inputs, outputs=SIGNATURE.outputs))
    with pytest.raises(BundleError, match=says):
        build_here(place)
    assert place.trt.builds == 0


def test_outputs_that_are_not_the_signatures_are_refused(place: Place, tmp_path: Path) -> None:
    outputs = {**SIGNATURE.outputs, "page": Value(dtype="float16", shape=(2, 8, 2, 16))}
    write_graph(place.path, Signature(inputs=SIGNATURE.inputs, outputs=outputs))
    with pytest.raises(BundleError, match=r"output 'page': expected float32 .* found float16"):
        build_here(place)
