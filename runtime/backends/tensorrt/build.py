"""An engine from a graph file: strongly typed, so that it computes in the dtypes that stand in the graph."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.errors import BundleError, DeviceError, InputError
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.tensorrt.cache import Settings
from genie_rt.runtime.backends.tensorrt.flavour import Flavour
from genie_rt.runtime.backends.tensorrt.inspect import check_ports, ports_of_network
from genie_rt.runtime.backends.tensorrt.target import Target
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.untrusted import brief


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """What a build gave.

    Attributes:
        engine: serialised.
        timing: TensorRT's measurements, serialised, for the next build; None with TensorRT-RTX.
    """

    engine: memoryview
    timing: memoryview | None


def build_engine(
    flavour: Flavour,
    graph: CheckedGraph,
    signature: Signature,
    target: Target,
    *,
    precision: str,
    settings: Settings,
    timing: bytes = b"",
) -> Built:
    """Builds an engine. TensorRT does it on the GPU that is current, TensorRT-RTX without one.

    Quantisation is what QuantizeLinear and DequantizeLinear in the graph say, and nothing is calibrated. In
    float32 nothing is rounded to TF32; where a graph is narrower anyway, what it keeps in float32 may be.

    Args:
        precision: of the graph.
        timing: what an earlier build measured.

    Raises:
        BundleError: TensorRT does not know the graph's operators, or its inputs and outputs are not the
            signature's.
        DeviceError: TensorRT built none; the message is its own.
        InputError: there is no room for the graph and its weights in the folder of temporary files.
    """
    path, (trt, start) = graph.path, (flavour.module, time.monotonic())
    builder = trt.Builder(flavour.log.sink)
    network = builder.create_network(_strongly_typed(trt))
    _parse(flavour, network, graph)
    check_ports(path, ports_of_network(network), signature)
    _let_attention_decompose(trt, network)
    config = _config(flavour, builder, target, precision, settings, timing)
    if (profile := _profile(builder, signature)) is not None:
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise DeviceError(
            f"{path.name}: expected an engine for {target}, found that {flavour.name} {flavour.version} "
            f"builds none: {brief(flavour.log.errors(start))}"
        )
    measured = None if flavour.is_rtx else config.get_timing_cache()
    return Built(
        engine=memoryview(engine), timing=None if measured is None else memoryview(measured.serialize())
    )


def _strongly_typed(trt: Any) -> int:
    """The flag that TensorRT 10 needs; the only way from 11 on, and in TensorRT-RTX."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(flavour: Flavour, network: Any, graph: CheckedGraph) -> None:
    """Has TensorRT read what was checked, from a folder of our own."""
    start = time.monotonic()
    parser = flavour.module.OnnxParser(network, flavour.log.sink)
    try:
        with tempfile.TemporaryDirectory(prefix="genie-rt-") as folder:
            copy = Path(folder) / graph.path.name
            copy.write_bytes(graph.to_bytes())
            graph.weights.data.tofile(copy.with_name(WEIGHTS))
            done = parser.parse_from_file(str(copy))
    except OSError as problem:
        raise InputError(
            f"{tempfile.gettempdir()}: expected room for a graph and its weights, "
            f"{graph.weights.data.nbytes} bytes, found: {problem.strerror or problem}; set TMPDIR to another"
        ) from problem
    if done:
        return
    reasons = []
    for index in range(min(parser.num_errors, 2)):
        error = parser.get_error(index)
        node = f"{error.node_operator()} {error.node_name()}: " if error.node_operator() else ""
        reasons.append(node + error.desc())
    said = "; ".join([flavour.log.errors(start), *reasons])
    raise BundleError(
        f"{graph.path}: expected a graph that {flavour.name} {flavour.version} can read, found: {brief(said)}"
    )


def _let_attention_decompose(trt: Any, network: Any) -> None:
    """Lets TensorRT spell out an Attention that it has no fused kernel for, as for all in float32.

    Otherwise it refuses the network.
    """
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = trt.IAttentionInputLayer  # `get_layer` knows of no subclass
            layer.attention.decomposable = True


def _config(
    flavour: Flavour, builder: Any, target: Target, precision: str, settings: Settings, timing: bytes
) -> Any:
    trt = flavour.module
    config = builder.create_builder_config()
    config.builder_optimization_level = settings.level
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if precision == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if flavour.is_rtx:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target.capability}"), 0)
        # an engine that allocates while it runs cannot be captured in a CUDA graph
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    else:
        cache = config.create_timing_cache(timing)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config


def _profile(builder: Any, signature: Signature) -> Any:
    """The sizes of a subset: one position, half of them, all. None where everything is fixed."""
    named = {
        name: value.shape
        for name, value in signature.inputs.items()
        if any(isinstance(side, str) for side in value.shape)
    }
    if not named:
        return None
    num_positions = signature.inputs["around"].shape[1]
    if not isinstance(num_positions, int):
        raise BundleError(f"expected pages of a fixed size, found {num_positions} positions")
    profile = builder.create_optimization_profile()
    for name, shape in named.items():
        sizes = [
            tuple(size if isinstance(side, str) else side for side in shape)
            for size in (1, max(num_positions // 2, 1), num_positions)
        ]
        profile.set_shape(name, *sizes)
    return profile
