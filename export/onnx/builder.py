"""Builds an ONNX graph node by node. Its weights stay in the bundle's safetensors file, which it names.

Values are strings, as in ONNX: whoever makes a node gets the name of what it gives. Names say where a node
stands, `dynamics/3/temporal/qkv`, so that an engine's profile can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from genie_rt.errors import ConfigError
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.weights import WeightFile
from genie_rt.runtime.backends.exported.onnx_model import IR_VERSIONS, PRODUCER
from genie_rt.runtime.backends.exported.operators import OPERATORS
from genie_rt.runtime.backends.exported.signature import Signature, Value

Name: TypeAlias = str
"""Name of a value in the graph."""

_DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}


class Builder:
    """Graph under construction.

    Args:
        weights: of the bundle that the graph is for.
        signature: its inputs and outputs.
        opset: of standard ONNX; one of `IR_VERSIONS`.
        half: whether activations are float16; float32 otherwise.
        quantisation: of linears; None, of none.
    """

    def __init__(
        self,
        weights: WeightFile,
        signature: Signature,
        *,
        opset: int,
        half: bool = False,
        quantisation: Quantisation | None = None,
    ) -> None:
        if opset not in IR_VERSIONS:
            known = " or ".join(map(str, IR_VERSIONS))
            raise ConfigError(f"opset: expected {known}, found {opset!r}")
        self.weights, self.signature, self.opset, self.half = weights, signature, opset, half
        self.quantisation = quantisation
        self._scopes: list[str] = []
        self._taken = {*signature.inputs, *signature.outputs}
        self._nodes: list[NodeProto] = []
        self._initializers: dict[Name, TensorProto] = {}
        self._made: dict[object, Name] = {}

    # Nodes.

    @contextmanager
    def scope(self, *names: object) -> Iterator[None]:
        """Nodes that are made inside are called `names/...`."""
        self._scopes.extend(map(str, names))
        yield
        del self._scopes[-len(names) :]

    def nodes(self, op: str, *inputs: Name, count: int, name: str = "", **attributes: Any) -> list[Name]:
        """A node with several outputs, of one of the operators that the runtime reads."""
        if op not in OPERATORS:
            raise ValueError(f"expected one of {', '.join(OPERATORS)}, found the operator {op}")
        node_name = self._unique("/".join([*self._scopes, name or op.lower()]))
        outputs = [node_name] if count == 1 else [f"{node_name}.{index}" for index in range(count)]
        self._taken.update([node_name, *outputs])
        self._nodes.append(helper.make_node(op, inputs, outputs, name=node_name, **attributes))
        return outputs

    def node(self, op: str, *inputs: Name, name: str = "", **attributes: Any) -> Name:
        """A node with one output."""
        return self.nodes(op, *inputs, count=1, name=name, **attributes)[0]

    def once(self, key: object, make: Callable[[], Name], *scope: object) -> Name:
        """Return the result of `make`, called once per key. Its nodes are named by `scope` alone."""
        if key not in self._made:
            here, self._scopes = self._scopes, [str(name) for name in scope]
            self._made[key] = make()
            self._scopes = here
        return self._made[key]

    def _unique(self, name: str) -> str:
        if name not in self._taken:
            return name
        return next(new for count in range(2, 1 << 30) if (new := f"{name}_{count}") not in self._taken)

    # What is there before any node.

    def weight(self, name: str) -> Name:
        """A weight in float32, as engines fold it when they load the graph."""
        stored = self.weights.stored[name]
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=stored.dtype, dims=stored.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self.weights.name, "offset": stored.offset, "length": stored.length}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self._initializers[name] = tensor
            self._taken.add(name)
        if stored.dtype == TensorProto.FLOAT:
            return name
        return self.once(("wide", name), lambda: self.cast(name, "float32", name=f"{name}.wide"))

    def constant(self, array: NDArray[Any] | np.generic) -> Name:
        """An array as it is; one that was given before is that one."""
        array = np.asarray(array)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            name = self._made[key] = self._unique(f"c{len(self._made)}")
            self._initializers[name] = numpy_helper.from_array(array, name)
            self._taken.add(name)
        return self._made[key]

    def ints(self, *numbers: int) -> Name:
        """`[n]` int64."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, value: float, *shape: int) -> Name:
        """Float32 of that shape, a scalar if there is none, filled with one number."""
        return self.constant(np.full(shape, value, np.float32))

    # Few nodes that are often made.

    def cast(self, x: Name, dtype: str, name: str = "") -> Name:
        return self.node("Cast", x, name=name, to=_DTYPES[dtype])

    def wide(self, x: Name) -> Name:
        """An activation in float32."""
        return self.cast(x, "float32") if self.half else x

    def narrow(self, x: Name, name: str = "") -> Name:
        """float32 as activations are."""
        return self.cast(x, "float16", name=name) if self.half else x

    def narrow_weight(self, name: str) -> Name:
        """A weight as activations are."""
        x = self.weight(name)
        return self.once(("narrow", name), lambda: self.narrow(x, name=f"{name}.narrow"))

    def reshape(self, x: Name, *shape: int, name: str = "") -> Name:
        return self.node("Reshape", x, self.ints(*shape), name=name)

    def transpose(self, x: Name, *axes: int, name: str = "") -> Name:
        return self.node("Transpose", x, name=name, perm=axes)

    def concat(self, parts: Sequence[Name], axis: int = 0, name: str = "") -> Name:
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=axis, name=name)

    def quantised(self, linear: str) -> float | None:
        """The largest magnitude of that linear's input; None if it is not quantised."""
        quantisation = self.quantisation
        if quantisation is None or linear in quantisation.kept_float:
            return None
        return quantisation.amax.get(linear)

    # The whole.

    def finish(self, name: str, outputs: Mapping[str, Name]) -> ModelProto:
        """The model: the nodes that its outputs need, in the order in which they were made.

        Args:
            outputs: the value that becomes each output of the signature.
        """
        signature = self.signature
        if set(outputs) != set(signature.outputs) or len(set(outputs.values())) < len(outputs):
            raise ValueError(
                f"{name}: expected {list(signature.outputs)}, a value each, found {dict(outputs)}"
            )
        nodes = _needed(self._nodes, set(outputs.values()))
        public = {value: key for key, value in outputs.items()}
        for node in nodes:
            for values in (node.input, node.output):
                values[:] = [public.get(value, value) for value in values]
        used = {value for node in nodes for value in node.input}
        graph = helper.make_graph(
            nodes,
            name,
            [_value_info(key, value) for key, value in signature.inputs.items()],
            [_value_info(key, value) for key, value in signature.outputs.items()],
            [tensor for key, tensor in self._initializers.items() if key in used],
        )
        return helper.make_model(
            graph,
            producer_name=PRODUCER,
            ir_version=IR_VERSIONS[self.opset],
            opset_imports=[helper.make_opsetid("", self.opset)],
        )


def _needed(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _value_info(name: str, value: Value) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, _DTYPES[value.dtype], value.shape)
