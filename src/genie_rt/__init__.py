"""genie-rt: a runtime for interactive world models of the Genie kind.

    world = genie_rt.World.load("demo")
    session = world.session(seed=7, passes=4)
    frame = session.reset(image)           # [H, W, 3] uint8
    frame = session.step("right")          # name or index

Importing this package loads nothing heavy, not even torch (PEP 562), nor `typing`, since `genie-rt` handles
signals only after it.
"""

from __future__ import annotations

from importlib import import_module

from genie_rt.errors import (
    BundleError,
    ConfigError,
    DeviceError,
    GenieError,
    InputError,
    StateError,
    UnsupportedError,
)

TYPE_CHECKING = False  # type checkers know this name
if TYPE_CHECKING:
    from typing import Any

    from genie_rt.runtime.frames_out import PendingFrame
    from genie_rt.runtime.plan import Plan
    from genie_rt.runtime.pool import SessionPool
    from genie_rt.runtime.rollout import Rollout
    from genie_rt.runtime.session import Session
    from genie_rt.runtime.snapshot import Snapshot
    from genie_rt.runtime.world import World

__version__ = "0.1.0"

_LAZY = {
    "PendingFrame": "genie_rt.runtime.frames_out",
    "Plan": "genie_rt.runtime.plan",
    "Rollout": "genie_rt.runtime.rollout",
    "Session": "genie_rt.runtime.session",
    "SessionPool": "genie_rt.runtime.pool",
    "Snapshot": "genie_rt.runtime.snapshot",
    "World": "genie_rt.runtime.world",
}

__all__ = [
    "BundleError",
    "ConfigError",
    "DeviceError",
    "GenieError",
    "InputError",
    "PendingFrame",
    "Plan",
    "Rollout",
    "Session",
    "SessionPool",
    "Snapshot",
    "StateError",
    "UnsupportedError",
    "World",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
