"""GPU architectures: peak rates from data sheets, and the resources that one thread block may use.

Rates are dense, with fp32 accumulation, at boost clock; nobody measures them, so measured ceilings stand
beside them wherever there is a device. Sources: NVIDIA A100 80GB data sheet (2021), GA102 whitepaper v2.1,
Ada GPU architecture whitepaper v2.1 (RTX 4090), H100 SXM data sheet (2023), HGX B200 data sheet (2024), RTX
Blackwell whitepaper v1.1 (RTX 5090). Shared memory: CUDA C++ Programming Guide 13, table of technical
specifications per compute capability.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from genie_rt.errors import InputError
from genie_rt.kernels.launch import ARCHITECTURES

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Architecture:
    """One compute capability, and a device that has it.

    Attributes:
        shared_bytes: dynamic shared memory that a block may have at most.
        device: whose data sheet it is.
        bytes_per_second: of its memory. flops_per_second: by number format, of dense matrix products.
    """

    capability: int
    shared_bytes: int
    device: str
    bytes_per_second: float
    flops_per_second: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"sm_{self.capability}"


def _architecture(
    capability: int, shared_kib: int, device: str, tb: float, tf32: float, half: float, fp8: float | None
) -> Architecture:
    rates = {"float32": tf32 * 1e12, "bfloat16": half * 1e12, "float16": half * 1e12}
    if fp8 is not None:
        rates["float8_e4m3fn"] = fp8 * 1e12
    return Architecture(
        capability=capability,
        shared_bytes=shared_kib * KIB,
        device=device,
        bytes_per_second=tb * 1e12,
        flops_per_second=rates,
    )


KNOWN = {
    item.capability: item
    for item in (
        _architecture(80, 163, "A100 SXM 80 GB", 2.039, 19.5, 312, None),
        _architecture(86, 99, "RTX 3090", 0.936, 35.6, 71, None),
        _architecture(89, 99, "RTX 4090", 1.008, 82.6, 165.2, 330.3),
        _architecture(90, 227, "H100 SXM", 3.35, 67, 989.4, 1978.9),
        _architecture(100, 227, "B200", 8.0, 75, 2250, 4500),
        _architecture(120, 99, "RTX 5090", 1.792, 104.8, 209.5, 419),
    )
}
"""Architectures by compute capability.

The float32 rate is that of the vector units: the kernels' fp32 is not rounded to TF32.
"""


def parse_architectures(text: str) -> tuple[Architecture, ...]:
    """Parse "sm_80,sm_90" into architectures, "all" into every known one. Raises `InputError`."""
    if text == "all":
        return tuple(KNOWN[capability] for capability in ARCHITECTURES)
    found = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(?:sm_)?(\d{2,3})a?\s*", word)
        if match is None or int(match[1]) not in KNOWN:
            known = ",".join(item.name for item in KNOWN.values())
            raise InputError(f"--arch: expected some of {known}, or all, found {word!r}")
        found.append(KNOWN[int(match[1])])
    return tuple(dict.fromkeys(found))
