"""What is chosen where a back end or a number format is left open."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends import registry
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.backends.select import EVERYTHING, Choice, Holdings
from genie_rt.runtime.manifest import GraphManifest
from genie_rt.runtime.world import World

BOTH = ("float32", "int8")
EXPORTED = {spec.name: spec.needs for spec in BACKENDS.values() if spec.runs_graphs and spec.needs}


def graphs(*precisions: str, **changes: float) -> GraphManifest:
    return GraphManifest(opset=23, precisions=precisions, psnr_change_db=changes)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which of the packages that run graphs are there, and with "native" that our library is."""

    def install(*names: str) -> None:
        real = importlib.util.find_spec

        def find(name: str) -> Any:
            return (name in names or None) if name in EXPORTED.values() else real(name)

        monkeypatch.setattr(registry, "find_spec", find)
        library = Path("libgenie_rt.so") if "native" in names else None
        monkeypatch.setattr(registry, "find_library", lambda: library)

    return install


@pytest.mark.parametrize(
    ("packages", "found", "expected"),
    [
        ((), graphs(*BOTH, int8=0.1), ("reference", "float32")),
        (("onnxruntime",), None, ("reference", "float32")),
        (("onnxruntime",), graphs("float32"), ("onnx", "float32")),
        (("onnxruntime", "openvino"), graphs("float32"), ("openvino", "float32")),
        (("onnxruntime", "openvino"), graphs(*BOTH, int8=0.1), ("openvino", "int8")),
        (("onnxruntime",), graphs(*BOTH, int8=0.1), ("onnx", "int8")),
        (("onnxruntime", "openvino"), graphs(*BOTH, int8=0.51), ("openvino", "float32")),
        (("onnxruntime", "openvino"), graphs(*BOTH, int8=-0.51), ("openvino", "float32")),
        (("onnxruntime", "openvino"), graphs(*BOTH), ("openvino", "float32")),  # nobody measured int8
        (("onnxruntime", "openvino"), graphs("float32", int8=0.1), ("openvino", "float32")),
        (("onnxruntime", "openvino"), graphs("float32", bfloat16=0.1), ("openvino", "bfloat16")),
        (("onnxruntime",), graphs("float16", float16=0.1), ("onnx", "float16")),
        (("onnxruntime",), graphs("float32", "float16", float16=0.1), ("onnx", "float32")),
    ],
)
def test_the_fastest_that_is_there_and_known_to_be_good_is_taken(
    installed: Callable[..., None],
    packages: tuple[str, ...],
    found: GraphManifest | None,
    expected: tuple[str, str],
) -> None:
    installed(*packages)
    choice = Choice.of("auto", "auto", None, Holdings(graphs=found))
    assert (choice.backend, choice.dtype, choice.device) == (*expected, torch.device("cpu"))


@pytest.mark.parametrize(
    ("packages", "found", "has_limits", "expected"),
    [
        (("native", "onnxruntime", "openvino"), graphs(*BOTH, int8=0.1), True, ("native", "int8")),
        (("native",), graphs(*BOTH, int8=0.1), True, ("native", "int8")),
        (("native",), graphs("float32", int8=0.1), True, ("native", "int8")),  # it runs no graphs
        (("native", "openvino"), graphs(*BOTH, int8=0.1), False, ("openvino", "int8")),
        (("native", "openvino"), graphs(*BOTH, int8=0.51), True, ("native", "float32")),
        (("native", "openvino"), graphs(*BOTH), True, ("native", "float32")),  # nobody measured int8
        (("native", "openvino"), graphs("float32", bfloat16=0.1), False, ("openvino", "bfloat16")),
        (("native",), None, True, ("native", "float32")),
        (("openvino",), graphs(*BOTH, int8=0.1), True, ("openvino", "int8")),
    ],
)
def test_our_own_engine_takes_int8_where_the_bundle_says_how_and_how_good_it_is(
    installed: Callable[..., None],
    packages: tuple[str, ...],
    found: GraphManifest | None,
    has_limits: bool,
    expected: tuple[str, str],
) -> None:
    installed(*packages)
    choice = Choice.of("auto", "auto", None, Holdings(graphs=found, has_limits=has_limits))
    assert (choice.backend, choice.dtype) == expected


@pytest.mark.parametrize(("has_limits", "expected"), [(True, "int8"), (False, "float32")])
def test_our_own_engine_by_name_takes_no_int8_without_limits(
    installed: Callable[..., None], has_limits: bool, expected: str
) -> None:
    installed("native", "openvino")
    holdings = Holdings(graphs=graphs(*BOTH, int8=0.1), has_limits=has_limits)
    assert Choice.of("native", "auto", None, holdings).dtype == expected
    wanted = "native" if has_limits else "openvino"
    assert Choice.of("auto", "int8", None, holdings).backend == wanted


