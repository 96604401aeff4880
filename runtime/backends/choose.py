"""Which back end computes a world: by name, or the fastest that the device and the number format allow."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from genie_rt.errors import UnsupportedError

if TYPE_CHECKING:
    from genie_rt.runtime.backends.protocol import Backend
    from genie_rt.runtime.model.world_model import WorldModel

BACKENDS = {
    "reference": ("float64", "float32", "bfloat16"),
    "cuda": ("float32", "bfloat16", "float16", "fp8", "int8"),
}
"""Back ends, and the number formats that each computes in."""

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8": torch.bfloat16,
    "int8": torch.bfloat16,
}
"""Of activations, by number format."""

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A back end that this machine can run. `dtype` is one of `DTYPES`."""

    backend: str
    dtype: str
    device: torch.device

    @classmethod
    def of(cls, backend: str, dtype: str, device: str | None) -> Choice:
        """Finds out what is meant.

        Args:
            backend: one of `BACKENDS`, or "auto": "cuda" on a CUDA device where its format allows it, else
                "reference".
            device: a torch device; None is "cuda" for that back end, else "cpu".

        Raises:
            UnsupportedError: there is no such back end or format, or not here; the message says what is.
        """
        if backend not in ("auto", *BACKENDS):
            raise UnsupportedError(f"unknown back end {backend!r}: expected auto or {', '.join(BACKENDS)}")
        if dtype not in DTYPES:
            raise UnsupportedError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        if device is None:
            device = "cuda" if backend == "cuda" else "cpu"
        found = find_device(device)
        if backend == "auto":
            fits = found.type == "cuda" and dtype in BACKENDS["cuda"] and find_spec("triton") is not None
            backend = "cuda" if fits else "reference"
        if dtype not in BACKENDS[backend]:
            raise UnsupportedError(
                f"the back end {backend!r} does not compute in {dtype!r}: expected one of "
                f"{', '.join(BACKENDS[backend])}"
            )
        if backend == "cuda":
            _check_cuda(found, dtype)
        return cls(backend=backend, dtype=dtype, device=found)

    def build(self, model: WorldModel) -> Backend:
        """The back end, with the weights of a model, which it takes.

        Raises:
            DeviceError: there is not enough memory.
        """
        if self.backend == "cuda":
            from genie_rt.runtime.backends.cuda.backend import CudaBackend
            from genie_rt.runtime.backends.cuda.precision import Precision

            return CudaBackend(model, Precision.of(self.dtype), self.device, release=True)
        from genie_rt.runtime.backends.reference import ReferenceBackend

        return ReferenceBackend(model, self.device, DTYPES[self.dtype])


def _check_cuda(device: torch.device, dtype: str) -> None:
    from genie_rt.runtime.backends.cuda.precision import Precision

    if device.type != "cuda":
        raise UnsupportedError(
            f'the back end "cuda" needs a CUDA device, found {device}; leave device out, or take '
            'backend="reference"'
        )
    if find_spec("triton") is None:
        raise UnsupportedError(
            'the back end "cuda" needs Triton, which is not installed: pip install "genie-rt[gpu]"'
        )
    major, minor = torch.cuda.get_device_capability(device)
    Precision.of(dtype).check(10 * major + minor)


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        UnsupportedError: genie-rt does not run on such a device, or this machine has none.
    """
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError(f"genie-rt runs on {' and '.join(DEVICES)}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedError(
            f'the device {name!r} is not available here ({reason}); try device="cpu"'
        ) from error
    return device
