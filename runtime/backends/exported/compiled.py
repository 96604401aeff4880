"""What an engine made of graphs, kept for the next start: found by all that it depends on.

OpenVINO's alone. ONNX Runtime can keep what it optimised too, the same to the last bit, but with that the
demo took 0.6 s of CPU time in place of 0.8 to load and warm up in int8, and 0.7 in place of 0.66 in float32.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from genie_rt import __version__
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.kept import Kept
from genie_rt.runtime.processor import processor_features
from genie_rt.runtime.stored_weights import StoredWeights
from genie_rt.runtime.untrusted import brief

_LOGGER = logging.getLogger("genie_rt.kept")


class CompiledGraphs:
    """Compiled graphs of one engine.

    Args:
        kept: where they are; None keeps none.
        engine: that compiles them, with its version.
    """

    def __init__(self, kept: Kept | None, engine: str) -> None:
        self.kept, self.engine = kept or Kept(None), engine
        self._hashed: tuple[StoredWeights, str] | None = None

    def obtain(
        self,
        graph: CheckedGraph,
        how: Mapping[str, Any],
        *,
        load: Callable[[bytes], Any],
        compile_: Callable[[], Any],
        save: Callable[[Any], bytes],
    ) -> Any:
        """A compiled graph: from what was kept, or compiled now and kept.

        Args:
            graph: what is compiled.
            how: everything else that the result depends on, in JSON's types.
            load: makes it of what `save` gave; whatever it raises, the graph is compiled again.
            compile_: makes it of the graph; what it raises is raised.
            save: as bytes; whatever it raises, nothing is kept.
        """
        if not self.kept.is_on:
            return compile_()
        about = self.about(graph, how)
        if (data := self.kept.find(about)) is not None:
            try:
                return load(data)
            except Exception as error:  # engines' errors have no base in common
                _LOGGER.warning(
                    "%s: what was kept does not load, and is made again: %s", graph.path, brief(error)
                )
                self.kept.drop(about)
        compiled = compile_()
        try:
            self.kept.keep(about, save(compiled))
        except Exception as error:
            _LOGGER.info("%s: what was compiled cannot be kept: %s", graph.path, brief(error))
        return compiled

    def about(self, graph: CheckedGraph, how: Mapping[str, Any]) -> dict[str, Any]:
        """All that a compiled graph depends on."""
        return {
            "graph": hashlib.sha256(graph.to_bytes()).hexdigest(),
            "weights": self._digest_of(graph.weights),
            "engine": self.engine,
            "genie_rt": __version__,
            "processor": processor_features(),
            **how,
        }

    def _digest_of(self, weights: StoredWeights) -> str:
        """Many graphs have them in common."""
        if self._hashed is None or self._hashed[0] is not weights:
            self._hashed = weights, hashlib.sha256(weights.data.data).hexdigest()
        return self._hashed[1]
