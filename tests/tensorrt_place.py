"""A stand-in for TensorRT under its name, a graph that it reads and a folder for its engines."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRt, page, write_graph

from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.onnx_model import read_model
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.tensorrt.cache import EngineCache, Identity, Settings
from genie_rt.runtime.backends.tensorrt.engine import identity, obtain
from genie_rt.runtime.backends.tensorrt.flavour import Flavour
from genie_rt.runtime.backends.tensorrt.target import ANY, Target
from genie_rt.runtime.stored_weights import StoredWeights

BUNDLE = "0123456789abcdef" * 4

ADA = Target(gpu="NVIDIA GeForce RTX 4090", capability=89, driver="580.65")
SIGNATURE = Signature(
    inputs={"tokens": Value(dtype="int64", shape=(1, 5)), "past_1": page(2, 8, 2, 16)},
    outputs={"candidates": Value(dtype="int64", shape=(1, 5)), "page": page(2, 8, 2, 16)},
)


@dataclass
class Place:
    """A flavour of TensorRT, a graph file and a folder of engines."""

    trt: FakeTensorRt
    flavour: Flavour
    path: Path
    root: Path

    @property
    def graph(self) -> CheckedGraph:
        """What the file holds now."""
        return read_graph(self.path)

    def wanted(self, target: Target = ADA, *, precision: str = "float32", level: int = 3) -> Identity:
        target = Target(gpu=ANY, capability=target.capability, driver=ANY) if self.flavour.is_rtx else target
        return identity(
            self.graph, bundle=BUNDLE, precision=precision, flavour=self.flavour, target=target,
            settings=Settings(level=level),
        )  # fmt: skip

    def obtain(self, target: Target = ADA, *, rebuild: bool = False, precision: str = "float32") -> bytes:
        wanted = self.wanted(target, precision=precision)
        return obtain(
            EngineCache(self.root), self.flavour, wanted, self.graph, SIGNATURE, rebuild=rebuild
        )  # fmt: skip


def read_graph(path: Path) -> CheckedGraph:
    """A graph without nodes, taken for one that was checked."""
    weights = StoredWeights(data=np.zeros(0, np.uint8), tensors={})
    return CheckedGraph(path=path, model=read_model(path.read_bytes(), max_nodes=0), weights=weights)


def make_place(folder: Path, patch: pytest.MonkeyPatch, name: str) -> Place:
    trt = FakeTensorRt(rtx=name == "tensorrt-rtx")
    patch.setitem(sys.modules, name.replace("-", "_"), trt)  # type: ignore[arg-type]
    path = write_graph(folder / "pass.onnx", SIGNATURE)
    return Place(trt=trt, flavour=Flavour.of(name), path=path, root=folder / "cache" / "engines")
