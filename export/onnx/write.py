"""Writes all graph files of a bundle and checks each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto

from genie_rt.errors import BundleError, ConfigError
from genie_rt.export.onnx.builder import Builder
from genie_rt.export.onnx.frame import frame
from genie_rt.export.onnx.graphs import commit, decode, encode, one_pass, pass_at
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.weights import WeightFile
from genie_rt.runtime.backends.exported.checked import check_graph
from genie_rt.runtime.backends.exported.limits import limits_of
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES, signatures
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.manifest import WEIGHTS, graph_file
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan

_WRITERS = {"encode": encode, "commit": commit, "pass": one_pass, "pass-at": pass_at, "decode": decode}


def write_graphs(
    folder: Path,
    config: ModelConfig,
    plans: Mapping[str, Plan],
    *,
    precisions: Sequence[str],
    frame_plans: Sequence[str],
    opset: int = 23,
    quantisation: Quantisation | None = None,
) -> list[Path]:
    """Write the graphs of a bundle next to its weights, whose header alone is read, and check them.

    Once as ONNX does, and once as whoever plays the bundle does.

    The same arguments and versions give the same bytes.

    Args:
        folder: that holds `weights.safetensors`.
        config: sizes of the model.
        plans: by name.
        precisions: of `PAGE_DTYPES`; "int8" reads the weights, one after the other.
        frame_plans: those of `plans` that a frame graph is written for.
        opset: of standard ONNX: 23, or 20 for engines that know no later one.
        quantisation: of "int8", which needs it.

    Returns:
        The files, in the order of `signatures`, precision by precision.

    Raises:
        ConfigError: an argument is not what a graph can be written for.
        BundleError: the weights are not the model's, or a graph is not sound; the message says which.
    """
    for precision in precisions:
        if precision not in PAGE_DTYPES:
            raise ConfigError(f"precisions: expected some of {', '.join(PAGE_DTYPES)}, found {precision!r}")
    if "int8" in precisions and quantisation is None:
        raise ConfigError("quantisation: expected one, since int8 graphs are to be written; found None")
    for name in frame_plans:
        if name not in plans:
            raise ConfigError(
                f"frame_plans: expected some of {', '.join(plans) or 'no plans'}, found {name!r}"
            )
    weights = WeightFile(folder / WEIGHTS, parameter_shapes(config))
    chosen = {name: plans[name] for name in frame_plans}
    paths = []
    for precision in precisions:
        for name, signature in signatures(config, precision, chosen).items():
            g = Builder(
                weights,
                signature,
                opset=opset,
                half=precision == "float16",
                quantisation=quantisation.check(config) if quantisation and precision == "int8" else None,
            )
            path = folder / graph_file(name, precision)
            path.write_bytes(_model(g, config, name, chosen).SerializeToString(deterministic=True))
            paths.append(path)
            check_onnx(path)
            limits = limits_of(config, name, chosen, weights.num_bytes)
            check_graph(path, path.read_bytes(), weights.unread(), signature, limits)
    return paths


def _model(g: Builder, config: ModelConfig, name: str, plans: Mapping[str, Plan]) -> ModelProto:
    if name in _WRITERS:
        return _WRITERS[name](g, config)
    plan = name.removeprefix("frame-")
    return frame(g, config, plan, plans[plan])


def check_onnx(path: Path) -> ModelProto:
    """The graph with the types and shapes of all values, known to be sound.

    Raises:
        BundleError: it is not; the message is ONNX's own.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{path}: expected a sound graph, found {error}") from error
