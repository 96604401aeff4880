"""Which back end computes a world: by name, or the fastest that machine, bundle and number format allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genie_rt.errors import UnsupportedError
from genie_rt.runtime.arguments import found as shown
from genie_rt.runtime.arguments import one_of
from genie_rt.runtime.backends.registry import (
    ACTIVATIONS,
    BACKENDS,
    BackendSpec,
    BuildRequest,
    graph_precision,
)
from genie_rt.runtime.manifest import GRAPH_FORMATS, GraphManifest

if TYPE_CHECKING:
    from genie_rt.runtime.backends.protocol import Backend
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.model.world_model import WorldModel

AUTO = "auto"
"""In place of a back end or a number format: the fastest."""

FASTEST_ON_CPU = tuple(
    (name, dtype)
    for _, name, dtype in sorted(
        (rank, spec.name, dtype) for spec in BACKENDS.values() for dtype, rank in spec.cpu_rank.items()
    )
)
"""Back ends and number formats in the order in which "auto" tries them on a CPU."""

MOST_PSNR_CHANGE_DB = 0.5
"""A format that nobody asked for is taken only if frames were measured to be this close to float32's."""

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a bundle holds that some back ends cannot compute without.

    Attributes:
        graphs: None where it has none.
        has_limits: whether it has limits of what is rounded to int8.
    """

    graphs: GraphManifest | None = None
    has_limits: bool = False

    @classmethod
    def of(cls, bundle: Bundle) -> Holdings:
        return cls(graphs=bundle.graphs, has_limits=bundle.int8 is not None)


EVERYTHING = Holdings(graphs=GraphManifest(opset=1, precisions=tuple(GRAPH_FORMATS)), has_limits=True)
"""Of a bundle that has whatever a back end may ask for: what fails with these always fails."""

NOTHING = Holdings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A back end that this machine can run. `dtype` is a number format, one of `ACTIVATIONS`."""

    backend: str
    dtype: str
    device: torch.device

    @classmethod
    def of(cls, backend: str, dtype: str, device: str | None, holdings: Holdings = NOTHING) -> Choice:
        """Finds out what is meant.

        Args:
            backend: one of `BACKENDS`, or "auto": on a CUDA device "cuda" where its formats allow it, else
                "reference"; on a CPU the first of `FASTEST_ON_CPU` that is installed and finds in the bundle
                what it needs.
            dtype: one of `ACTIVATIONS`, or "auto": on a CUDA device bfloat16 where the back end computes in
                it, else the first of `FASTEST_ON_CPU` for that back end, with `MOST_PSNR_CHANGE_DB`.
            device: a torch device; None is "cuda" for back ends that need one, else "cpu".
            holdings: of the bundle; `EVERYTHING` before it is opened.

        Raises:
            UnsupportedError: there is no such back end or format, or not here; the message says what is.
        """
        asked, backend = backend, one_of(backend, (AUTO, *BACKENDS)) or ""
        if not backend:
            raise UnsupportedError(f"unknown back end {shown(asked)}: expected auto or {', '.join(BACKENDS)}")
        asked, dtype = dtype, one_of(dtype, (AUTO, *ACTIVATIONS)) or ""
        if not dtype:
            raise UnsupportedError(
                f"unknown dtype {shown(asked)}: expected auto or one of {', '.join(ACTIVATIONS)}"
            )
        if device is None:
            device = "cpu" if backend == AUTO else BACKENDS[backend].devices[0]
        found = find_device(device)
        backend, dtype = _settle(backend, dtype, found, holdings)
        spec = BACKENDS[backend]
        if dtype not in spec.dtypes:
            able = [other.name for other in BACKENDS.values() if dtype in other.dtypes]
            raise UnsupportedError(
                f"the back end {backend!r} does not compute in {dtype!r}: expected one of "
                f"{', '.join(spec.dtypes)}. Back ends that do: {', '.join(able)}; they have to be "
                "installed, and those that run graphs need graphs in that format in the bundle"
            )
        spec.check_installed()
        if found.type not in spec.devices:
            needs = "needs a CUDA device" if "cuda" in spec.devices else "computes on a CPU"
            raise UnsupportedError(
                f'the back end "{backend}" {needs}, found {found}; leave device out, or take another back end'
            )
        if backend == "cuda":
            from genie_rt.runtime.backends.cuda.precision import Precision

            major, minor = torch.cuda.get_device_capability(found)
            Precision.of(dtype).check(10 * major + minor)
        return cls(backend=backend, dtype=dtype, device=found)

    @property
    def activations(self) -> torch.dtype:
        """What activations are."""
        return ACTIVATIONS[self.dtype]

    def build(self, bundle: Bundle, model: Callable[[], WorldModel], *, rebuild: bool = False) -> Backend:
        """The back end; see `BuildRequest`.

        Raises:
            BundleError: the bundle has no such graphs, or broken ones.
            UnsupportedError: what runs graphs does not run here.
            DeviceError: there is not enough memory.
        """
        request = BuildRequest(
            backend=self.backend,
            dtype=self.dtype,
            device=self.device,
            bundle=bundle,
            model=model,
            rebuild=rebuild,
        )
        return BACKENDS[self.backend].build(request)


def _settle(backend: str, dtype: str, device: torch.device, holdings: Holdings) -> tuple[str, str]:
    """A back end and a number format for what was left open."""
    if device.type == "cuda" or backend == "cuda":
        if backend == AUTO:
            cuda = BACKENDS["cuda"]
            fits = dtype == AUTO or dtype in cuda.dtypes
            backend = "cuda" if fits and cuda.is_installed else "reference"
        if dtype == AUTO:
            dtype = "bfloat16" if "bfloat16" in BACKENDS[backend].dtypes else "float32"
        return backend, dtype
    for name, format_ in FASTEST_ON_CPU:
        if backend not in (AUTO, name) or dtype not in (AUTO, format_):
            continue
        if AUTO in (backend, dtype) and not _is_ready(name, format_, holdings):
            continue
        if dtype == AUTO and not _is_close(format_, holdings.graphs):
            continue
        return name, format_
    return ("reference" if backend == AUTO else backend), ("float32" if dtype == AUTO else dtype)


def _is_ready(backend: str, dtype: str, holdings: Holdings) -> bool:
    """Whether a back end is installed, and the bundle has what it needs."""
    spec = BACKENDS[backend]
    return spec.is_installed and serves(spec, dtype, holdings)


def serves(spec: BackendSpec, dtype: str, holdings: Holdings) -> bool:
    """Whether a bundle has what a back end needs to compute in a number format."""
    if spec.takes_limits and dtype == "int8":
        return holdings.has_limits
    graphs = holdings.graphs
    return not spec.runs_graphs or (graphs is not None and graph_precision(dtype) in graphs.precisions)


def _is_close(dtype: str, graphs: GraphManifest | None) -> bool:
    """Whether frames in this number format are known to be as good as float32's."""
    if dtype == "float32":
        return True
    change = None if graphs is None else graphs.psnr_change_db.get(dtype)
    return change is not None and abs(change) <= MOST_PSNR_CHANGE_DB


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
