"""The process environment: every variable that genie-rt knows, read here and nowhere else.

| variable | values | meaning |
|---|---|---|
| `GENIE_RT_DEBUG` | `0` (default), `1` | the command line shows tracebacks instead of one line per error |
| `XDG_CACHE_HOME` | an absolute path, `~/.cache` by default | in it `genie-rt/engines`, of TensorRT |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import ConfigError

_SWITCH = {"": False, "0": False, "1": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment asks for."""

    debug: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> "Environment":
        """Reads the variables of the module's table.

        Raises:
            ConfigError: a variable is set to a value that it cannot have.
        """
        debug = variables.get("GENIE_RT_DEBUG", "")
        if debug not in _SWITCH:
            raise ConfigError(f"GENIE_RT_DEBUG: expected 0 or 1, found {debug!r}")
        return cls(debug=_SWITCH[debug])


def engine_cache(variables: Mapping[str, str] = os.environ) -> Path:
    """The folder that engines of TensorRT are kept in; it need not be there yet.

    Raises:
        ConfigError: the variable holds no absolute path.
    """
    home = variables.get("XDG_CACHE_HOME", "")
    if home and not Path(home).is_absolute():
        raise ConfigError(f"XDG_CACHE_HOME: expected an absolute path, found {home!r}")
    return (Path(home) if home else Path.home() / ".cache") / "genie-rt" / "engines"
