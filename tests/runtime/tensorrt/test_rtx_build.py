"""The demo bundle's graphs, built by TensorRT-RTX itself: it needs no GPU for that, only to run them.

Not part of the usual run: `pip install -e ".[tensorrt-rtx]"` first.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_rt.errors import BundleError, UnsupportedError
from genie_rt.runtime.backends.exported.checked import CheckedGraph, check_graph
from genie_rt.runtime.backends.exported.limits import limits_of
from genie_rt.runtime.backends.exported.signature import Signature, signatures
from genie_rt.runtime.backends.tensorrt.cache import EngineCache, Identity, Settings
from genie_rt.runtime.backends.tensorrt.engine import TensorRtEngine, identity, obtain
from genie_rt.runtime.backends.tensorrt.flavour import Flavour
from genie_rt.runtime.backends.tensorrt.inspect import check_ports, ports_of_engine
from genie_rt.runtime.backends.tensorrt.target import ANY, Target
from genie_rt.runtime.bundle import Bundle, open_bundle
from genie_rt.runtime.manifest import WEIGHTS, graph_file
from genie_rt.runtime.stored_weights import read_stored

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.write import write_graphs
from genie_rt.runtime.linears import linear_names

CAPABILITIES = (86, 89, 120)
PRECISIONS = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    return Flavour.of("tensorrt-rtx")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle("demo")


@pytest.fixture(scope="module")
def graphs(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Folders with the weights and all graphs, by precision and opset."""
    folders = {}
    scales = Quantisation(amax=dict.fromkeys(linear_names(bundle.config), 4.0))  # any will do to build
    for precision in PRECISIONS:
        for opset in (20, 23):
            folder = tmp_path_factory.mktemp(f"{precision}-{opset}")
            shutil.copy(bundle.path / "weights.safetensors", folder)
            write_graphs(
                folder, bundle.config, bundle.plans, precisions=(precision,), opset=opset,
                quantisation=scales if precision == "int8" else None,
                frame_plans=[name for name, plan in bundle.plans.items() if plan.reuse == "none"][:1],
            )  # fmt: skip
            folders[precision, opset] = folder
    return folders


def each(folder: Path, bundle: Bundle, precision: str) -> Iterator[tuple[CheckedGraph, Signature]]:
    """The graphs that are in a folder, with what they should take and give."""
    for name, signature in signatures(bundle.config, precision, dict(bundle.plans)).items():
        path = folder / graph_file(name, precision)
        if path.exists():
            weights = read_stored(np.fromfile(folder / WEIGHTS, np.uint8))
            limits = limits_of(bundle.config, name, bundle.plans, weights.data.nbytes)
            yield check_graph(path, path.read_bytes(), weights, signature, limits), signature


def wanted(flavour: Flavour, graph: CheckedGraph, precision: str, capability: int) -> Identity:
    target = Target(gpu=ANY, capability=capability, driver=ANY)
    return identity(
        graph, bundle="0" * 64, precision=precision, flavour=flavour, target=target, settings=Settings()
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_becomes_an_engine(
    flavour: Flavour,
    bundle: Bundle,
    graphs: dict[tuple[str, int], Path],
    tmp_path: Path,
    precision: str,
    opset: int,
    capability: int,
) -> None:
    cache = EngineCache(tmp_path / "engines")
    built = 0
    for graph, signature in each(graphs[precision, opset], bundle, precision):
        what = wanted(flavour, graph, precision, capability)
        engine = obtain(cache, flavour, what, graph, signature)  # compares the network's inputs and outputs
        assert obtain(cache, flavour, what, graph, signature) == engine
        names = [*signature.inputs, *signature.outputs]
        assert [name for name in names if name.encode() not in engine] == []
        assert (
            cache.log_path(what).read_text().startswith(f"tensorrt-rtx {flavour.version} for sm_{capability}")
        )
        built += 1
    assert built == len(list(graphs[precision, opset].glob("*.onnx"))) > 2


def test_an_engine_for_another_capability_is_refused_by_name(
    flavour: Flavour, bundle: Bundle, graphs: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    cache = EngineCache(tmp_path / "engines")
    graph, signature = next(each(graphs["float32", 23], bundle, "float32"))
    obtain(cache, flavour, wanted(flavour, graph, "float32", 86), graph, signature)
    ada = wanted(flavour, graph, "float32", 89)
    with pytest.raises(UnsupportedError, match=r"for sm_89, found one of .* for sm_86 .*--rebuild"):
        obtain(cache, flavour, ada, graph, signature)
    assert obtain(cache, flavour, ada, graph, signature, rebuild=True)


def test_a_graph_of_other_sizes_is_refused(
    flavour: Flavour, bundle: Bundle, graphs: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    graph, signature = next(each(graphs["float32", 23], bundle, "float32"))
    name, value = next(iter(signature.inputs.items()))
    other = replace(value, shape=(*value.shape[:-1], 5))
    wrong = Signature(inputs={**signature.inputs, name: other}, outputs=signature.outputs)
    cache = EngineCache(tmp_path / "engines")
    with pytest.raises(BundleError, match=rf"input '{name}': expected .* 5\] .* found"):
        obtain(cache, flavour, wanted(flavour, graph, "float32", 120), graph, wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="TensorRT-RTX loads an engine on a GPU only")
def test_the_inspector_names_the_same_inputs_and_outputs(
    flavour: Flavour, bundle: Bundle, graphs: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    trt = flavour.module
    device = torch.device("cuda")
    runner = TensorRtEngine("0" * 64, "float32", device, flavour, tmp_path / "engines")
    for graph, signature in each(graphs["float32", 23], bundle, "float32"):
        what = runner.identity(graph)
        data = obtain(runner.cache, flavour, what, graph, signature)
        engine = trt.Runtime(flavour.log.sink).deserialize_cuda_engine(data)
        check_ports(graph.path.name, ports_of_engine(flavour, engine), signature)
        told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        assert [name for name in (*signature.inputs, *signature.outputs) if name not in told] == []
        runner.load(graph, signature)
