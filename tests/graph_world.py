"""Worlds of the C library that run a bundle's graphs in ONNX Runtime, and small bundles with graphs."""

import importlib.util
from ctypes import byref, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from makers import ACTIONS, make_config, make_model, make_pictures

from genie_rt.export.bundle import write_bundle
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.write import write_graphs
from genie_rt.runtime.backends.native import header
from genie_rt.runtime.backends.native.handles import Handle, NativeWorld
from genie_rt.runtime.backends.native.library import load_library
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.manifest import GraphManifest, ParityBound
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

SEED = 2**63 + 5
ENGINE_ONNXRUNTIME = 1

CONFIGS = {
    "padded pages": make_config(),  # heads of 6 numbers
    "pages in place": make_config(grid=(4, 6), merge=2, window=3, decoder_window=2, head_width=16),
    "without a past": make_config(window=1),
    "long encoder": make_config(grid=(2, 4), window=2, encoder_window=5, decoder_window=6, head_width=20),
}
GRAPH_PLANS = {
    "default": Plan(passes=3),
    "sure": Plan(order="adaptive", passes=5, threshold=0.2),
    "random": Plan(order="random", passes=2, temperature=0.8),
    "halton": Plan(order="halton", passes=4),
}
OTHER_PLANS = {
    "longer": Plan(passes=4, noise=2.0),
    "adaptive": Plan(order="adaptive", passes=6, threshold=0.15),
    "shuffled": Plan(order="random", passes=5),
    "spread": Plan(order="halton", passes=2, temperature=0.5),
    "random positions": Plan(order="random", passes=3, reuse="passes"),
    "halton positions": Plan(order="halton", passes=2, reuse="passes"),
    "fresh": Plan(passes=3, reuse="frames", fresh=0.4),
    "hardly fresh": Plan(passes=2, reuse="frames", fresh=0.1),
}
"""Plans that no graph is written for: they play pass by pass."""


@cache
def onnxruntime_library() -> Path:
    """The library that the package carries; without headers, and we need none."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    found = sorted((Path(spec.origin).parent / "capi").glob("*onnxruntime.[sd]*"))
    if not found:
        pytest.skip("the package onnxruntime carries no library of the C API")
    return found[0]


class GraphWorld(NativeWorld):
    """A world of the C library that runs the bundle's graphs."""

    __slots__ = ()

    def __init__(self, folder: Path, precision: str = "float32", **changes: Any) -> None:
        members = {
            "engine": ENGINE_ONNXRUNTIME,
            "precision": header.PRECISIONS[precision],
            "num_threads": torch.get_num_threads(),
            "onnxruntime_library": str(onnxruntime_library()).encode(),
        }
        library, pointer = load_library(), c_void_p()
        params = header.WorldParams(**members | changes)
        library.call("world_load", str(folder).encode(), byref(params), byref(pointer))
        Handle.__init__(self, library, pointer, library.world_free)
        self.info = header.WorldInfo()
        library.call("world_get_info", pointer, byref(self.info))


def write(folder: Path, config: ModelConfig, *, opset: int = 23) -> Path:
    """A bundle with random weights, and graphs of both precisions."""
    names = linear_names(config)
    quantisation = Quantisation(
        amax={name: 3 + index / 16 for index, name in enumerate(names)}, kept_float=frozenset(names[::4])
    )

    def graphs(out: Path) -> GraphManifest:
        precisions, plans = ("float32", "int8"), tuple(GRAPH_PLANS)
        write_graphs(
            out, config, GRAPH_PLANS, precisions=precisions, frame_plans=plans, opset=opset,
            quantisation=quantisation,
        )  # fmt: skip
        bounds = {"int8": ParityBound(means=0.4, logit=0.7, psnr_db=42.0)}
        return GraphManifest(opset=opset, precisions=precisions, frame_plans=plans, bounds=bounds)

    write_bundle(
        folder, name="tiny", config=config, weights=make_model(config, dtype=torch.float32).state_dict(),
        action_names=ACTIONS, default_action="stay", plans=GRAPH_PLANS,
        prompts=list(make_pictures(config, 2)), provenance={"data": "none", "commit": "0" * 40},
        model_card="# tiny\n", graphs=graphs,
    )  # fmt: skip
    return folder


def python_session(folder: Path, precision: str) -> Session:
    return World.load(folder, backend="onnx", dtype=precision).session(seed=SEED)
