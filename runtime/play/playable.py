"""What this package needs of a world's session, so that tests can play without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    from genie_rt.runtime.backends.protocol import FrameStats

Frame = npt.NDArray[np.uint8]
"""One picture: `[H, W, 3]` uint8, RGB, in CPU memory."""


class PlayableSession(Protocol):
    """The part of `genie_rt.Session` that playing uses."""

    plan: Plan

    @property
    def stats(self) -> FrameStats | None:
        """What the last step took, None before the first."""

    @property
    def passes(self) -> int:
        """`K` that the last step was allowed."""

    @property
    def passes_range(self) -> range:
        """The passes that the plan could have."""

    @property
    def frame(self) -> Frame:
        """The last frame."""

    def reset(self, image: Frame, /) -> Frame: ...

    def step(self, action: int, /) -> Frame: ...

    def commit(self) -> None: ...

    def snapshot(self) -> Any: ...

    def restore(self, snapshot: Any, /) -> object: ...
