"""The process environment: every variable that genie-rt knows, read here and nowhere else.

| variable | values | meaning |
|---|---|---|
| `GENIE_RT_DEBUG` | `0` (default), `1` | the command line shows tracebacks instead of one line per error |
| `GENIE_RT_CACHE` | `1` (default), `0` | whether graphs that OpenVINO compiled are kept for the next start |
| `GENIE_RT_LIBRARY` | a file, our own by default | the C library that the back end `native` loads |
| `XDG_CACHE_HOME` | an absolute path, `~/.cache` by default | in it `genie-rt/compiled`, `genie-rt/engines` |
| `RANK` | a number, 0 by default | which of several processes this is; set by `torchrun` |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Settings from environment variables."""

    debug: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> "Environment":
        """Read the variables of the module's table.

        Raises:
            ConfigError: a variable is set to a value that it cannot have.
        """
        return cls(debug=_switch(variables, "GENIE_RT_DEBUG", default=False))


def is_first_process(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the only process of a run or the first of several: the one that prints."""
    return variables.get("RANK", "0") in ("", "0")


def engine_cache(variables: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of built TensorRT engines; it need not be there yet.

    Raises:
        ConfigError: the variable holds no absolute path.
    """
    return _cache_home(variables) / "engines"


def compiled_cache(variables: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of compiled graphs, which need not be there yet; None to keep none.

    Raises:
        ConfigError: a variable is set to a value that it cannot have.
    """
    if not _switch(variables, "GENIE_RT_CACHE", default=True):
        return None
    return _cache_home(variables) / "compiled"


def named_library(variables: Mapping[str, str] = os.environ) -> Path | None:
    """Return the C library that the back end `native` shall load; None where nobody says.

    Raises:
        ConfigError: there is no such file.
    """
    name = variables.get("GENIE_RT_LIBRARY", "")
    if name and not Path(name).is_file():
        raise ConfigError(
            f"GENIE_RT_LIBRARY: expected the file of a C library, found none at {name!r}; set it to the "
            "library's path, or not at all"
        )
    return Path(name).absolute() if name else None


def _cache_home(variables: Mapping[str, str]) -> Path:
    home = variables.get("XDG_CACHE_HOME", "")
    if home and not Path(home).is_absolute():
        raise ConfigError(f"XDG_CACHE_HOME: expected an absolute path, found {home!r}")
    return (Path(home) if home else Path.home() / ".cache") / "genie-rt"


def _switch(variables: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = variables.get(name, "")
    if value not in ("", "0", "1"):
        raise ConfigError(f"{name}: expected 0 or 1, found {value!r}")
    return value == "1" if value else default