def test_a_library_that_is_missing_can_be_built(installed: Callable[..., None]) -> None:
    installed()
    assert Choice.of("auto", "auto", None, EVERYTHING).backend == "reference"
    with pytest.raises(
        UnsupportedError, match=r"needs our C library, which is not there: build it .* native"
    ):
        Choice.of("native", "int8", None, EVERYTHING)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("auto", "int8"), ("openvino", "int8")),  # it was asked for
        (("auto", "bfloat16"), ("openvino", "bfloat16")),
        (("auto", "float64"), ("reference", "float64")),
        (("onnx", "auto"), ("onnx", "float32")),
        (("onnx", "int8"), ("onnx", "int8")),
        (("reference", "auto"), ("reference", "float32")),
        (("reference", "bfloat16"), ("reference", "bfloat16")),
    ],
)
def test_what_is_asked_for_is_what_is_taken(
    installed: Callable[..., None], asked: tuple[str, str], expected: tuple[str, str]
) -> None:
    installed("onnxruntime", "openvino")
    choice = Choice.of(*asked, None, Holdings(graphs=graphs(*BOTH, int8=2.0)))
    assert (choice.backend, choice.dtype) == expected


def test_float16_of_any_back_end_is_onnx_where_there_are_such_graphs(installed: Callable[..., None]) -> None:
    installed("onnxruntime", "openvino")
    choice = Choice.of("auto", "float16", None, Holdings(graphs=graphs("float32", "float16")))
    assert (choice.backend, choice.dtype) == ("onnx", "float16")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_named_back_end_takes_no_format_by_itself_that_has_no_graphs(
    installed: Callable[..., None], backend: str
) -> None:
    installed("onnxruntime", "openvino")
    assert Choice.of(backend, "auto", None, Holdings(graphs=graphs("float32", int8=0.1))).dtype == "float32"


@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16", "float64", "auto"])
def test_before_a_bundle_is_open_nothing_is_refused_that_its_graphs_may_allow(
    installed: Callable[..., None], dtype: str
) -> None:
    installed("onnxruntime", "openvino")
    Choice.of("auto", dtype, None, EVERYTHING)


def test_a_world_is_loaded_in_a_format_that_only_its_graphs_have(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("onnxruntime")
    monkeypatch.setattr(Choice, "build", lambda choice, *rest, **options: choice)
    found: Any = World.load("demo", dtype="int8").backend
    assert (found.backend, found.dtype) == ("onnx", "int8")
    with pytest.raises(UnsupportedError, match="not compute in 'float16'"):
        World.load("demo", dtype="float16")  # it has no such graphs


def test_a_format_that_nothing_here_computes_in_names_what_would(installed: Callable[..., None]) -> None:
    installed()
    for dtype, able in (("int8", "native, cuda, onnx, openvino, tensorrt, tensorrt-rtx"), ("fp8", "cuda")):
        with pytest.raises(
            UnsupportedError, match=f"not compute in '{dtype}': .* Back ends that do: {able};"
        ):
            Choice.of("auto", dtype, "cpu", EVERYTHING)


@pytest.mark.parametrize("backend", EXPORTED)
def test_a_package_that_is_missing_is_named(installed: Callable[..., None], backend: str) -> None:
    installed()
    with pytest.raises(UnsupportedError) as caught:
        Choice.of(backend, "float32", "cpu", Holdings(graphs=graphs("float32")))
    assert install_hint(backend) in str(caught.value)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_is_not_taken_to_run_on_a_cpu(installed: Callable[..., None], backend: str) -> None:
    installed(*EXPORTED.values())
    with pytest.raises(UnsupportedError, match="needs a CUDA device, found cpu"):
        Choice.of(backend, "float32", "cpu")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_random_weights_have_no_graphs(installed: Callable[..., None], backend: str) -> None:
    installed(*EXPORTED.values())
    with pytest.raises(
        UnsupportedError, match='random weights have none: take "reference", "native" or "cuda"'
    ):
        World.random("demo", backend=backend)


@pytest.mark.parametrize(
    ("backend", "dtype"), [("onnx", "float64"), ("openvino", "float16"), ("cuda", "float64")]
)
def test_a_format_that_a_back_end_lacks_is_named(backend: str, dtype: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Choice.of(backend, dtype, "cpu")
    assert f"does not compute in {dtype!r}: expected one of {', '.join(BACKENDS[backend].dtypes)}" in str(
        caught.value
    )
