"""What the C library's engine of ONNX Runtime refuses: libraries, providers and graphs."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from ctypes import c_int32, c_void_p
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_graphs import FILE, MODEL, hostile_graphs, node, within
from makers import make_model, make_pictures
from safetensors.torch import save_file
from tiny_bundle import edit, seal, write_tiny_bundle

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from graph_world import (
    CONFIGS,
    GRAPH_PLANS,
    OTHER_PLANS,
    SEED,
    GraphWorld,
    onnxruntime_library,
    python_session,
    write,
)

from genie_rt.errors import BundleError, DeviceError, GenieError, InputError, UnsupportedError
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.write import write_graphs
from genie_rt.runtime.backends.exported.onnx_model import read_model, write_model
from genie_rt.runtime.backends.native import header
from genie_rt.runtime.backends.native.handles import NativeSession
from genie_rt.runtime.backends.native.library import load_library
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.linears import linear_names

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "runtime" / "bundles" / "demo"
TOOL = ROOT / "out" / "native" / "tests" / "check_graph"

pytestmark = pytest.mark.skipif(
    not BACKENDS["native"].is_installed, reason="the C library is not built: make native"
)


@pytest.fixture
def tampered(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy to tamper with."""
    out = tmp_path / "bundle"
    out.mkdir()
    for path in bundle_of("padded pages").rglob("*"):
        to = out / path.relative_to(bundle_of("padded pages"))
        to.mkdir() if path.is_dir() else to.write_bytes(path.read_bytes())
    return out


def refused(error: type[GenieError], folder: Path, *parts: str, **changes: Any) -> None:
    with pytest.raises(error) as caught:
        GraphWorld(folder, **changes)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_a_library_that_is_missing_or_another(tmp_path: Path) -> None:
    refused(
        UnsupportedError, DEMO, "expected the library of ONNX Runtime at", "nowhere.so",
        onnxruntime_library=str(tmp_path / "nowhere.so").encode(),
    )  # fmt: skip
    refused(
        UnsupportedError, DEMO, "no function OrtGetApiBase in it",
        onnxruntime_library=str(load_library().path).encode(),
    )  # fmt: skip
    empty = tmp_path / "empty.so"
    empty.write_bytes(b"")
    refused(UnsupportedError, DEMO, "found none (", onnxruntime_library=str(empty).encode())


PROVIDERS = {
    "CUDA": "CUDA", "TensorRT": "TensorRT", "WebGPU": "WebGPU", "NoSuchThing": "NoSuchThing",
    "XNNPACKExecutionProvider": "XNNPACKExecutionProvider",
}  # fmt: skip


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_is_not_there_is_no_reason_to_take_the_cpu(provider: str) -> None:
    import onnxruntime

    theirs = {"TensorRT": "Tensorrt", "WebGPU": "WebGpu"}.get(provider, provider)
    if any(name.startswith(theirs) for name in onnxruntime.get_available_providers()):
        pytest.skip(f"{provider} is there")
    refused(
        UnsupportedError, DEMO, f"expected ONNX Runtime with the provider {provider}, found ",
        "CPUExecutionProvider", "it is not in this library", onnxruntime_provider=provider.encode(),
    )  # fmt: skip


def test_the_cpu_may_be_asked_for_by_name(bundle_of: Callable[[str], Path]) -> None:
    for name in (b"", b"CPU", b"CPUExecutionProvider"):
        assert GraphWorld(bundle_of("without a past"), onnxruntime_provider=name).info.num_tokens == 15


def test_a_plug_in_that_does_not_open(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.so", onnxruntime_library()):  # the latter is no plug-in
        refused(
            UnsupportedError, DEMO, str(path)[:100], "a plug-in of ONNX Runtime with the provider Fast",
            onnxruntime_provider=b"Fast", onnxruntime_plugin=str(path).encode(),
        )  # fmt: skip
    refused(InputError, DEMO, "expected the name of the provider", onnxruntime_plugin=b"plug-in.so")


def test_threads_are_its_own() -> None:
    runs = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_void_p, c_void_p)(lambda *_: None)
    refused(
        UnsupportedError, DEMO, "parallel_for: expected none",
        parallel_for=ctypes.cast(runs, c_void_p).value,
    )  # fmt: skip


