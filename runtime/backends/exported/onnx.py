"""ONNX Runtime as an engine. Inputs and outputs are bound by address: nothing is copied on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import BundleError, DeviceError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported.backend import ExportedBackend
from genie_rt.runtime.backends.exported.check import check_values, check_version
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.onnx_model import DTYPES as CODES
from genie_rt.runtime.backends.exported.onnx_model import Tensor as Stored
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.registry import BuildRequest

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What ONNX Runtime computes with, by our name."""

DTYPES: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
}
"""As ONNX Runtime is told what lies at an address."""

OLDEST = (1, 24, 1)
"""Oldest ONNX Runtime. From 1.23.0 to 1.23.2 a graph could name any file, and any address in memory."""

_WORDS = {"float": "float32"}  # its names of dtypes, where they are not ours


class OnnxEngine:
    """Runs graphs with as many threads as torch has.

    Args:
        provider: one of `PROVIDERS`. What it cannot run of a graph runs on the CPU, as everywhere in ONNX
            Runtime; but a provider that is not there at all is an error.
        device_index: of the GPU.

    Raises:
        UnsupportedError: ONNX Runtime is not installed, too old, or has no such provider.
    """

    name = "onnx"
    arithmetic: str | None = None

    def __init__(self, provider: str = "cpu", device_index: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UnsupportedError(
                'the back end "onnx": expected the package onnxruntime, found none; install it with: '
                f"{install_hint('onnx')}"
            ) from error
        check_version("onnxruntime", onnxruntime.__version__, OLDEST, "onnx")
        if provider not in PROVIDERS:
            raise UnsupportedError(f"unknown provider {provider!r}: expected one of {', '.join(PROVIDERS)}")
        self.provider = provider
        self.runtime = onnxruntime
        self._check_provider(onnxruntime.get_available_providers())
        self.device = torch.device("cpu") if provider == "cpu" else torch.device("cuda", device_index)

    def load(self, graph: CheckedGraph, signature: Signature) -> OnnxGraph:
        """See `Engine.load`."""
        path, model = graph.path, graph.model
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # threads that wait for work must not burn the cores that the next graph, and the game, run on
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; they are raised as well
        place = {} if self.device.index is None else {"device_id": self.device.index}
        chain = [PROVIDERS[self.provider]]
        if self.provider == "tensorrt":
            chain.append(PROVIDERS["cuda"])  # of what TensorRT cannot run
        weights = {tensor.name: self._value(graph, tensor) for tensor in model.stored}
        try:
            if weights:
                options.add_external_initializers(list(weights), list(weights.values()))
            session = self.runtime.InferenceSession(
                graph.to_bytes(), options, providers=[(name, place) for name in chain], enable_fallback=0
            )
        except Exception as error:  # its errors have no other base
            if "allocate" in str(error):
                raise DeviceError(f"{path}: not enough memory: {_brief(error)}") from error
            raise BundleError(
                f"{path}: expected a graph that ONNX Runtime {self.runtime.__version__} can run, found one "
                f"of opset {model.opset} that it refuses ({_brief(error)}); update onnxruntime, or export "
                "again with --opset 20"
            ) from error
        self._check_provider(session.get_providers())
        check_values(path, signature, _values(session.get_inputs()), _values(session.get_outputs()))
        return OnnxGraph(session, path.name, self.device, keeps=(graph.weights, weights))

    def _value(self, graph: CheckedGraph, tensor: Stored) -> Any:
        """A weight where it lies; ONNX Runtime copies what it keeps in another form."""
        code = np.float32 if tensor.dtype == "float32" else np.uint16  # NumPy knows no bfloat16
        array = graph.weights.bytes_of(tensor.name).view(code).reshape(tensor.shape)
        return self.runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, CODES[tensor.dtype])

    def _check_provider(self, found: list[str]) -> None:
        """The provider is there: ONNX Runtime itself would go on without it, on the CPU."""
        if PROVIDERS[self.provider] not in found:
            raise UnsupportedError(
                f"expected ONNX Runtime with {PROVIDERS[self.provider]}, found {', '.join(found)}; install "
                f"onnxruntime-gpu in the place of onnxruntime ({install_hint('onnx-gpu')}) and the libraries "
                'that it needs, or take provider="cpu"'
            )


class OnnxGraph:
    """One session, and the bindings that its callers take turns with.

    Args:
        keeps: what has to live as long as the session.
    """

    def __init__(self, session: Any, name: str, device: torch.device, keeps: tuple[object, ...] = ()) -> None:
        self.session, self.name, self.device, self._keeps = session, name, device, keeps
        self._idle: dict[frozenset[str], list[Binding]] = {}  # by the outputs that are wanted

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `Graph.run`."""
        idle = self._idle.setdefault(frozenset(outputs), [])
        try:
            binding = idle.pop()  # two threads never get the same
        except IndexError:
            binding = Binding(self.session, self.device)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        try:
            binding.run(inputs, outputs)
        except Exception as error:  # its errors have no other base
            raise DeviceError(f"the graph {self.name} failed in ONNX Runtime: {_brief(error)}") from error
        idle.append(binding)


class Binding:
    """Addresses that one call gives a session. What did not change since the last is not told again."""

    def __init__(self, session: Any, device: torch.device) -> None:
        self.session = session
        self._binding = session.io_binding()
        self._place = (device.type, device.index or 0)
        self._bound: dict[str, tuple[int, torch.Size]] = {}

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        bound = self._bound
        for bind, tensors in (
            (self._binding.bind_input, inputs),
            (self._binding.bind_output, outputs),
        ):
            for name, tensor in tensors.items():
                where = (tensor.data_ptr(), tensor.shape)
                if bound.get(name) != where:
                    bind(name, *self._place, DTYPES[tensor.dtype], list(tensor.shape), where[0])
                    bound[name] = where
        self.session.run_with_iobinding(self._binding)
        if self._place[0] != "cpu":
            self._binding.synchronize_outputs()


def _values(nodes: list[Any]) -> dict[str, tuple[str, list[int | None]]]:
    found = {}
    for node in nodes:
        dtype = node.type.removeprefix("tensor(").removesuffix(")")
        shape = [side if isinstance(side, int) else None for side in node.shape]
        found[node.name] = (_WORDS.get(dtype, dtype), shape)
    return found


def _brief(error: Exception) -> str:
    """The first line of what it says, without where in its source it says so."""
    return str(error).strip().partition("\n")[0][:300]


def build(request: BuildRequest) -> ExportedBackend:
    """The back end of a world."""
    device = request.device
    return ExportedBackend(request.bundle, request.precision, OnnxEngine(device.type, device.index or 0))
