"""A session: one player in a world. `reset` with a picture, then one `step` per action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import InputError, StateError
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.images import Picture, check_frame
from genie_rt.runtime.model.dynamics import NULL_ACTION
from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    from genie_rt.runtime.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A moment of a session, to come back to. Shares the session's pages: no tensor is copied.

    It holds the state and the seed, not the plan. It is good for any session of the same world.
    """

    world: World
    row: Row
    frame: Picture


class Session:
    """One player's rollout. Not for several threads at once; sessions of one world do not disturb each other.

    A call that raises leaves the session as it was before the call.

    Every picture that it returns is a new array, the caller's to write to.

    Attributes:
        plan: how frames are decoded; may be replaced between steps.
        stats: what the last step took, None before the first.
    """

    def __init__(self, world: World, *, seed: int, plan: Plan) -> None:
        self.world = world
        self.seed = seed
        self.plan = plan
        self.stats: FrameStats | None = None
        self._row: Row | None = None
        self._frame: Picture | None = None

    @property
    def frame(self) -> Picture:
        """The last frame, `[Hout, Wout, 3]` uint8. Raises `StateError` before `reset`."""
        if self._frame is None:
            raise StateError("there is no frame yet: call reset(image) first")
        return self._frame.copy()

    @property
    def frame_index(self) -> int:
        """Frames since the first of the prompt, which is 0. Raises `StateError` before `reset`."""
        return self._started().frame_index

    def reset(self, image: Picture, actions: Sequence[str | int] = ()) -> Picture:
        """Starts anew from a picture, or from several with the actions between them.

        Args:
            image: `[H, W, 3]` uint8 of the world's size, or `[T, H, W, 3]` with `T - 1` actions.
            actions: entry `t` led from picture `t` to picture `t + 1`.

        Returns:
            The last picture as the model sees it, `[Hout, Wout, 3]` uint8.

        Raises:
            InputError: shape, dtype or number of actions do not fit, or an action is unknown.
            DeviceError: the model gave NaN or Inf.
        """
        config = self.world.bundle.config.tokenizer
        is_clip = getattr(image, "ndim", 3) == 4
        pictures = list(image) if is_clip else [image]
        if not pictures:
            raise InputError("expected at least one picture to start from, found none")
        checked = [check_frame(picture, config.height, config.width) for picture in pictures]
        if len(actions) != len(checked) - 1:
            raise InputError(
                f"expected {len(checked) - 1} actions for {len(checked)} pictures (one between each two), "
                f"found {len(actions)}"
            )
        led_by = [NULL_ACTION, *(self.world.action(action) for action in actions)]
        row, picture = self.world.backend.prefill(self.seed, torch.from_numpy(np.stack(checked)), led_by)
        self.stats = None
        return self._show(row, picture)

    def step(self, action: str | int) -> Picture:
        """The frame that an action leads to.

        Args:
            action: name or index.

        Returns:
            `[Hout, Wout, 3]` uint8.

        Raises:
            StateError: before `reset`.
            InputError: the world has no such action.
            DeviceError: the model gave NaN or Inf.
        """
        row = self._started()
        index = self.world.action(action)
        backend = self.world.backend
        if row.pending:
            (row,) = backend.commit([row])
        (row,), pictures, self.stats = backend.frame([row], [index], self.plan)
        return self._show(row, pictures[0])

    def commit(self) -> None:
        """Computes the last frame's page now, in idle time after the frame is shown.

        Optional: the next `step` does it where nobody did. Calling it takes that work off the way from the
        action to the picture; the frames are the same.
        """
        row = self._started()
        if row.pending:
            (self._row,) = self.world.backend.commit([row])

    def snapshot(self) -> Snapshot:
        """This moment, to come back to with `restore`. Costs a few references, copies no tensor."""
        row, frame = self._started(), self._frame
        assert frame is not None  # comes with the row
        return Snapshot(self.world, row, frame)

    def restore(self, snapshot: Snapshot) -> Picture:
        """Goes back to a snapshot of any session of this world, and goes on with its seed.

        Returns:
            The frame of that moment.

        Raises:
            InputError: the snapshot is of another world.
        """
        if snapshot.world is not self.world:
            raise InputError(
                f"this snapshot is of the world {snapshot.world.bundle.name!r} as it was loaded elsewhere; "
                "restore it in a session of that world"
            )
        self._row, self._frame, self.seed = snapshot.row, snapshot.frame, snapshot.row.seed
        return self.frame

    def _show(self, row: Row, picture: Tensor) -> Picture:
        self._row, self._frame = row, picture.cpu().numpy()
        self._frame.setflags(write=False)  # snapshots share it; callers get copies
        return self.frame

    def _started(self) -> Row:
        if self._row is None:
            raise StateError("the session has no picture to go on from: call reset(image) first")
        return self._row
