"""What an engine takes and gives, in its own words, held against the contract of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.exported.check import check_values
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.tensorrt.flavour import Flavour

DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32",
    "INT8": "int8", "UINT8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Names of torch, by TensorRT's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output. A side of -1 is not fixed.

    Attributes:
        on_device: whether it is read where we keep it; an input that decides a shape is read on the host.
    """

    dtype: str
    shape: tuple[int, ...]
    is_input: bool
    on_device: bool = True


def ports_of_network(network: Any) -> dict[str, Port]:
    """Those of a network that was parsed."""
    found = {}
    for count, get, is_input in (
        (network.num_inputs, network.get_input, True),
        (network.num_outputs, network.get_output, False),
    ):
        for index in range(count):
            tensor = get(index)
            found[tensor.name] = Port(
                dtype=_dtype(tensor.dtype), shape=tuple(tensor.shape), is_input=is_input
            )
    return found


def ports_of_engine(flavour: Flavour, engine: Any) -> dict[str, Port]:
    """Those of an engine that was loaded."""
    trt = flavour.module
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: Port(
            dtype=_dtype(engine.get_tensor_dtype(name)),
            shape=tuple(engine.get_tensor_shape(name)),
            is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            on_device=engine.get_tensor_location(name) == trt.TensorLocation.DEVICE,
        )
        for name in names
    }


def check_ports(path: Path, found: Mapping[str, Port], signature: Signature) -> None:
    """Refuses what is not the contract's.

    Args:
        path: of the graph, for messages.

    Raises:
        BundleError: an input or output is missing, extra, or of another kind, dtype or shape.
    """
    inputs, outputs = (
        {
            name: (port.dtype, [None if side == -1 else side for side in port.shape])
            for name, port in found.items()
            if port.is_input == is_input
        }
        for is_input in (True, False)
    )
    check_values(path, signature, inputs, outputs)
    for name, port in found.items():
        if not port.on_device:
            raise BundleError(
                f"{path}: {name!r}: expected a value that stays on the device, found one that shapes depend "
                "on; export the bundle again with this version"
            )


def _dtype(dtype: Any) -> str:
    return DTYPES.get(dtype.name, dtype.name)
