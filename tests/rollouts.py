"""Rollouts to compare: what a session did, frame by frame, and where two rollouts first differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from naive import NaiveFrame, naive_rollout
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.runtime.backends.reference import ReferenceBackend, ReferencePasses
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

LOGIT_TOLERANCE = 1e-9
"""Largest difference of any logit in float64: logits are of size 1 to 10, and rounding gives about 1e-14."""


class LogitRecorder:
    """Keeps the logits of every pass that a back end makes from now on."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.passes: list[Tensor] = []
        self._make = backend._passes
        backend._passes = self._recorded  # type: ignore[method-assign]

    def _recorded(self, *arguments: Any) -> ReferencePasses:
        passes = self._make(*arguments)
        compute = passes.logits

        def logits(seen: Any, among: Tensor | None) -> Tensor:
            found = compute(seen, among)
            self.passes.append(found[0].clone())
            return found

        passes.logits = logits  # type: ignore[method-assign]
        return passes

    def take(self) -> list[Tensor]:
        """The passes since the last call."""
        passes, self.passes = self.passes, []
        return passes


def cached_rollout(
    world: World,
    prompt: NDArray[np.uint8],
    actions: Sequence[int],
    plan: Plan,
    seed: int = 1,
    *,
    idle: bool = False,
) -> list[NaiveFrame]:
    """What `naive_rollout` gives, from a session; with `idle` it commits between the steps."""
    session = world.session(seed=seed, plan=plan)
    known = len(prompt) - 1
    recorder = LogitRecorder(world.backend)  # type: ignore[arg-type]
    session.reset(prompt, actions[:known])
    frames = []
    for action in actions[known:]:
        if idle:
            session.commit()
        picture = session.step(action)
        assert session._row is not None
        frames.append(
            NaiveFrame(
                tokens=session._row.tokens, logits=recorder.take(), picture=torch.from_numpy(picture.copy())
            )
        )
    return frames


def yardstick(
    world: World, prompt: NDArray[np.uint8], actions: Sequence[int], plan: Plan, seed: int = 1
) -> list[NaiveFrame]:
    """The naive rollout of the same world."""
    model = world.backend.model  # type: ignore[attr-defined]
    return list(naive_rollout(model, torch.from_numpy(prompt), actions, plan, seed))


def first_difference(
    found: list[NaiveFrame], expected: list[NaiveFrame], *, logits: bool = True
) -> str | None:
    """Where two rollouts part, or None where they are the same.

    Args:
        logits: whether these are compared too; where the order is static, a session computes fewer of them.
    """
    if len(found) != len(expected):
        return f"{len(found)} frames against {len(expected)}"
    for t, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if len(ours.logits) != len(theirs.logits):
            return f"frame {t}: {len(ours.logits)} passes against {len(theirs.logits)}"
        for k, (a, b) in enumerate(zip(ours.logits, theirs.logits, strict=True) if logits else ()):
            error = float((a - b).abs().max())
            if not error <= LOGIT_TOLERANCE:
                return f"frame {t}, pass {k}: logits off by {error:.3g}"
        if not torch.equal(ours.tokens, theirs.tokens):
            return f"frame {t}: {int((ours.tokens != theirs.tokens).sum())} tokens differ"
        if not torch.equal(ours.picture, theirs.picture):
            return f"frame {t}: the pictures differ"
    return None
