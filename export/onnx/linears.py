"""The way an int8 graph quantises linears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genie_rt.errors import ConfigError
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.linears import linear_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """Quantisation settings of int8 graphs.

    Attributes:
        amax: the largest magnitude of a linear's input, by its name; those of `linear_names`.
        kept_float: linears that stay in float.
    """

    amax: Mapping[str, float]
    kept_float: frozenset[str] = frozenset()

    def check(self, config: ModelConfig) -> Quantisation:
        """Return these settings if they fit a model's configuration.

        Raises:
            ConfigError: a linear is unknown, or one that is to be quantised has no positive finite `amax`.
        """
        names = set(linear_names(config))
        for name in sorted({*self.amax, *self.kept_float} - names):
            raise ConfigError(f"Quantisation: expected linears of `linear_names`, found {name!r}")
        for name in sorted(names - self.kept_float):
            found = self.amax.get(name)
            if found is None or not 0 < found < float("inf"):
                raise ConfigError(f"Quantisation.amax: {name}: expected a positive number, found {found}")
        return self
