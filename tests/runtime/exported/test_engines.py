"""ONNX Runtime and OpenVINO as engines, on graphs of a few nodes: memory, threads, files that are wrong."""

import builtins
import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from genie_rt.errors import BundleError, DeviceError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported import compiled as compiled_module
from genie_rt.runtime.backends.exported import openvino as openvino_module
from genie_rt.runtime.backends.exported.check import check_version
from genie_rt.runtime.backends.exported.checked import CheckedGraph, check_graph
from genie_rt.runtime.backends.exported.engine import Engine
from genie_rt.runtime.backends.exported.limits import Limits
from genie_rt.runtime.backends.exported.onnx import OnnxEngine, OnnxGraph
from genie_rt.runtime.backends.exported.openvino import OpenVinoEngine
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.kept import Kept
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.sealed import read_about
from genie_rt.runtime.stored_weights import read_stored

onnx = pytest.importorskip("onnx")
ENGINES: dict[str, Callable[[], Engine]] = {"onnxruntime": OnnxEngine, "openvino": OpenVinoEngine}

SIGNATURE = Signature(
    inputs={
        "x": Value(dtype="float32", shape=(2, 3)),
        "index": Value(dtype="int64", shape=("Q",)),
    },
    outputs={
        "sum": Value(dtype="float32", shape=(2, 3)),
        "rows": Value(dtype="float32", shape=("Q", 3)),
        "total": Value(dtype="float32", shape=(1,)),
    },
)
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    pytest.importorskip(request.param)
    return ENGINES[request.param]()


LIMITS = Limits(nodes=4, operations=10_000, memory_bytes=10_000, subset=8)


def write(folder: Path, **changes: Any) -> Path:
    """A graph with `sum = x + w`, `rows = sum[index]`, `total` of all; `w` lies in another file.

    Args:
        changes: opset, ir, rows (of `x` and `w`), the name of `x`, location, offset and length of the weight.
    """
    weights = save({"w": WEIGHT})
    place = {"location": WEIGHTS, "offset": len(weights) - 24, "length": 24}
    set_to: dict[str, Any] = {"opset": 20, "ir": 9, "rows": 2, **place, "x": "x"} | changes
    helper, kinds = onnx.helper, onnx.TensorProto
    weight = kinds(name="w", data_type=kinds.FLOAT, dims=[set_to["rows"], 3], data_location=kinds.EXTERNAL)
    for key in ("location", "offset", "length"):
        weight.external_data.add(key=key, value=str(set_to[key]))
    shape = [set_to["rows"], 3]
    nodes = [
        helper.make_node("Add", [set_to["x"], "w"], ["sum"]),
        helper.make_node("Gather", ["sum", "index"], ["rows"]),
        helper.make_node("ReduceSum", ["sum"], ["scalar"], keepdims=0),
        helper.make_node("Reshape", ["scalar", "one"], ["total"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(set_to["x"], kinds.FLOAT, shape),
            helper.make_tensor_value_info("index", kinds.INT64, ["Q"]),
        ],
        [
            helper.make_tensor_value_info("sum", kinds.FLOAT, shape),
            helper.make_tensor_value_info("rows", kinds.FLOAT, ["Q", 3]),
            helper.make_tensor_value_info("total", kinds.FLOAT, [1]),
        ],
        [weight, onnx.numpy_helper.from_array(np.array([1]), "one")],
    )
    opsets = [helper.make_opsetid("", set_to["opset"])]
    path = folder / "tiny.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=set_to["ir"], opset_imports=opsets).SerializeToString()
    )
    (folder / WEIGHTS).write_bytes(weights)
    return path


def read(path: Path, signature: Signature = SIGNATURE) -> CheckedGraph:
    weights = read_stored(np.fromfile(path.with_name(WEIGHTS), np.uint8))
    return check_graph(path, path.read_bytes(), weights, signature, LIMITS)