def test_a_bundle_without_graphs(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny")
    refused(BundleError, folder, "expected the graph encode.onnx, found none", "--onnx`")
    refused(UnsupportedError, folder, "int8", precision="int8")


def test_int8_without_graphs_is_not_played_in_float(tampered: Path) -> None:
    for path in tampered.glob("*.int8.onnx"):
        path.unlink()

    def change(values: dict[str, Any]) -> None:
        values["files"] = {name: own for name, own in values["files"].items() if ".int8." not in name}
        values["graphs"] |= {"precisions": ["float32"], "bounds": {}}

    edit(tampered, change)
    refused(UnsupportedError, tampered, "int8", precision="int8")
    assert GraphWorld(tampered, precision="auto").info.precision == header.PRECISIONS["float32"]


def test_auto_is_int8_where_there_are_graphs(bundle_of: Callable[[str], Path]) -> None:
    world = GraphWorld(bundle_of("padded pages"), precision="auto")
    assert world.info.precision == header.PRECISIONS["int8"]


def swap(folder: Path, one: str, other: str) -> None:
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def copy_over(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_files_that_are_not_those_of_the_record(tampered: Path) -> None:
    """The size is looked at first, then the hash."""
    whole = (tampered / "pass.onnx").read_bytes()
    flip(tampered / "pass.onnx")
    refused(BundleError, tampered, "pass.onnx: expected sha256")
    truncate(tampered / "pass.onnx")
    refused(BundleError, tampered, "pass.onnx: expected", "bytes, found")
    (tampered / "pass.onnx").unlink()
    refused(BundleError, tampered, "pass.onnx", "found nothing of that name")
    (tampered / "pass.onnx").write_bytes(whole)
    GraphWorld(tampered)


FORGERIES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "swapped": (lambda folder: swap(folder, "commit.onnx", "pass.onnx"), "commit.onnx: input 'previous'"),
    "another plan": (
        lambda folder: swap(folder, "frame-default.onnx", "frame-random.onnx"),
        "frame-default.onnx: input 'u': expected float32 [3, 15] for the model of this bundle, found",
    ),
    "truncated": (lambda folder: truncate(folder / "decode.onnx"), "decode.onnx: expected a graph as"),
    "empty": (lambda folder: copy_over(folder, "encode.onnx", b""), "no graph of the standard"),
    "no graph": (
        lambda folder: copy_over(folder, "pass-at.onnx", (folder / "weights.safetensors").read_bytes()),
        "pass-at.onnx: expected a graph as",
    ),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_graphs_that_a_forger_has_sealed(forgery: str, tampered: Path) -> None:
    forge, says = FORGERIES[forgery]
    forge(tampered)
    seal(tampered)
    refused(BundleError, tampered, says)


def test_a_graph_with_an_operator_more_than_it_should_have(tampered: Path) -> None:
    path = tampered / "encode.onnx"
    model = read_model(path.read_bytes(), 10_000)
    path.write_bytes(write_model(replace(model, nodes=(node("Loop", "frame"), *model.nodes))))
    seal(tampered)
    refused(BundleError, tampered, "encode.onnx: expected a graph", "the operator 'Loop', which no exported")


def test_weights_of_another_name(tampered: Path) -> None:
    """So that no graph computes with what it was not made for."""
    path = tampered / "decode.onnx"
    model = read_model(path.read_bytes(), 10_000)
    first, second, *rest = model.stored
    others = [tensor for tensor in model.initializers if not tensor.is_stored]
    moved = replace(first, offset=second.offset)
    path.write_bytes(write_model(replace(model, initializers=(*others, moved, second, *rest))))
    seal(tampered)
    refused(
        BundleError, tampered, f"the weight '{first.name}'", "weights.safetensors does not have like this"
    )


def write_loud(folder: Path, config: ModelConfig) -> None:
    """A bundle whose dynamics overflows, in its second layer."""
    write(folder, config)
    weights = make_model(config, dtype=torch.float32).state_dict()
    for name in ("temporal.out", "down"):
        weights[f"dynamics.transformer.blocks.1.{name}.weight"] *= 1e38
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "weights.safetensors")
    for path in folder.glob("*.onnx"):
        path.unlink()
    write_graphs(  # weights lie elsewhere in the file now
        folder, config, GRAPH_PLANS, precisions=("float32", "int8"), frame_plans=tuple(GRAPH_PLANS),
        quantisation=Quantisation(amax=dict.fromkeys(linear_names(config), 3.0), kept_float=frozenset()),
    )  # fmt: skip
    seal(folder)


def test_what_overflows_is_told_by_its_layer(tmp_path: Path) -> None:
    folder, config = tmp_path / "loud", CONFIGS["padded pages"]
    write_loud(folder, config)
    for plan in (GRAPH_PLANS["default"], OTHER_PLANS["longer"], OTHER_PLANS["fresh"]):
        session, theirs = NativeSession(GraphWorld(folder)), python_session(folder, "float32")
        session.set_plan(plan)
        theirs.plan = plan
        session.reset(torch.from_numpy(make_pictures(config, 1)), [], SEED)
        theirs.reset(make_pictures(config, 1)[0])
        before = session.save()
        with pytest.raises(DeviceError) as caught:
            session.step(1)
        assert "dynamics of 3 layers gave NaN or Inf, first between " in str(caught.value)
        with pytest.raises(DeviceError) as expected:
            theirs.step(1)
        assert str(caught.value) == str(expected.value)
        assert session.save() == before


# --- the reader of graphs ----------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """The file of weights, and graphs by name."""
    if not TOOL.is_file():
        pytest.skip("out/native/tests/check_graph is not built: make native")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(FILE)
    good = {"good": MODEL, "softmax": within(node("Softmax", "x", axis=-1))}
    written = {name: write_model(model) for name, model in good.items()} | dict(hostile_graphs())
    paths = {name: tmp_path / f"{name}.onnx" for name in written}
    for name, data in written.items():
        paths[name].write_bytes(data)
    return weights, paths


def test_what_python_refuses_is_refused(hostile: tuple[Path, dict[str, Path]]) -> None:
    weights, paths = hostile
    done = subprocess.run([TOOL, weights, *paths.values()], capture_output=True, check=False, timeout=120)
    found = dict(zip(paths, done.stdout.decode().splitlines(), strict=True))
    assert [name for name, said in found.items() if said == "ok"] == ["good", "softmax"], found
    for name, said in found.items():
        assert said == "ok" or (said.startswith("tiny.onnx: ") and len(said) < 500), (name, said)


def test_nothing_is_printed(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Neither by us nor by ONNX Runtime, of what goes wrong as little as of what goes well."""
    code = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from genie_rt.runtime.backends.native import header\n"
        "from genie_rt.runtime.backends.native.library import load_library\n"
        "library = load_library()\n"
        "for provider in (b'CPU', b'CUDA', b'Nonsense'):\n"
        "    params = header.WorldParams(engine=1, onnxruntime_library=sys.argv[2].encode(),\n"
        "                                onnxruntime_provider=provider, num_threads=1)\n"
        "    world, error = ctypes.c_void_p(), header.Error()\n"
        "    library.world_load(sys.argv[1].encode(), ctypes.byref(params), ctypes.byref(world),\n"
        "                       ctypes.byref(error))\n"
        "    library.world_free(world)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle_of("padded pages"), onnxruntime_library()],
        capture_output=True, check=True, timeout=120, env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"", b"")
