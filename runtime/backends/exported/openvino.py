"""OpenVINO's CPU plugin as an engine. Its tensors share the memory of ours: nothing is copied on the way."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Container, Mapping
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from genie_rt.environment import compiled_cache
from genie_rt.errors import BundleError, DeviceError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported.backend import ExportedBackend
from genie_rt.runtime.backends.exported.check import check_values, check_version
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.compiled import CompiledGraphs
from genie_rt.runtime.backends.exported.onnx_model import write_model
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.registry import BuildRequest
from genie_rt.runtime.kept import Kept

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""What OpenVINO may compute in where the graph leaves it free, by our name."""

OLDEST = (2026, 3)
"""The oldest OpenVINO that is accepted. 2026.2 refuses graphs of opset 23, which bundles have."""

MAX_COMPILED = 4
"""How many compiled forms of one graph are held. Each has weights of its own."""

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""The shapes of inputs that have no fixed one, by name; empty for any."""

_INDEXED = ("Gather", "GatherElements", "ScatterElementsUpdate", "ScatterNDUpdate")
"""Operators whose second input is indices, by OpenVINO's names."""

_WORDS = {"f32": "float32", "f16": "float16", "i64": "int64", "u8": "uint8"}
_NAMES = {ours: own for own, ours in _WORDS.items()}


@cache
def the_core() -> Any:
    """OpenVINO's state, one for the process and to its end.

    Its CPU plugin gives the thread that makes it another stack for signals (openvino#11894) and puts back the
    one that it found when it goes. Of two that is the other's, which may be gone: then the next signal, such
    as Ctrl-C, crashes the process.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    import openvino

    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether OpenVINO is installed, on a CPU that multiplies in bfloat16."""
    try:
        return "BF16" in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False