def make_inputs(seed: int = 0, rows: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(2, 3, generator=generator), "index": torch.arange(rows) % 2}


def test_results_lie_in_the_memory_that_was_given(engine: Engine, tmp_path: Path) -> None:
    """Also when that is another one at every call, a part of a larger tensor, or fewer outputs are wanted."""
    graph = engine.load(read(write(tmp_path)), SIGNATURE)
    memory = torch.full((4, 2, 3), torch.nan)
    for seed, place in enumerate((0, 3, 1, 3)):
        inputs = make_inputs(seed)
        outputs = {"sum": memory[place], "total": torch.empty(1)}
        if seed % 2:
            outputs["rows"] = torch.empty(2, 3)
        graph.run(inputs, outputs)
        expected = inputs["x"] + torch.from_numpy(WEIGHT)
        assert torch.equal(memory[place], expected)
        assert torch.allclose(outputs["total"], expected.sum())  # six numbers, in any order
        assert seed % 2 == 0 or torch.equal(outputs["rows"], expected[inputs["index"]])
    assert memory[2].isnan().all()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_graphs_lie_in_a_folder_of_any_name(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")  # Latin-1, which engines cannot open by name
    folder.mkdir()
    inputs, out = make_inputs(), torch.empty(2, 3)
    engine.load(read(write(folder)), SIGNATURE).run(inputs, {"sum": out})
    assert torch.equal(out, inputs["x"] + torch.from_numpy(WEIGHT))


def test_an_input_is_read_anew_though_its_address_is_the_same(engine: Engine, tmp_path: Path) -> None:
    graph = engine.load(read(write(tmp_path)), SIGNATURE)
    inputs, outputs = make_inputs(), {"sum": torch.empty(2, 3)}
    for number in (1.0, 2.0):
        inputs["x"].fill_(number)
        graph.run(inputs, outputs)
        assert torch.equal(outputs["sum"], number + torch.from_numpy(WEIGHT))


def test_sides_without_a_fixed_size_take_any(engine: Engine, tmp_path: Path) -> None:
    graph = engine.load(read(write(tmp_path)), SIGNATURE)
    for rows in (1, 5, 2):
        inputs, outputs = make_inputs(rows=rows), {"rows": torch.empty(rows, 3)}
        graph.run(inputs, outputs)
        assert torch.equal(outputs["rows"], (inputs["x"] + torch.from_numpy(WEIGHT))[inputs["index"]])


def test_more_sizes_than_openvino_compiles_for_go_through_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_module, "MAX_COMPILED", 2)
    graph = OpenVinoEngine().load(read(write(tmp_path)), SIGNATURE)
    for rows in (1, 5, 2, 3, 1, 7):
        inputs, outputs = make_inputs(rows=rows), {"rows": torch.empty(rows, 3)}
        graph.run(inputs, outputs)
        assert torch.equal(outputs["rows"], (inputs["x"] + torch.from_numpy(WEIGHT))[inputs["index"]])
    assert len(graph._compiled) == 3


def test_threads_may_run_one_graph(engine: Engine, tmp_path: Path) -> None:
    graph = engine.load(read(write(tmp_path)), SIGNATURE)
    wrong: list[int] = []

    def play(seed: int) -> None:
        for turn in range(50):
            inputs, outputs = make_inputs(50 * seed + turn), {"sum": torch.empty(2, 3)}
            graph.run(inputs, outputs)
            if not torch.equal(outputs["sum"], inputs["x"] + torch.from_numpy(WEIGHT)):
                wrong.append(seed)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_engine_that_reads_another_signature_is_one_clear_error(engine: Engine, tmp_path: Path) -> None:
    """It could not, after the check; this is the last look before a graph is given memory."""
    other = {"age": Value(dtype="float32", shape=(1,))}
    for more in (
        Signature(inputs=SIGNATURE.inputs | other, outputs=SIGNATURE.outputs),
        Signature(inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs | other),
    ):
        with pytest.raises(BundleError, match=r"put 'age': expected float32 \[1\] .*, found none"):
            engine.load(read(write(tmp_path)), more)


