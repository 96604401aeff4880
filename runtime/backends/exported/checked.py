"""Reads a graph of a bundle and checks all of it before an engine sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.exported.check import check_values
from genie_rt.runtime.backends.exported.limits import Limits
from genie_rt.runtime.backends.exported.onnx_model import Model, Node, Port, Tensor, read_model, write_model
from genie_rt.runtime.backends.exported.operators import Known, evaluate_shapes
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.stored_weights import StoredWeights

MAX_IDENTITIES = 4
"""A frame graph has one. An engine may take long to see that a thousand of them do nothing."""

_STORED = {"F32": "float32", "BF16": "bfloat16"}  # safetensors' names of dtypes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedGraph:
    """A graph that was checked, and the weights that it may read. Engines read nothing else.

    Attributes:
        path: of the file that it was read from, for messages; nothing reads it again.
        model: what was checked.
        weights: all of the bundle's, in private memory.
    """

    path: Path
    model: Model
    weights: StoredWeights

    def to_bytes(self) -> bytes:
        """The graph as it was checked, in ONNX's format; its weights are named, not in it."""
        return write_model(self.model)


def check_graph(
    path: Path, data: bytes | NDArray[np.uint8], weights: StoredWeights, signature: Signature, limits: Limits
) -> CheckedGraph:
    """Reads a graph.

    Args:
        path: of its file, for messages.
        data: the file's bytes.
        weights: of the bundle.
        signature: what it has to take and give.

    Raises:
        BundleError: it is no graph that `genie-rt export` writes for this model: it has other operators, more
            of them or larger values than it may, other weights than the bundle's, or another signature.
    """
    try:
        model = read_model(bytes(data), limits.nodes)
        for tensor in model.stored:
            _check_stored(tensor, weights)
        check_values(path, signature, _ports(model.inputs), _ports(model.outputs))
        _check_sizes(model, limits)
    except ValueError as error:
        raise BundleError(
            f"{path}: expected a graph as genie-rt export writes it, found {error}; export again"
        ) from error
    return CheckedGraph(path=path, model=model, weights=weights)


def _check_stored(tensor: Tensor, weights: StoredWeights) -> None:
    """A tensor in the file of weights is one of its tensors, whole, under its own name."""
    stored = weights.tensors.get(tensor.name)
    place = (tensor.dtype, tensor.shape, tensor.offset, tensor.length)
    if stored is None or place != (_STORED[stored.dtype], stored.shape, stored.offset, stored.length):
        there = "none of that name" if stored is None else f"{_STORED[stored.dtype]} {list(stored.shape)}"
        there += "" if stored is None else f" at byte {stored.offset}"
        raise ValueError(
            f"the weight {tensor.name[:100]!r}, {tensor.dtype} {list(tensor.shape)} at byte {tensor.offset}, "
            f"where {WEIGHTS} has {there}"
        )


def _check_sizes(model: Model, limits: Limits) -> None:
    """Follows the sizes of all values through the graph, and what they take together."""
    known: dict[str, Known] = {}
    for tensor in model.initializers:
        _define(known, tensor.name, _of_tensor(tensor))
    for port in model.inputs:
        _define(known, port.name, _of_port(port, limits))
    if sum(node.op == "Identity" for node in model.nodes) > MAX_IDENTITIES:
        raise ValueError(f"more than {MAX_IDENTITIES} nodes that do nothing")
    uses = Counter(name for node in model.nodes for name in node.inputs)
    uses.update(port.name for port in model.outputs)
    alive = sum(value.num_bytes for value in known.values())
    most = operations = 0
    for node in model.nodes:
        for name in node.inputs:
            if name not in known:
                raise ValueError(f"{name[:100]!r}, which {node.op} takes and no node before it gives")
        found, work = evaluate_shapes(node, [known[name] for name in node.inputs])
        operations += work
        for name, value in zip(node.outputs, found, strict=True):
            _define(known, name, value)
            alive += value.num_bytes
        most = max(most, alive + _scratch_bytes(node, known))
        if most > limits.memory_bytes:
            raise ValueError(
                f"values that take {most >> 20} MiB at {node.name or node.op!r}, and "
                f"{limits.memory_bytes >> 20} MiB at most for the weights of this bundle"
            )
        if operations > limits.operations:
            raise ValueError(
                f"more than {limits.operations:.1e} operations, the most for the model of this bundle"
            )
        alive -= _let_go(node, known, uses)
    for port in model.outputs:
        given = known.get(port.name)
        if given is None or (given.dtype, given.shape) != (port.dtype, _of_port(port, limits).shape):
            gives = "no node gives" if given is None else f"is {given.dtype} {list(given.shape)}"
            raise ValueError(f"the output {port.name!r}, {port.dtype} {list(port.shape)}, which {gives}")


def _define(known: dict[str, Known], name: str, value: Known) -> None:
    if name in known:
        raise ValueError(f"two values called {name[:100]!r}")
    known[name] = value


def _of_tensor(tensor: Tensor) -> Known:
    numbers = None
    if tensor.dtype == "int64" and not tensor.is_stored:
        numbers = tuple(tensor.numbers().reshape(-1).tolist()) if len(tensor.data or b"") <= 1 << 16 else None
    return Known(dtype=tensor.dtype, shape=tensor.shape, numbers=numbers)


def _of_port(port: Port, limits: Limits) -> Known:
    sides = [side if isinstance(side, int) else limits.size(side) for side in port.shape]
    return Known(dtype=port.dtype, shape=tuple(sides))


def _scratch_bytes(node: Node, known: dict[str, Known]) -> int:
    """Scores of an attention that are kept as a whole."""
    if node.op != "Attention":
        return 0
    q, k = (known[name].shape for name in node.inputs[:2])
    return 8 * q[0] * q[1] * q[2] * k[2]


def _let_go(node: Node, known: dict[str, Known], uses: Counter[str]) -> int:
    """Bytes of the values that nobody needs after a node, also of its own that nobody needs at all."""
    freed = 0
    for name in node.inputs:
        uses[name] -= 1
    for name in {*node.inputs, *node.outputs}:
        if not uses[name]:
            freed += known[name].num_bytes
            del uses[name]
    return freed


def _ports(ports: Iterable[Port]) -> dict[str, tuple[str, list[int | None]]]:
    return {
        port.name: (port.dtype, [side if isinstance(side, int) else None for side in port.shape])
        for port in ports
    }
