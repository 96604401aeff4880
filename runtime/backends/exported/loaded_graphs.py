"""The graphs of one bundle: loaded when they are first needed, and held to what a model can give."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from genie_rt.errors import BundleError, DeviceError
from genie_rt.runtime.backends.exported.checked import CheckedGraph, check_graph
from genie_rt.runtime.backends.exported.engine import Engine, Graph
from genie_rt.runtime.backends.exported.limits import limits_of
from genie_rt.runtime.backends.exported.signature import Value, signatures
from genie_rt.runtime.backends.finite import check_finite
from genie_rt.runtime.bundle import Bundle, read_file, read_weights
from genie_rt.runtime.manifest import WEIGHTS, graph_file

FLAGS = {"float32": "--onnx", "float16": "--onnx --fp16", "int8": "--onnx --int8"}
"""Flags of `genie-rt export`, by the precision of the graphs that they write."""

PARTS = {
    "encode": {"page": "tokenizer's encoder"},
    "commit": {"page": "dynamics"},
    "pass": {"page": "dynamics"},
    "pass-at": {"around_out": "dynamics"},
    "decode": {"page": "tokenizer's decoder"},
}
"""What the graphs evaluate, by the output with its keys and values."""

FRAME_PARTS = {"page": "dynamics", "picture_page": "tokenizer's decoder"}
"""The same of a frame graph."""

MAX_GRAPH_BYTES = 64 * 2**20
"""Largest file of a graph, which holds no weights: the largest of the demo's has 0.4 MB."""

CODES = ("tokens", "candidates")
"""Outputs that are read again, as indices of the codebook."""


class LoadedGraphs:
    """Graphs by name. Several threads may ask.

    Their files and the weights are read now, into memory of this process alone: what happens to the files
    later changes nothing.

    Args:
        precision: of the graphs, one of `signature.PAGE_DTYPES`.

    Raises:
        BundleError: a file changed since the bundle was opened.
    """

    def __init__(self, bundle: Bundle, precision: str, engine: Engine) -> None:
        self.bundle, self.precision, self.engine = bundle, precision, engine
        self.signatures = signatures(bundle.config, precision, dict(bundle.plans))
        self._free = {
            name: [key for key, value in signature.inputs.items() if _is_free(value)]
            for name, signature in self.signatures.items()
        }
        self._read()
        self._loaded: dict[str, Graph] = {}
        self._ready: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()  # so that no graph is loaded twice

    @property
    def num_ready(self) -> int:
        """How many ways to ask have been asked by now: engines compile for the first time of each.

        Such are a graph, the outputs that are wanted of it, and the sizes of its inputs.
        """
        return len(self._ready)

    def __contains__(self, name: str) -> bool:
        """Whether the bundle has it."""
        return graph_file(name, self.precision) in self.bundle.files

    def __getitem__(self, name: str) -> Graph:
        """A graph, ready to run.

        Raises:
            BundleError: the bundle has none of that name, or a broken one.
            DeviceError: there is not enough memory for it.
        """
        graph = self._loaded.get(name)
        if graph is None:
            with self._lock:
                graph = self._loaded.get(name) or self._load(name)
                self._loaded[name] = graph
        return graph

    def _read(self) -> None:
        self._weights = read_weights(self.bundle)
        files = {name: graph_file(name, self.precision) for name in self.signatures if name in self}
        for file in files.values():
            if (size := self.bundle.files[file].size) > MAX_GRAPH_BYTES:
                raise BundleError(
                    f"{self.bundle.path / file}: expected at most {MAX_GRAPH_BYTES} bytes, found {size}"
                )
        self._data = {name: read_file(self.bundle, file) for name, file in files.items()}

    def _load(self, name: str) -> Graph:
        file = graph_file(name, self.precision)
        if name not in self:
            flags = FLAGS.get(self.precision, "--onnx")
            flags += f" --plan {name.removeprefix('frame-')}" if name.startswith("frame-") else ""
            raise BundleError(
                f"{self.bundle.path}: expected the graph {file}, found none; write it with "
                f"`genie-rt export BUNDLE --out NEW {flags}`"
            )
        return self.engine.load(self._checked(name), self.signatures[name])

    def _checked(self, name: str) -> CheckedGraph:
        bundle = self.bundle
        limits = limits_of(bundle.config, name, bundle.plans, bundle.files[WEIGHTS].size)
        path = bundle.path / graph_file(name, self.precision)
        return check_graph(path, self._data[name], self._weights, self.signatures[name], limits)

    def run(self, name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
        """Evaluates a graph into `outputs`, and waits until it is known to be finite, its tokens in range.

        Engines read a table at whatever tokens they are given, also outside of it.

        Raises:
            BundleError: as `__getitem__`.
            DeviceError: the engine failed, or gave NaN, Inf or a token that the codebook does not have.
        """
        graph = self[name]
        checksum = torch.empty(1, dtype=torch.float32, device=self.engine.device)
        graph.run(inputs, outputs | {"checksum": checksum})
        sizes = [inputs[key].shape for key in self._free[name]]
        self._ready.add((name, frozenset(outputs), *sizes))
        limits = [limit for code in CODES if code in outputs for limit in outputs[code].aminmax()]
        total, *tokens = torch.stack([checksum[0], *limits]).tolist()  # waits once for all of them
        if not math.isfinite(total):
            self._blame(name, graph, inputs)
        last = self.bundle.config.tokenizer.codebook_size - 1
        for token in tokens:
            if not 0 <= token <= last:
                raise DeviceError(
                    f"the graph {name}: expected tokens from 0 to {last}, found {int(token)}; export the "
                    "bundle again with this version"
                )

    def _blame(self, name: str, graph: Graph, inputs: dict[str, Tensor]) -> None:
        """Evaluates once more, for the keys and values of all layers, and raises."""
        parts = FRAME_PARTS if name.startswith("frame-") else PARTS[name]
        pages = {page: self._blank(self.signatures[name].outputs[page]) for page in parts}
        checksum = torch.empty(1, dtype=torch.float32, device=self.engine.device)
        graph.run(inputs, {**pages, "checksum": checksum})
        broken = [page for page in parts if not torch.isfinite(pages[page]).all()]
        page = (broken or list(parts))[0]
        layers = zip(pages[page][::2], pages[page][1::2], strict=True)
        check_finite(parts[page], checksum, list(layers))
        raise DeviceError(f"the graph {name} gave NaN or Inf, and not when it was asked again")

    def _blank(self, value: Value) -> Tensor:
        """Zeros in the place of a page."""
        shape = [int(side) for side in value.shape]
        return torch.zeros(shape, dtype=getattr(torch, value.dtype), device=self.engine.device)


def _is_free(value: Value) -> bool:
    """Whether a side of it differs from call to call."""
    return any(isinstance(side, str) for side in value.shape)