def test_operators_that_an_engine_does_not_know_are_one_clear_error(engine: Engine, tmp_path: Path) -> None:
    graph = read(write(tmp_path))
    (add, *rest) = graph.model.nodes
    broken = replace(graph, model=replace(graph.model, nodes=(replace(add, op="Frobnicate"), *rest)))
    with pytest.raises(BundleError, match=r"tiny\.onnx: .* of opset 20 that it refuses .* --opset 20"):
        engine.load(broken, SIGNATURE)


def test_no_file_of_the_bundle_is_read_by_an_engine(engine: Engine, tmp_path: Path) -> None:
    """What was checked is what runs, also when the folder is gone by then."""
    path = write(tmp_path)
    checked = read(path)
    for each in (path, path.with_name(WEIGHTS)):
        each.unlink()
    inputs, outputs = make_inputs(), {"sum": torch.empty(2, 3)}
    engine.load(checked, SIGNATURE).run(inputs, outputs)
    assert torch.equal(outputs["sum"], inputs["x"] + torch.from_numpy(WEIGHT))


@pytest.mark.parametrize(
    ("make", "package", "found"),
    [
        (OnnxEngine, "onnxruntime", "1.23.2"),
        (OnnxEngine, "onnxruntime", "1.24.0"),
        (OpenVinoEngine, "openvino", "2025.4.1-20426-82bbf0292c5-releases/2025/4"),
        (OpenVinoEngine, "openvino", "2026.2.0-21903-52ddc073857-releases/2026/2"),
    ],
)
def test_an_engine_that_is_too_old_is_refused(
    make: Any, package: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest.importorskip(package), "__version__", found)
    with pytest.raises(UnsupportedError, match=f"{package} .* or newer, found {found}; .*pip install"):
        make()


def test_versions_are_compared_by_number() -> None:
    for found in ("1.24.1", "1.100", "2.0", "1.24.1.post1"):
        check_version("onnxruntime", found, (1, 24, 1), "onnx")
    for found in ("1.24", "1.9.9", "0.9", ""):
        with pytest.raises(UnsupportedError):
            check_version("onnxruntime", found, (1, 24, 1), "onnx")


class Stack(ctypes.Structure):
    """`stack_t` of signal.h."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int]:
    """Where this thread handles signals."""
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.start, stack.size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OpenVINO moves the stack on Linux alone")
def test_worlds_that_go_leave_signals_a_stack(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = write(tmp_path)
    engines = [OpenVinoEngine() for _ in range(2)]
    graphs = [engine.load(read(path), SIGNATURE) for engine in engines]
    for graph in graphs:
        graph.run(make_inputs(), {"total": torch.empty(1)})
    del graph  # or the last one stays
    kept = signal_stack()
    for held in (engines, graphs):
        while held:
            held.pop(0)
            gc.collect()
            assert signal_stack() == kept


def test_an_index_out_of_range_is_a_device_error(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    graph = OnnxEngine().load(read(write(tmp_path)), SIGNATURE)
    inputs = make_inputs() | {"index": torch.tensor([0, 7])}
    with pytest.raises(DeviceError, match=r"tiny\.onnx failed in ONNX Runtime"):
        graph.run(inputs, {"rows": torch.empty(2, 3)})


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_an_error_and_never_the_cpu(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that ONNX Runtime was built with, and that it lets go of when the session is made."""
    runtime = pytest.importorskip("onnxruntime")
    names = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
    if names[provider] in runtime.get_available_providers():
        pytest.skip(f"{names[provider]} is here")
    with pytest.raises(UnsupportedError, match=f"{names[provider]}, found .*CPUExecutionProvider.*install"):
        OnnxEngine(provider)
    monkeypatch.setattr(runtime, "get_available_providers", lambda: [*names.values(), "CPUExecutionProvider"])
    with pytest.raises(UnsupportedError, match=f"{names[provider]}, found CPUExecutionProvider"):
        OnnxEngine(provider).load(read(write(tmp_path)), SIGNATURE)


