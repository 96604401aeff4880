"""A recording stand-in for the modules `tensorrt` and `tensorrt_rtx`, and for CUDA graphs.

A graph file of it is ONNX without nodes, JSON in place of its name. Its engine adds up: output `i` is
`i` plus the first number of every input, read and written through the addresses that it was given, so that
a wrong address shows.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genie_rt.runtime.backends.exported.onnx_model import Model, read_model, write_model
from genie_rt.runtime.backends.exported.onnx_model import Port as OnnxPort
from genie_rt.runtime.backends.exported.signature import Signature, Value

TORCH = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "UINT8": "uint8", "BF16": "bfloat16"}
DataType = enum.Enum("DataType", list(TORCH))
OF_TORCH = {name: DataType[own] for own, name in TORCH.items()}
Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
LayerType = enum.Enum("LayerType", "CONSTANT ATTENTION_INPUT")
TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")
TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
BuilderFlag = enum.Enum("BuilderFlag", "TF32 REQUIRE_USER_ALLOCATION")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")


Tensors = Mapping[str, Tensor]
Bound = dict[str, tuple[int, tuple[int, ...]]]  # addresses and shapes, by name


def write_graph(path: Path, signature: Signature, **more: object) -> Path:
    """A file that the fake parses to inputs and outputs of a signature."""
    ports = {
        kind: tuple(
            OnnxPort(name=name, dtype=value.dtype, shape=value.shape) for name, value in values.items()
        )
        for kind, values in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    path.write_bytes(write_model(Model(opset=23, name=json.dumps(more), nodes=(), initializers=(), **ports)))
    return path


def tensor_at(address: int, shape: tuple[int, ...], dtype: str) -> Tensor:
    kind = getattr(torch, dtype)
    size = torch.Size(shape).numel() * kind.itemsize
    return torch.frombuffer((ctypes.c_byte * size).from_address(address), dtype=kind).view(shape)


@dataclass
class FakeTensorRt:
    """The module. `calls` has what was asked of it; the switches make it fail."""

    __version__: str = "11.0.0"
    rtx: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    builds: int = 0
    build_fails: bool = False
    on_build: Callable[[], None] = lambda: None
    load_fails: bool = False
    fails: str = ""  # the method of a context that gives False
    capturable: bool = True
    alignment: int = 256
    refuses_runtime_cache: bool = False
    capturing: list[Bound] | None = None

    DataType = DataType
    TensorIOMode = TensorIOMode
    TensorLocation = TensorLocation
    BuilderFlag = BuilderFlag
    MemoryPoolType = MemoryPoolType
    ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM86 SM89 SM120")
    NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {"STRONGLY_TYPED": 1})
    ExecutionContextAllocationStrategy = enum.Enum("Strategy", "STATIC USER_MANAGED")
    CudaGraphStrategy = enum.Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
    DynamicShapesKernelSpecializationStrategy = enum.Enum("Specialization", "LAZY EAGER")
    LayerInformationFormat = enum.Enum("LayerInformationFormat", "JSON")

    class ILogger:
        Severity = Severity

    class IAttentionInputLayer:
        pass

    __hash__ = object.__hash__

    def Builder(self, sink: Any) -> Builder:  # noqa: N802
        return Builder(self, sink)

    def OnnxParser(self, network: Network, sink: Any) -> Parser:  # noqa: N802
        return Parser(network, sink)

    def Runtime(self, sink: Any) -> Runtime:  # noqa: N802
        return Runtime(self, sink)


class Layer:
    def __init__(self, kind: str) -> None:
        self.type = LayerType[kind]
        self.attention = type("Attention", (), {"decomposable": False})()


@dataclass
class Port:
    name: str
    dtype: DataType
    shape: tuple[int, ...]


class Network:
    def __init__(self) -> None:
        self.graph: dict[str, Any] = {}
        self.layers = [Layer("CONSTANT"), Layer("ATTENTION_INPUT")]

    def _ports(self, kind: str) -> list[Port]:
        return [Port(n, OF_TORCH[d], tuple(s)) for n, d, s, own in self.graph["ports"] if own == kind]

    num_inputs = property(lambda self: len(self._ports("in")))
    num_outputs = property(lambda self: len(self._ports("out")))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> Port:
        return self._ports("in")[index]

    def get_output(self, index: int) -> Port:
        return self._ports("out")[index]

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]


class ParserError:
    def node_operator(self) -> str:
        return "Frobnicate"

    def node_name(self) -> str:
        return "node_7"

    def desc(self) -> str:
        return "no such operator"


class Parser:
    def __init__(self, network: Network, sink: Any) -> None:
        self.network, self.sink, self.num_errors = network, sink, 0

    def parse_from_file(self, path: str) -> bool:
        model = read_model(Path(path).read_bytes(), max_nodes=0)
        ports = [
            [port.name, port.dtype, [-1 if isinstance(side, str) else side for side in port.shape], kind]
            for kind, found in (("in", model.inputs), ("out", model.outputs))
            for port in found
        ]
        self.network.graph = {"ports": ports, **json.loads(model.name)}
        if missing := self.network.graph.get("missing"):
            self.sink.log(Severity.ERROR, f"Failed to open file: {missing}")
            self.num_errors = 1
        return not missing

    def get_error(self, index: int) -> ParserError:
        return ParserError()


class Blob(bytes):
    def serialize(self) -> bytes:
        return bytes(self)


class Config:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self.timing: Blob | None = None
        self.builder_optimization_level = self.num_compute_capabilities = -1

    def create_timing_cache(self, data: bytes) -> Blob | None:
        self._trt.calls.append(("create_timing_cache", bytes(data)))
        return None if data == b"of another GPU" else Blob(data)

    def set_timing_cache(self, cache: Blob, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.timing = cache
        return True

    def get_timing_cache(self) -> Blob:
        assert self.timing is not None
        return Blob(self.timing + b"+measured")

    def __getattr__(self, name: str) -> Callable[..., bool]:
        if name.startswith("_"):
            raise AttributeError(name)

        def record(*arguments: object) -> bool:
            self._trt.calls.append((name, *arguments))
            return True

        return record


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, *sizes: tuple[int, ...]) -> None:
        self.shapes[name] = sizes


class Builder:
    def __init__(self, trt: FakeTensorRt, sink: Any) -> None:
        self.trt, self.sink = trt, sink

    def create_network(self, flags: int) -> Network:
        self.trt.calls.append(("create_network", flags))
        return Network()

    def create_builder_config(self) -> Config:
        return Config(self.trt)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        self.trt.builds += 1
        self.trt.on_build()
        self.trt.calls.append(("build", network, config))
        self.sink.log(Severity.VERBOSE, "thousands of these")
        if self.trt.build_fails:
            self.sink.log(Severity.ERROR, "no implementation for node_7")
            return None
        self.sink.log(Severity.INFO, "engine generated")
        return json.dumps({"number": self.trt.builds, **network.graph}).encode()


class Runtime:
    def __init__(self, trt: FakeTensorRt, sink: Any) -> None:
        self.trt, self.sink = trt, sink

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        self.trt.calls.append(("deserialize", bytes(data)))
        if self.trt.load_fails:
            self.sink.log(Severity.ERROR, "out of memory")
            return None
        return Engine(self.trt, json.loads(data))


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, trt: FakeTensorRt, graph: dict[str, Any]) -> None:
        self.trt, self.host = trt, graph.get("host", [])
        self.function: Callable[[Tensors, Tensors], None] = add_up
        self.ports = {name: (dtype, tuple(shape), kind) for name, dtype, shape, kind in graph["ports"]}

    @property
    def num_io_tensors(self) -> int:
        return len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return OF_TORCH[self.ports[name][0]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.ports[name][1]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self.ports[name][2] == "in" else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self.host else TensorLocation.DEVICE

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Context:
        self.trt.calls.append(("create_execution_context", strategy, runtime_config))
        if runtime_config is not None:
            runtime_config.cache.compiled = runtime_config.cache.compiled or b"kernels"
        return Context(self)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self.trt)


class RuntimeConfig:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self.trt)

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class RuntimeCache:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt, self.compiled = trt, b""

    def deserialize(self, data: bytes) -> bool:
        self.trt.calls.append(("runtime_cache", bytes(data)))
        if self.trt.refuses_runtime_cache:
            return False
        self.compiled = bytes(data)
        return True

    def serialize(self) -> bytes:
        return self.compiled


class Context:
    def __init__(self, engine: Engine) -> None:
        self.trt, self.engine = engine.trt, engine
        self.addresses: dict[str, int] = {}
        self.shapes = {name: shape for name, (_, shape, _) in engine.ports.items()}
        if self.trt.rtx:
            self.is_stream_capturable = lambda stream: self.trt.capturable

    def _call(self, name: str, *arguments: Any) -> bool:
        self.trt.calls.append((name, *arguments))
        return self.trt.fails != name

    def set_device_memory(self, address: int, size: int) -> None:
        self._call("set_device_memory", address, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % self.trt.alignment == 0, f"{name} is not aligned"
        self.addresses[name] = address
        return self._call("set_tensor_address", name, address)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self._call("set_input_shape", name, shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        given = [s for own, s in self.shapes.items() if -1 in self.engine.ports[own][1] and -1 not in s]
        return tuple(given[0][-1] if side == -1 else side for side in self.engine.ports[name][1])

    def execute_async_v3(self, stream: int) -> bool:
        if not self._call("execute_async_v3", stream):
            return False
        assert self.addresses.keys() == self.engine.ports.keys()
        bound = {n: (address, self.get_tensor_shape(n)) for n, address in self.addresses.items()}
        if self.trt.capturing is not None:
            self.trt.capturing.append(bound)
        else:
            self.compute(bound)
        return True

    def compute(self, bound: Bound) -> None:
        ports = self.engine.ports
        at = {name: tensor_at(*where, ports[name][0]) for name, where in bound.items()}
        inputs = {name: at[name] for name in at if ports[name][2] == "in"}
        self.engine.function(inputs, {name: at[name] for name in at if name not in inputs})


def add_up(inputs: Tensors, outputs: Tensors) -> None:
    total = sum(int(tensor.flatten()[0]) for tensor in inputs.values())
    for index, tensor in enumerate(outputs.values()):
        tensor.fill_(total + index)


class FakeCaptures:
    """CUDA graphs: a captured run goes to the addresses that were bound then, not to those of now."""

    def __init__(self, trt: FakeTensorRt, context: Context) -> None:
        self.trt, self.context = trt, context

    def prepare(self, stage: Callable[[], None]) -> Callable[[], None]:
        self.trt.calls.append(("prepare",))
        stage()
        self.trt.capturing = []
        stage()
        (bound,), self.trt.capturing = self.trt.capturing, None
        self.trt.calls.append(("captured",))

        def replay() -> None:
            self.trt.calls.append(("replay",))
            self.context.compute(bound)

        return replay


def page(*shape: int) -> Value:
    return Value(dtype="float32", shape=shape)
