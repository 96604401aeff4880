"""Which back end computes a world: by name, or the fastest that machine, bundle and number format allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.arguments import found as shown
from genie_rt.runtime.arguments import one_of
from genie_rt.runtime.manifest import GRAPH_FORMATS, Graphs

if TYPE_CHECKING:
    from genie_rt.runtime.backends.exported.engine import Engine
    from genie_rt.runtime.backends.protocol import Backend
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.model.world_model import WorldModel

BACKENDS = {
    "reference": ("float64", "float32", "bfloat16"),
    "cuda": ("float32", "bfloat16", "float16", "fp8", "int8"),
    "onnx": ("float32", "float16", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "tensorrt": ("float32", "float16", "int8"),
    "tensorrt-rtx": ("float32", "float16", "int8"),
}
"""Back ends, and the number formats that each computes in."""

EXPORTED = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
"""Those that run the graphs of a bundle, and the module that each needs."""

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8": torch.bfloat16,
    "int8": torch.bfloat16,
}
"""Of activations, by number format."""

AUTO = "auto"
"""In place of a back end or a number format: the fastest."""

FASTEST_ON_CPU = (
    ("openvino", "int8"),
    ("onnx", "int8"),
    ("openvino", "bfloat16"),
    ("openvino", "float32"),
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("reference", "float32"),
    ("reference", "bfloat16"),
    ("reference", "float64"),
)
"""The order in which they are tried; bench/results has the figures."""

MOST_PSNR_CHANGE_DB = 0.5
"""A format that nobody asked for is taken only if frames were measured to be this close to float32's."""

ALL_GRAPHS = Graphs(opset=1, precisions=tuple(GRAPH_FORMATS))
"""Of a bundle that has whatever a back end may ask for: what fails with these fails with every bundle."""

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A back end that this machine can run. `dtype` is one of `DTYPES`."""

    backend: str
    dtype: str
    device: torch.device

    @classmethod
    def of(cls, backend: str, dtype: str, device: str | None, graphs: Graphs | None = None) -> Choice:
        """Finds out what is meant.

        Args:
            backend: one of `BACKENDS`, or "auto": on a CUDA device "cuda" where its formats allow it, else
                "reference"; on a CPU the first of `FASTEST_ON_CPU` that is installed and has graphs.
            dtype: one of `DTYPES`, or "auto": bfloat16 for "cuda", else the first of `FASTEST_ON_CPU` for
                that back end, with `MOST_PSNR_CHANGE_DB`.
            device: a torch device; None is "cuda" for back ends that need one, else "cpu".
            graphs: of the bundle, None where it has none; `ALL_GRAPHS` before it is opened.

        Raises:
            UnsupportedError: there is no such back end or format, or not here; the message says what is.
        """
        asked, backend = backend, one_of(backend, (AUTO, *BACKENDS)) or ""
        if not backend:
            raise UnsupportedError(f"unknown back end {shown(asked)}: expected auto or {', '.join(BACKENDS)}")
        asked, dtype = dtype, one_of(dtype, (AUTO, *DTYPES)) or ""
        if not dtype:
            raise UnsupportedError(
                f"unknown dtype {shown(asked)}: expected auto or one of {', '.join(DTYPES)}"
            )
        if device is None:
            device = "cuda" if backend == "cuda" or backend.startswith("tensorrt") else "cpu"
        found = find_device(device)
        backend, dtype = _settle(backend, dtype, found, graphs)
        if dtype not in BACKENDS[backend]:
            able = [name for name, formats in BACKENDS.items() if dtype in formats]
            raise UnsupportedError(
                f"the back end {backend!r} does not compute in {dtype!r}: expected one of "
                f"{', '.join(BACKENDS[backend])}. Back ends that do: {', '.join(able)}; they have to be "
                "installed, and those that run graphs need graphs in that format in the bundle"
            )
        if backend == "cuda":
            _check_cuda(found, dtype)
        elif backend in EXPORTED:
            _check_exported(backend, found)
        return cls(backend=backend, dtype=dtype, device=found)

    def build(self, bundle: Bundle, model: Callable[[], WorldModel], *, rebuild: bool = False) -> Backend:
        """The back end.

        Args:
            bundle: whose graphs are run, by back ends that run graphs.
            model: makes one with the bundle's weights, which the other back ends take.
            rebuild: whether TensorRT builds its engines anew.

        Raises:
            BundleError: the bundle has no such graphs, or broken ones.
            UnsupportedError: what runs graphs does not run here.
            DeviceError: there is not enough memory.
        """
        if self.backend in EXPORTED:
            from genie_rt.runtime.backends.exported.backend import ExportedBackend

            return ExportedBackend(bundle, graph_precision(self.dtype), self._engine(bundle, rebuild))
        if self.backend == "cuda":
            from genie_rt.runtime.backends.cuda.backend import CudaBackend
            from genie_rt.runtime.backends.cuda.precision import Precision

            return CudaBackend(model(), Precision.of(self.dtype), self.device, release=True)
        from genie_rt.runtime.backends.reference import ReferenceBackend

        return ReferenceBackend(model(), self.device, DTYPES[self.dtype])

    def _engine(self, bundle: Bundle, rebuild: bool) -> Engine:
        if self.backend == "onnx":
            from genie_rt.runtime.backends.exported.onnx import OnnxEngine

            return OnnxEngine(self.device.type, self.device.index or 0)
        if self.backend == "openvino":
            from genie_rt.environment import compiled_cache
            from genie_rt.runtime.backends.exported.openvino import OpenVinoEngine, has_bfloat16
            from genie_rt.runtime.kept import Kept

            # of an int8 graph what is not rounded is as good in bfloat16, where the CPU has that
            narrow = self.dtype == "bfloat16" or (self.dtype == "int8" and has_bfloat16())
            return OpenVinoEngine("bfloat16" if narrow else "float32", Kept(compiled_cache()))
        from genie_rt.environment import engine_cache
        from genie_rt.runtime.backends.tensorrt.engine import TensorRtEngine
        from genie_rt.runtime.backends.tensorrt.flavour import Flavour

        return TensorRtEngine(
            bundle.digest, graph_precision(self.dtype), self.device, Flavour.of(self.backend), engine_cache(),
            rebuild=rebuild,
        )  # fmt: skip


def graph_precision(dtype: str) -> str:
    """Of the graphs that are computed in a number format: bfloat16 is an engine's own matter."""
    return "float32" if dtype == "bfloat16" else dtype


