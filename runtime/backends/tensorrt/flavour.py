"""TensorRT and TensorRT-RTX: one API in two modules, and where they differ."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Python packages by flavour; the extra of genie-rt has the flavour's name."""

NUM_LINES = 4096
"""Lines to keep of what an engine says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One of them, imported.

    Attributes:
        name: one of `MODULES`.
        module: it has no types.
        version: of the module; an engine runs in the version that built it, and in no other.
        log: what it says. There is one for each module: TensorRT takes the first for all that it does.
    """

    name: str
    module: Any
    version: str
    log: Log

    @classmethod
    def of(cls, name: str) -> Flavour:
        """The flavour of that name.

        Raises:
            UnsupportedError: there is none, or it is not installed.
        """
        if name not in MODULES:
            raise UnsupportedError(f"unknown engine {name!r}: expected one of {', '.join(MODULES)}")
        try:
            module: Any = import_module(MODULES[name])
        except ImportError as error:
            raise UnsupportedError(
                f"the engine {name!r} needs the package {MODULES[name]}, which does not load here ({error}): "
                f"{install_hint(name)}"
            ) from error
        if module not in _LOGS:
            _LOGS[module] = Log(module)
        return cls(name=name, module=module, version=str(module.__version__), log=_LOGS[module])

    @property
    def is_rtx(self) -> bool:
        """Whether kernels are compiled where they run, when an engine is loaded, and not when it is built.

        Such an engine is built without a GPU and knows a compute capability, but no GPU and no driver. What
        was compiled is kept in a runtime cache; there is no timing cache.
        """
        return self.name == "tensorrt-rtx"

    @property
    def capabilities(self) -> tuple[int, ...] | None:
        """Compute capabilities that it can build for, as `120`; None where that is any GPU that is here."""
        if not self.is_rtx:
            return None
        names = [name for name in dir(self.module.ComputeCapability) if name.startswith("SM")]
        return tuple(sorted(int(name.removeprefix("SM")) for name in names))


class Log:
    """The last lines that a module said. `sink` is its `ILogger`."""

    def __init__(self, module: Any) -> None:
        lines: deque[tuple[float, str, str]] = deque(maxlen=NUM_LINES)

        class Sink(module.ILogger):  # type: ignore[misc]  # a class that is known when TensorRT is there
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity != module.ILogger.Severity.VERBOSE:  # of which there are thousands
                    lines.append((time.monotonic(), severity.name, message))

        self._lines = lines
        self.sink = Sink()

    def since(self, moment: float) -> list[str]:
        """What was said since a moment of `time.monotonic`, each with its seconds since then."""
        return [f"{at - moment:8.2f} {name} {text}" for at, name, text in tuple(self._lines) if at >= moment]

    def errors(self, moment: float) -> str:
        """The first two errors since then: later ones follow from them."""
        found = [text for at, name, text in tuple(self._lines) if at >= moment and "ERROR" in name]
        return "; ".join(found[:2]) or "it gave no reason"

    def last_errors(self) -> str:
        """The last two errors of all."""
        found = [text for _, name, text in tuple(self._lines) if "ERROR" in name]
        return "; ".join(found[-2:]) or "it gave no reason"


_LOGS: dict[Any, Log] = {}