class OpenVinoEngine:
    """Runs graphs on the CPU with as many threads as torch has.

    Args:
        compute: one of `PRECISIONS`. Never left to OpenVINO, which would take bfloat16 where the CPU has it.
            A graph that takes a picture in is computed in float32 all the same: it runs once a prompt, and
            of codes that lie close in bfloat16 another is found for every second patch.
        kept: where compiled graphs are kept, which are the same to the last bit and load in a third of the
            time; None keeps none.

    Raises:
        UnsupportedError: OpenVINO is not installed or too old, or there is no such precision.
    """

    name = "openvino"

    def __init__(self, compute: str = "float32", kept: Kept | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise UnsupportedError(
                'the back end "openvino": expected the package openvino, found none; install it with: '
                f"{install_hint('openvino')}"
            ) from error
        check_version("openvino", openvino.__version__, OLDEST, "openvino")
        if compute not in PRECISIONS:
            raise UnsupportedError(f"unknown precision {compute!r}: expected one of {', '.join(PRECISIONS)}")
        self.device = torch.device("cpu")
        self.runtime = openvino
        self.core = the_core()
        self.arithmetic: str | None = compute
        self._compute = compute
        version = self.core.get_versions("CPU")["CPU"].build_number
        self.compiled = CompiledGraphs(kept, f"OpenVINO {version}")

    def load(self, graph: CheckedGraph, signature: Signature) -> OpenVinoGraph:
        """See `Engine.load`."""
        path = graph.path
        try:
            model = self.core.read_model(write_model(graph.model.with_weights_as_inputs()))
            self._set_weights(model, graph)
            self._add_unused(model, graph)
            _bound_indices(model)
        except Exception as error:  # not all of its errors are RuntimeError
            raise BundleError(
                f"{path}: expected a graph that OpenVINO {self.runtime.__version__} can run, found one of "
                f"opset {graph.model.opset} that it refuses ({_brief(error)}); update openvino, or export "
                "again with --opset 20"
            ) from error
        inputs, outputs = _values(model.inputs, signature.inputs), _values(model.outputs, signature.outputs)
        check_values(path, signature, inputs, outputs)
        compute = "float32" if "frame" in signature.inputs else self._compute
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[compute],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        return OpenVinoGraph(self, model, graph, options)

    def _set_weights(self, model: Any, graph: CheckedGraph) -> None:
        """Makes constants of the inputs that stand for weights, over the memory where these lie.

        OpenVINO's reader knows of no weights in memory beside a graph: only in files, or in the graph.
        """
        stored = {tensor.name: tensor for tensor in graph.model.stored}
        for parameter in model.get_parameters():
            if (tensor := stored.get(parameter.output(0).get_any_name())) is None:
                continue
            data = graph.weights.bytes_of(tensor.name)
            code, kind = (np.float32, "f32") if tensor.dtype == "float32" else (np.uint16, "bf16")
            shape = self.runtime.Shape(list(tensor.shape))
            memory = self.runtime.Tensor(data.view(code), shape, getattr(self.runtime.Type, kind))
            constant = self.runtime.op.Constant(memory, shared_memory=True)
            constant.set_friendly_name(tensor.name)
            for taker in list(parameter.output(0).get_target_inputs()):
                taker.replace_source_output(constant.output(0))
            model.remove_parameter(parameter)
        model.validate_nodes_and_infer_types()

    def _add_unused(self, model: Any, graph: CheckedGraph) -> None:
        """Adds the inputs that no node takes, which OpenVINO's reader of graphs in memory leaves out."""
        known = {name for port in model.inputs for name in port.get_names()}
        for port in graph.model.inputs:
            if port.name in known:
                continue
            sides = [side if isinstance(side, int) else -1 for side in port.shape]
            kind = getattr(self.runtime.Type, _NAMES[port.dtype])
            parameter = self.runtime.op.Parameter(kind, self.runtime.PartialShape(sides))
            parameter.set_friendly_name(port.name)
            parameter.output(0).set_names({port.name})
            model.add_parameters([parameter])


def _bound_indices(model: Any) -> None:
    """Makes indices that a graph computes lie within what they point into.

    The CPU plugin reads and writes wherever an index leads; ONNX Runtime refuses those that lead out.
    Those of a sound graph stay as they are.
    """
    from openvino import opset13

    for node in model.get_ordered_ops():
        inputs = [node.input_value(place) for place in range(node.get_input_size())]
        kind = node.get_type_name()
        if kind not in _INDEXED or inputs[1].get_node().get_type_name() == "Constant":
            continue
        axis = 0 if kind == "ScatterNDUpdate" else _axis_of(node, inputs)
        shape = inputs[0].get_partial_shape()
        side = shape[axis % len(shape)]
        if side.is_static:
            bounded = opset13.clamp(inputs[1], 0, side.get_length() - 1)
        else:  # as long as the positions that are asked for, which is known when it runs
            number = inputs[1].get_element_type()
            sides = opset13.shape_of(inputs[0], number)
            last = opset13.subtract(
                opset13.gather(sides, np.int64(axis % len(shape)), np.int64(0)),
                opset13.constant(1, number),
            )
            bounded = opset13.minimum(opset13.relu(inputs[1]), last)
        node.input(1).replace_source_output(bounded.output(0))
    model.validate_nodes_and_infer_types()


def _axis_of(node: Any, inputs: list[Any]) -> int:
    """Which axis of its first input a node's indices are of."""
    given = node.get_attributes().get("axis")
    return int(inputs[-1].get_node().get_vector()[0] if given is None else given)


class OpenVinoGraph:
    """A graph, compiled for every set of outputs that is asked for: what only others need is left out.

    Also for every size of its sides without a fixed one, as there are a few in each plan that reuses. One
    compiled graph for all of them takes longer than no reuse, since the sizes take turns within a frame.
    """

    def __init__(
        self, engine: OpenVinoEngine, model: Any, graph: CheckedGraph, options: Mapping[str, Any]
    ) -> None:
        self.engine, self.options = engine, options
        self.graph = graph  # its weights lie in the memory that the model reads
        self.path = graph.path
        self._model = model
        self._free = [port.get_any_name() for port in model.inputs if port.get_partial_shape().is_dynamic]
        self._compiled: dict[tuple[frozenset[str], Shapes], Compiled] = {}
        self._lock = threading.Lock()  # so that nothing is compiled twice

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `Graph.run`."""
        wanted = frozenset(outputs)
        shapes = tuple((name, tuple(inputs[name].shape)) for name in self._free)
        compiled = self._compiled.get((wanted, shapes))
        if compiled is None:
            with self._lock:
                compiled = self._find(wanted, shapes)
        compiled.run(inputs, outputs)

    def _find(self, wanted: frozenset[str], shapes: Shapes) -> Compiled:
        """What is compiled for these outputs and shapes, or for any shapes where there are too many."""
        if (wanted, shapes) not in self._compiled and len(self._compiled) >= MAX_COMPILED:
            shapes = ()
        if (wanted, shapes) not in self._compiled:
            self._compiled[wanted, shapes] = self._compile(wanted, shapes)
        return self._compiled[wanted, shapes]

    def _compile(self, wanted: frozenset[str], shapes: Shapes) -> Compiled:
        engine = self.engine
        how = {
            "outputs": sorted(wanted),
            "shapes": [[name, list(shape)] for name, shape in shapes],
            "options": dict(self.options),
            "indices": "bounded",
        }
        compiled = engine.compiled.obtain(
            self.graph, how,
            load=lambda data: engine.core.import_model(data, "CPU", self.options),
            compile_=lambda: self._compile_now(wanted, shapes),
            save=_exported,
        )  # fmt: skip
        return Compiled(engine.runtime.Tensor, compiled, self.path.name)

    def _compile_now(self, wanted: frozenset[str], shapes: Shapes) -> Any:
        model = self._model.clone()
        for result in model.get_results():
            if result.input_value(0).names.isdisjoint(wanted):
                model.remove_result(result)
        try:
            if shapes:
                model.reshape({name: list(shape) for name, shape in shapes})
            return self.engine.core.compile_model(model, "CPU", self.options)
        except Exception as error:
            raise DeviceError(f"{self.path}: OpenVINO cannot compile it: {_brief(error)}") from error


class Compiled:
    """A compiled graph, and the requests that its callers take turns with."""

    def __init__(self, share: Callable[..., Any], model: Any, name: str) -> None:
        self.share, self.model, self.name = share, model, name
        self._idle: list[Request] = []

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        try:
            request = self._idle.pop()  # two threads never get the same
        except IndexError:
            request = Request(self.share, self.model.create_infer_request())
        try:
            request.run(inputs, outputs)
        except Exception as error:
            raise DeviceError(f"the graph {self.name} failed in OpenVINO: {_brief(error)}") from error
        self._idle.append(request)


class Request:
    """Memory that one call gives a compiled graph. What did not change since the last is not told again."""

    def __init__(self, share: Callable[..., Any], request: Any) -> None:
        self._share, self._request = share, request
        self._bound: dict[str, tuple[int, torch.Size]] = {}

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        for tensors in (inputs, outputs):
            for name, tensor in tensors.items():
                where = (tensor.data_ptr(), tensor.shape)
                if self._bound.get(name) != where:
                    self._request.set_tensor(name, self._share(tensor.numpy(), shared_memory=True))
                    self._bound[name] = where  # it keeps that memory, so nobody else gets the address
        self._request.infer()


def _exported(model: Any) -> bytes:
    """A compiled model as bytes."""
    stream = io.BytesIO()
    model.export_model(stream)
    return stream.getvalue()


def _values(ports: list[Any], expected: Container[str]) -> dict[str, tuple[str, list[int | None]]]:
    """Dtypes and shapes by name. A port may have several: what a constant is called too, say."""
    found = {}
    for port in ports:
        dtype = port.get_element_type().get_type_name()
        shape = [None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()]
        name = next((name for name in port.get_names() if name in expected), port.get_any_name())
        found[name] = (_WORDS.get(dtype, dtype), shape)
    return found


def _brief(error: Exception) -> str:
    """What it says below the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(told or lines)[:300]


def build(request: BuildRequest) -> ExportedBackend:
    """The back end of a world. Of an int8 graph what is not quantised is as good in bfloat16."""
    narrow = request.dtype == "bfloat16" or (request.dtype == "int8" and has_bfloat16())
    engine = OpenVinoEngine("bfloat16" if narrow else "float32", Kept(compiled_cache()))
    return ExportedBackend(request.bundle, request.precision, engine)
