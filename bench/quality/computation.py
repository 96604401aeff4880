"""Choice of back end and precision, and of emulation on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.runtime.backends.registry import ACTIVATIONS, BACKENDS
from genie_rt.runtime.backends.select import NOTHING, Choice, Holdings
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.world import World, load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """Back end, precision and device that compute a world.

    Attributes:
        backend, dtype, device: as `World.load` takes them, none of them left open.
        emulated: the `cuda` back end on a CPU, with its operators' references in place of its kernels: it
            rounds where they round, but its speed says nothing.
    """

    backend: str
    dtype: str
    device: str
    emulated: bool = False

    @classmethod
    def of(
        cls,
        backend: str,
        dtype: str,
        device: str | None,
        holdings: Holdings = NOTHING,
        *,
        emulate: bool = False,
    ) -> Computation:
        """Resolve back end, dtype and device as `Choice.of` does; with `emulate` "cuda" needs no such device.

        Raises:
            UnsupportedError: there is no such back end or format, or not here.
            InputError: something is to be emulated on a device that is no CPU.
        """
        if not (emulate and backend == "cuda"):
            choice = Choice.of(backend, dtype, device, holdings)
            return cls(backend=choice.backend, dtype=choice.dtype, device=str(choice.device))
        if dtype not in BACKENDS["cuda"].dtypes:
            raise UnsupportedError(
                f"the back end 'cuda' does not compute in {dtype!r}: expected one of "
                f"{', '.join(BACKENDS['cuda'].dtypes)}"
            )
        if device not in (None, "cpu"):
            raise InputError(f"--emulate computes on the CPU, found --device {device}; leave one of them out")
        return cls(backend="cuda", dtype=dtype, device="cpu", emulated=True)

    def versus(
        self, other: str, device: str | None, holdings: Holdings = NOTHING, *, emulate: bool = False
    ) -> Computation:
        """Another computation, named as BACKEND:DTYPE, as BACKEND in this one's dtype, or as DTYPE alone.

        Raises:
            InputError, UnsupportedError: as `of`, or it is no such name.
        """
        backend, _, dtype = other.partition(":")
        if backend in BACKENDS:
            return Computation.of(backend, dtype or self.dtype, device, holdings, emulate=emulate)
        if not dtype and other in ACTIVATIONS:
            return Computation.of(self.backend, other, device, holdings, emulate=emulate)
        known = ", ".join(f"{name}:{each}" for name in BACKENDS for each in BACKENDS[name].dtypes)
        raise InputError(f"--versus: expected some of {known}, found {other!r}")

    @property
    def name(self) -> str:
        """Name such as "cuda int8 (emulated)"."""
        return f"{self.backend} {self.dtype}" + (" (emulated)" if self.emulated else "")

    def load(self, source: str | Path) -> World:
        """The world of a bundle, computed so; raises as `World.load`."""
        if self.emulated:
            return load_emulated(source, self.dtype)
        return World.load(source, backend=self.backend, dtype=self.dtype, device=self.device)


def load_emulated(source: str | Path, dtype: str) -> World:
    """A world on the `cuda` back end without a GPU: its operators' references, on the CPU.

    Slow, and for measuring what its number formats cost in quality alone: `World.load` refuses it.

    Args:
        source: a shipped bundle's name, or a bundle folder.
        dtype: one of the back end's.

    Raises:
        BundleError: the bundle is missing or broken.
        ConfigError: the back end has no such dtype.
    """
    from genie_rt.runtime.backends.cuda.backend import CudaBackend
    from genie_rt.runtime.backends.cuda.precision import Precision

    precision = Precision.of(dtype)
    bundle = open_bundle(source)
    backend = CudaBackend(load_model(bundle, dtype), precision, torch.device("cpu"), release=True)
    return World(bundle, backend, dtype)
