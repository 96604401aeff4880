"""The back ends that there are. A new one is a module with a function `build`, and an entry in `_ALL`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.native.find import find_library, how_to_get

if TYPE_CHECKING:
    from genie_rt.runtime.backends.protocol import Backend
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.model.world_model import WorldModel

_ROOT = "genie_rt.runtime.backends"

ACTIVATIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "float64": torch.float64,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "fp8": torch.bfloat16,
        "int8": torch.bfloat16,
    }
)
"""Number formats, and what activations are in each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What a back end is made of.

    Attributes:
        backend, dtype: its name, and the number format to compute in.
        bundle: whose graphs are run, by back ends that run graphs.
        model: makes one with the bundle's weights, which the other back ends take. There may be no file of
            them.
        rebuild: whether engines that were kept from earlier are built anew.
    """

    backend: str
    dtype: str
    device: torch.device
    bundle: Bundle
    model: Callable[[], WorldModel]
    rebuild: bool

    @property
    def activations(self) -> torch.dtype:
        """What activations are."""
        return ACTIVATIONS[self.dtype]

    @property
    def precision(self) -> str:
        """Precision of the graphs to run."""
        return graph_precision(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """What is known of a back end before it is imported.

    Attributes:
        name: as `World.load` takes it.
        dtypes: number formats that it computes in.
        devices: kinds of torch devices that it computes on, its own first.
        module: ours, with a function `build(BuildRequest) -> Backend`.
        needs: the package that it imports, None where it needs none.
        extra: of genie-rt, that brings the package.
        loads_library: whether it needs our own C library, which a package may have been built without.
        runs_graphs: whether it runs the exported graphs of a bundle.
        takes_limits: whether it computes int8 by the limits in bundle.json, which a bundle may lack.
        cpu_rank: by number format, its place among all when "auto" looks for the fastest on a CPU, 1 first;
            bench/results has the figures.
    """

    name: str
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    module: str
    needs: str | None = None
    extra: str | None = None
    loads_library: bool = False
    runs_graphs: bool = False
    takes_limits: bool = False
    cpu_rank: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_installed(self) -> bool:
        """Whether the package or library that it needs is there."""
        if self.loads_library and find_library() is None:
            return False
        return self.needs is None or find_spec(self.needs) is not None

    def check_installed(self) -> None:
        """Raises `UnsupportedError` unless the package or library that it needs is there."""
        if self.is_installed:
            return
        if self.loads_library:
            raise UnsupportedError(
                f'the back end "{self.name}" needs our C library, which is not there: {how_to_get()}'
            )
        if self.needs is not None:
            raise UnsupportedError(
                f'the back end "{self.name}" needs the package {self.needs}, which is not installed: '
                f"{install_hint(self.extra or '')}"
            )

    def build(self, request: BuildRequest) -> Backend:
        """Imports it and makes one."""
        built: Backend = import_module(self.module).build(request)
        return built


_ALL = (
    BackendSpec(
        name="reference",
        dtypes=("float64", "float32", "bfloat16"),
        devices=("cpu", "cuda"),
        module=f"{_ROOT}.reference",
        cpu_rank={"float32": 9, "bfloat16": 10, "float64": 11},
    ),
    BackendSpec(
        name="native",
        dtypes=("float32", "int8"),
        devices=("cpu",),
        module=f"{_ROOT}.native.backend",
        loads_library=True,
        takes_limits=True,
        cpu_rank={"int8": 1, "float32": 5},
    ),
    BackendSpec(
        name="cuda",
        dtypes=("float32", "bfloat16", "float16", "fp8", "int8"),
        devices=("cuda",),
        module=f"{_ROOT}.cuda.backend",
        needs="triton",
        extra="gpu",
    ),
    BackendSpec(
        name="onnx",
        dtypes=("float32", "float16", "int8"),
        devices=("cpu", "cuda"),
        module=f"{_ROOT}.exported.onnx",
        needs="onnxruntime",
        extra="onnx",
        runs_graphs=True,
        cpu_rank={"int8": 3, "float32": 7, "float16": 8},
    ),
    BackendSpec(
        name="openvino",
        dtypes=("float32", "bfloat16", "int8"),
        devices=("cpu",),
        module=f"{_ROOT}.exported.openvino",
        needs="openvino",
        extra="openvino",
        runs_graphs=True,
        cpu_rank={"int8": 2, "bfloat16": 4, "float32": 6},
    ),
    BackendSpec(
        name="tensorrt",
        dtypes=("float32", "float16", "int8"),
        devices=("cuda",),
        module=f"{_ROOT}.tensorrt.engine",
        needs="tensorrt",
        extra="tensorrt",
        runs_graphs=True,
    ),
    BackendSpec(
        name="tensorrt-rtx",
        dtypes=("float32", "float16", "int8"),
        devices=("cuda",),
        module=f"{_ROOT}.tensorrt.engine",
        needs="tensorrt_rtx",
        extra="tensorrt-rtx",
        runs_graphs=True,
    ),
)

BACKENDS: Mapping[str, BackendSpec] = MappingProxyType({spec.name: spec for spec in _ALL})
"""By name, in the order in which messages list them."""


def graph_precision(dtype: str) -> str:
    """Precision of the graphs that are run in a number format: bfloat16 is an engine's own matter."""
    return "float32" if dtype == "bfloat16" else dtype
