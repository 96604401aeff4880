"""What runs one exported graph. An engine is chosen once; everything else is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.signature import Signature


class Graph(Protocol):
    """A graph that is ready to run."""

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Computes outputs, straight into the memory that is given; returns when they are there, or, on a
        CUDA device, once they are queued on the current stream.

        Args:
            inputs: all of the signature's, on the engine's device, contiguous. None is copied.
            outputs: those of the signature's that are wanted, likewise.

        Raises:
            DeviceError: the engine failed; the message is its own, with the graph's name.
        """
        ...


class Engine(Protocol):
    """Makes graphs ready to run. Several threads may run one graph; how it sorts that out is its own matter.

    Attributes:
        name: of the back end that runs graphs with it.
        arithmetic: see `Backend.arithmetic`.
    """

    name: str
    device: torch.device
    arithmetic: str | None

    def load(self, graph: CheckedGraph, signature: Signature) -> Graph:
        """Makes a graph of one that was checked. Reads no file of the bundle.

        Raises:
            BundleError: the engine does not know its operators, or finds other inputs or outputs than the
                signature's; says which, what was expected and found.
            DeviceError: there is not enough memory.
        """
        ...
