"""What an engine is built for: a GPU, or with TensorRT-RTX all GPUs of one compute capability."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from genie_rt.errors import UnsupportedError
from genie_rt.runtime.backends.tensorrt.flavour import Flavour

ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an engine runs.

    Attributes:
        gpu: name of the GPU, or `ANY`.
        capability: compute capability, as `120`.
        driver: version of NVIDIA's driver, or `ANY`.
    """

    gpu: str
    capability: int
    driver: str

    def __str__(self) -> str:
        known = [text for text in (self.gpu, f"driver {self.driver}") if ANY not in text]
        return " with ".join([f"sm_{self.capability}", *known])

    @classmethod
    def here(cls, device: torch.device) -> Target:
        """The target that a CUDA device is."""
        major, minor = torch.cuda.get_device_capability(device)
        return cls(
            gpu=torch.cuda.get_device_name(device), capability=10 * major + minor, driver=driver_version()
        )

    def built_for(self, flavour: Flavour) -> Target:
        """What an engine has to be built for to run here.

        Raises:
            UnsupportedError: the flavour builds for no such GPU.
        """
        capabilities = flavour.capabilities
        if capabilities is None:
            return self
        if self.capability not in capabilities:
            raise UnsupportedError(
                f"{flavour.name} {flavour.version} builds for compute capability "
                f"{', '.join(f'{one // 10}.{one % 10}' for one in capabilities)}, found "
                f"{self.capability // 10}.{self.capability % 10} ({self.gpu}); take the engine tensorrt, or "
                'backend="cuda"'
            )
        return Target(gpu=ANY, capability=self.capability, driver=ANY)


def driver_version() -> str:
    """Version of NVIDIA's driver, as its management library tells it.

    Raises:
        UnsupportedError: the library that comes with every driver is not here, or tells none.
    """
    text = ctypes.create_string_buffer(96)
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        status = library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(text, len(text))
    except (OSError, AttributeError) as error:
        raise UnsupportedError(f"expected NVIDIA's driver with libnvidia-ml.so.1, found {error}") from error
    if status:
        raise UnsupportedError(f"expected the version of NVIDIA's driver, found the status {status} of NVML")
    return text.value.decode()