def test_on_a_gpu_memory_is_bound_there_and_both_sides_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a session that only writes down what it is told: there is no GPU here."""
    told: list[Any] = []

    class Recorder:
        def __init__(self, name: str = "") -> None:
            self.name = name

        def __getattr__(self, name: str) -> Any:
            return Recorder(name)

        def __call__(self, *arguments: Any) -> Any:
            told.append((self.name, *arguments[:3]))
            return self

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Recorder(f"stream of {device}"))
    graph = OnnxGraph(Recorder(), "tiny.onnx", torch.device("cuda", 1))
    told.clear()
    graph.run(make_inputs(), {"total": torch.empty(1)})
    assert [name for name, *_ in told] == [
        "io_binding", "synchronize", "bind_input", "bind_input", "bind_output", "run_with_iobinding",
        "synchronize_outputs",
    ]  # fmt: skip
    assert ("bind_input", "x", "cuda", 1) in told and ("bind_output", "total", "cuda", 1) in told


@pytest.mark.parametrize(("make", "unknown"), [(OnnxEngine, "npu"), (OpenVinoEngine, "int4")])
def test_an_unknown_provider_or_precision_is_an_error(make: Any, unknown: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'{unknown}': expected one of"):
        make(unknown)


@pytest.mark.parametrize(
    ("compute", "x", "expected"),
    [("float32", "x", "f32"), ("bfloat16", "x", "bf16"), ("bfloat16", "frame", "f32")],
)
def test_bfloat16_is_computed_where_it_was_asked_for_and_no_picture_comes_in(
    compute: str, x: str, expected: str, tmp_path: Path
) -> None:
    hint = pytest.importorskip("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in hint:
        pytest.skip("this CPU has no bfloat16, and OpenVINO then takes float32")
    signature = Signature(
        inputs={x: SIGNATURE.inputs["x"], "index": SIGNATURE.inputs["index"]}, outputs=SIGNATURE.outputs
    )
    graph = OpenVinoEngine(compute).load(read(write(tmp_path, x=x), signature), signature)
    inputs = make_inputs()
    graph.run({x: inputs["x"], "index": inputs["index"]}, {"sum": torch.empty(2, 3)})
    found = next(iter(graph._compiled.values())).model.get_property("INFERENCE_PRECISION_HINT")
    assert found.get_type_name() == expected


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [(OnnxEngine, "onnxruntime", "onnx"), (OpenVinoEngine, "openvino", "openvino")],
)
def test_a_missing_package_says_how_to_install_it(
    make: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint(extra))):
        make()


def test_importing_the_engines_imports_no_engine() -> None:
    code = (
        "import sys, genie_rt.runtime.backends.exported.onnx, genie_rt.runtime.backends.exported.openvino, "
        "genie_rt.runtime.backends.exported.backend; "
        "sys.exit(bool({'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- compiled graphs that are kept -------------------------------------------------------------------------


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """The outputs of all that OpenVINO compiles from now on."""
    pytest.importorskip("openvino")
    seen, compile_now = [], openvino_module.OpenVinoGraph._compile_now

    def counted(graph: openvino_module.OpenVinoGraph, wanted: frozenset[str], shapes: Any) -> Any:
        seen.append(wanted)
        return compile_now(graph, wanted, shapes)

    monkeypatch.setattr(openvino_module.OpenVinoGraph, "_compile_now", counted)
    return seen


def added(checked: CheckedGraph, kept: Kept, compute: str = "float32") -> torch.Tensor:
    """`sum` of the inputs with seed 0, by an engine that was just started."""
    out = torch.empty(2, 3)
    OpenVinoEngine(compute, kept).load(checked, SIGNATURE).run(make_inputs(), {"sum": out})
    return out


def test_a_kept_graph_is_not_compiled_again_and_gives_the_same(
    compiles: list[frozenset[str]], tmp_path: Path
) -> None:
    checked, kept = read(write(tmp_path)), Kept(tmp_path / "kept")
    first = added(checked, kept)
    assert torch.equal(first, make_inputs()["x"] + torch.from_numpy(WEIGHT))
    assert compiles == [{"sum"}]
    assert torch.equal(added(checked, kept), first)
    assert torch.equal(added(read(write(tmp_path)), Kept(kept.root)), first)  # another process
    assert compiles == [{"sum"}]
    assert torch.equal(added(checked, Kept(None)), first)
    assert compiles == [{"sum"}] * 2


def test_all_that_a_compiled_graph_depends_on_is_in_its_key(
    compiles: list[frozenset[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, kept = read(write(tmp_path)), Kept(tmp_path / "kept")
    added(checked, kept)
    count = 1

    def is_compiled_anew() -> bool:
        nonlocal count
        count += 1
        return len(compiles) == count

    added(checked, kept, "bfloat16")
    assert is_compiled_anew()
    graph = OpenVinoEngine("float32", kept).load(checked, SIGNATURE)
    graph.run(make_inputs(), {"sum": torch.empty(2, 3), "total": torch.empty(1)})
    assert is_compiled_anew()
    graph.run(make_inputs(rows=3), {"sum": torch.empty(2, 3)})
    assert is_compiled_anew()
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    added(checked, kept)
    assert is_compiled_anew()
    monkeypatch.setattr(compiled_module, "processor_features", lambda: "another processor")
    added(checked, kept)
    assert is_compiled_anew()
    monkeypatch.setattr(compiled_module, "__version__", "another version")
    added(checked, kept)
    assert is_compiled_anew()
    weights = checked.weights.data.copy()
    weights[-24:] = np.frombuffer((WEIGHT + 1).tobytes(), np.uint8)
    other = replace(checked, weights=read_stored(weights))
    assert torch.equal(added(other, kept), make_inputs()["x"] + torch.from_numpy(WEIGHT + 1))
    assert is_compiled_anew()
    node = checked.model.nodes[0]
    twice = replace(checked.model, nodes=(replace(node, inputs=("w", "w")), *checked.model.nodes[1:]))
    assert torch.equal(added(replace(checked, model=twice), kept), torch.from_numpy(2 * WEIGHT))
    assert is_compiled_anew()


def test_what_is_kept_and_no_compiled_graph_is_made_again(
    compiles: list[frozenset[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sealed as it should be, so that only OpenVINO can tell."""
    checked, kept = read(write(tmp_path)), Kept(tmp_path / "kept")
    expected = added(checked, kept)
    assert kept.root is not None
    about = read_about(next(kept.root.iterdir()))
    whole = kept.find(about)
    assert whole is not None
    for number, data in enumerate((b"", b"nothing of OpenVINO's", whole[: len(whole) // 2], whole[:40]), 2):
        kept.keep(about, data)
        assert torch.equal(added(checked, kept), expected)
        assert len(compiles) == number
        assert kept.find(about) not in (None, data)
    assert "is made again" in caplog.text


@pytest.mark.parametrize("rows", [5, -1], ids=["static", "dynamic"])
def test_indices_that_lead_out_are_bounded(rows: int) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13

    data = opset13.parameter([rows, 2], np.float32, name="data")
    index = opset13.parameter([4], np.int64, name="index")
    model = openvino.Model([opset13.gather(data, index, np.int64(0))], [data, index])
    openvino_module._bound_indices(model)
    run = openvino.compile_model(model, "CPU")
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    (found,) = run({"data": table, "index": np.array([-(2**30), 0, 3, 2**30])}).values()
    np.testing.assert_array_equal(found, table[[0, 0, 3, 4]])