def _settle(backend: str, dtype: str, device: torch.device, graphs: Graphs | None) -> tuple[str, str]:
    """A back end and a number format for what was left open."""
    if device.type == "cuda" or backend == "cuda":
        if backend == AUTO:
            fits = dtype == AUTO or dtype in BACKENDS["cuda"]
            backend = "cuda" if fits and find_spec("triton") is not None else "reference"
        if dtype == AUTO:
            dtype = "bfloat16" if backend in ("cuda", "reference") else "float32"
        return backend, dtype
    for name, format_ in FASTEST_ON_CPU:
        if backend not in (AUTO, name) or dtype not in (AUTO, format_):
            continue
        if AUTO in (backend, dtype) and not _is_ready(name, format_, graphs):
            continue
        if dtype == AUTO and not _is_close(format_, graphs):
            continue
        return name, format_
    return ("reference" if backend == AUTO else backend), ("float32" if dtype == AUTO else dtype)


def _is_ready(backend: str, dtype: str, graphs: Graphs | None) -> bool:
    """Whether a back end is installed, and the bundle has what it runs."""
    if backend not in EXPORTED:
        return True
    has_graphs = graphs is not None and graph_precision(dtype) in graphs.precisions
    return has_graphs and find_spec(EXPORTED[backend]) is not None


def _is_close(dtype: str, graphs: Graphs | None) -> bool:
    """Whether frames in this number format are known to be as good as float32's."""
    if dtype == "float32":
        return True
    change = None if graphs is None else graphs.psnr_change_db.get(dtype)
    return change is not None and abs(change) <= MOST_PSNR_CHANGE_DB


def _check_cuda(device: torch.device, dtype: str) -> None:
    from genie_rt.runtime.backends.cuda.precision import Precision

    if device.type != "cuda":
        raise UnsupportedError(
            f'the back end "cuda" needs a CUDA device, found {device}; leave device out, or take '
            'backend="reference"'
        )
    if find_spec("triton") is None:
        raise UnsupportedError(
            f'the back end "cuda" needs Triton, which is not installed: {install_hint("gpu")}'
        )
    major, minor = torch.cuda.get_device_capability(device)
    Precision.of(dtype).check(10 * major + minor)


def _check_exported(backend: str, device: torch.device) -> None:
    if find_spec(EXPORTED[backend]) is None:
        raise UnsupportedError(
            f'the back end "{backend}" needs the package {EXPORTED[backend]}, which is not installed: '
            f"{install_hint(backend)}"
        )
    if backend == "openvino" and device.type != "cpu":
        raise UnsupportedError(f'the back end "openvino" computes on a CPU, found {device}; leave device out')
    if backend.startswith("tensorrt") and device.type != "cuda":
        raise UnsupportedError(
            f'the back end "{backend}" needs a CUDA device, found {device}; leave device out, or take '
            'backend="onnx"'
        )


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        UnsupportedError: genie-rt does not run on such a device, or this machine has none.
    """
    try:
        if not isinstance(name, str | torch.device):
            raise RuntimeError("a device is named by a text")
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError(f"genie-rt runs on {' and '.join(DEVICES)}")
        return torch.empty(0, device=device).device  # "cuda" with its index: which one it is may change
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:300]
        raise UnsupportedError(
            f'the device {shown(name)} is not available here ({reason}); try device="cpu"'
        ) from error
