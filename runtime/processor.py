"""What a device is, by its maker's name."""

import platform
from pathlib import Path

import torch

_CPU_INFORMATION = Path("/proc/cpuinfo")  # of Linux


def processor_features() -> str:
    """All that what is compiled for this machine's processor may depend on: name and instruction sets."""
    return f"{platform.machine()} {processor_name(torch.device('cpu'))} {_told('flags') or _told('Features')}"


def processor_name(device: torch.device) -> str:
    """Model of a GPU, or of this machine's processor, such as "AMD EPYC"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _told("model name") or platform.processor() or platform.machine()


def _told(field: str) -> str:
    """What the system says of its first processor, or nothing."""
    try:
        lines = _CPU_INFORMATION.read_text().splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == field), "")
