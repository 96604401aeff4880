"""The engines `tensorrt` and `tensorrt-rtx`: graphs of a bundle, built once, kept, and run from then on."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from genie_rt.environment import engine_cache
from genie_rt.errors import DeviceError
from genie_rt.runtime.backends.cuda.capture import GraphCapture
from genie_rt.runtime.backends.exported.backend import ExportedBackend
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.registry import BuildRequest
from genie_rt.runtime.backends.tensorrt.build import build_engine
from genie_rt.runtime.backends.tensorrt.cache import EngineCache, Identity, Settings
from genie_rt.runtime.backends.tensorrt.flavour import Flavour
from genie_rt.runtime.backends.tensorrt.graph import TensorRtGraph
from genie_rt.runtime.backends.tensorrt.inspect import check_ports, ports_of_engine
from genie_rt.runtime.backends.tensorrt.target import Target
from genie_rt.runtime.manifest import graph_file
from genie_rt.runtime.untrusted import brief

_LOGGER = logging.getLogger("genie_rt.tensorrt")


class TensorRtEngine:
    """Runs the graphs of one bundle. See `exported.engine.Engine`.

    Args:
        bundle: digest of the bundle.
        precision: of its graphs, one of `exported.signature.PAGE_DTYPES`.
        device: a CUDA device.
        flavour: of TensorRT.
        cache: the folder of engines, which is made if it is missing.
        rebuild: whether engines are built although there are some, whatever those were built for.
        settings: of builds.
        here: GPU and driver; None asks the device.

    Raises:
        UnsupportedError: the flavour cannot build for this GPU, or others may write to the folder.
        InputError: the folder cannot be made.
    """

    def __init__(
        self,
        bundle: str,
        precision: str,
        device: torch.device,
        flavour: Flavour,
        cache: Path,
        *,
        rebuild: bool = False,
        settings: Settings = Settings(),  # noqa: B008  # it is frozen
        here: Target | None = None,
    ) -> None:
        self.bundle, self.precision, self.device, self.flavour = bundle, precision, device, flavour
        self.name = flavour.name
        self.arithmetic: str | None = None
        self.rebuild, self.settings = rebuild, settings
        self.here = here or Target.here(device)
        self.target = self.here.built_for(flavour)
        self.cache = EngineCache(cache)
        self._runtime = flavour.module.Runtime(flavour.log.sink)
        self._captures = GraphCapture(device)
        self._lock = threading.Lock()

    def load(self, graph: CheckedGraph, signature: Signature) -> TensorRtGraph:
        """A graph, ready to run, from the engine that is kept; where there is none, it is built first.

        Building takes seconds to minutes and the whole GPU.

        Raises:
            BundleError: TensorRT cannot read the graph, its inputs or outputs are not the signature's, or the
                engine that was kept has been changed.
            UnsupportedError: the engine that was kept is for another GPU, driver or version.
            DeviceError: TensorRT failed, or there is not enough memory.
            InputError: the engine cannot be kept.
        """
        wanted, path = self.identity(graph), graph.path
        with self._lock, _current(self.device):
            data = obtain(self.cache, self.flavour, wanted, graph, signature, rebuild=self.rebuild)
            start = time.monotonic()
            engine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise DeviceError(f"{path.name}: the engine does not load: {self._errors(start)}")
            check_ports(path, ports_of_engine(self.flavour, engine), signature)
            context, owned = self._context(engine, wanted)
            if context is None:
                raise DeviceError(f"{path.name}: the engine does not start: {self._errors(start)}")
            return TensorRtGraph(
                wanted.graph, context, signature, self.device, self._captures, self.flavour.log,
                scratch_bytes=engine.device_memory_size_v2, keeps=(engine, *owned),
            )  # fmt: skip

    def identity(self, graph: CheckedGraph) -> Identity:
        """What the engine of a graph depends on."""
        return identity(
            graph, bundle=self.bundle, precision=self.precision, flavour=self.flavour, target=self.target,
            settings=self.settings,
        )  # fmt: skip

    def _context(self, engine: Any, wanted: Identity) -> tuple[Any, tuple[object, ...]]:
        """A context over memory of ours, and what it needs as long as it lives.

        What TensorRT-RTX compiles for it is kept for the next time.
        """
        trt = self.flavour.module
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.flavour.is_rtx:
            return engine.create_execution_context(strategy), ()
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # we capture
        # at once: a kernel that is compiled later, in the background, would not be in a captured graph
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        compiled = config.create_runtime_cache()
        path = self.cache.runtime_path(wanted, self.here)
        kept = self.cache.read_aid(path)
        if kept and not compiled.deserialize(kept):
            _LOGGER.info("%s is of another driver; it is made again", path)
        config.set_runtime_cache(compiled)
        context = engine.create_execution_context(runtime_config=config)
        if context is not None and (now := bytes(memoryview(compiled.serialize()))) != kept:
            with self.cache.locked(wanted):
                self.cache.write_aid(path, now)
        return context, (config, compiled)

    def _errors(self, start: float) -> str:
        return brief(self.flavour.log.errors(start))


def identity(
    graph: CheckedGraph, *, bundle: str, precision: str, flavour: Flavour, target: Target, settings: Settings
) -> Identity:
    """What the engine of a graph depends on."""
    digest = hashlib.sha256(graph.to_bytes()).hexdigest()
    return Identity(
        bundle=bundle, graph=graph.path.name.removesuffix(graph_file("", precision)), graph_sha256=digest,
        precision=precision, flavour=flavour.name, version=flavour.version, target=target, settings=settings,
    )  # fmt: skip


def obtain(
    cache: EngineCache,
    flavour: Flavour,
    wanted: Identity,
    graph: CheckedGraph,
    signature: Signature,
    *,
    rebuild: bool = False,
) -> bytes:
    """A serialised engine: the one that is kept, or one that is built now and kept.

    Two processes that want the same one build it once. Raises as `TensorRtEngine.load`.
    """
    if not rebuild and (found := cache.find(wanted)) is not None:
        return found.data
    with cache.locked(wanted):
        if not rebuild and (found := cache.find(wanted)) is not None:  # another process was faster
            return found.data
        start, timing = time.monotonic(), cache.timing_path(wanted)
        _LOGGER.info("building the graph %s with %s", wanted.graph, wanted.where)
        try:
            built = build_engine(
                flavour, graph, signature, wanted.target, precision=wanted.precision,
                settings=wanted.settings, timing=b"" if flavour.is_rtx else cache.read_aid(timing),
            )  # fmt: skip
        finally:
            cache.write_log(wanted, flavour.log.since(start))
        cache.store(wanted, built.engine)
        if built.timing is not None:
            cache.write_aid(timing, built.timing)
        _LOGGER.info("built in %.1f s, kept in %s", time.monotonic() - start, cache.folder(wanted))
        return bytes(built.engine)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Within its block a device is the current one, on which TensorRT builds and loads."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def build(request: BuildRequest) -> ExportedBackend:
    """The back end of a world, by the flavour of TensorRT that was chosen."""
    bundle, flavour = request.bundle, Flavour.of(request.backend)
    engine = TensorRtEngine(
        bundle.digest, request.precision, request.device, flavour, engine_cache(), rebuild=request.rebuild
    )
    return ExportedBackend(bundle, request.precision, engine)
