"""What computes the frames, in words."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genie_rt.runtime.world import World


def computed_on(world: World) -> str:
    """Back end, number format and processor, such as "openvino int8 on AMD EPYC"."""
    return f"{world.backend.name} {world.dtype} on {_processor(str(getattr(world.backend, 'device', 'cpu')))}"


def _processor(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
