"""What a device is, by its maker's name."""

import platform
from pathlib import Path

import torch

_CPU_INFORMATION = Path("/proc/cpuinfo")  # of Linux


def processor_name(device: torch.device) -> str:
    """Model of a GPU, or of this machine's processor, such as "AMD EPYC"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = _CPU_INFORMATION.read_text().splitlines()
    except OSError:
        lines = []
    fields = (line.partition(":") for line in lines)
    known = (value.strip() for key, _, value in fields if key.strip() == "model name")
    return next(known, platform.processor() or platform.machine())
