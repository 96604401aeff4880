"""The rules of playing: step, pause, undo, prompts, passes. No window, no keys, no waiting."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from genie_rt.errors import InputError
from genie_rt.runtime.play.action_log import Trail
from genie_rt.runtime.play.pace import Clock, StepTimes
from genie_rt.runtime.play.playable import Frame, PlayableSession
from genie_rt.runtime.play.prompt import Prompt


class PlayLoop:
    """One player's game. Not safe to share between threads, as the session is not.

    Args:
        session: is reset at once to the first prompt.
        prompts: at least one.
        prompt_index: which of them to start from.
        undo_steps: how many steps can be taken back. A snapshot keeps the pages of its past alive, so this
            bounds memory.
        clock: seconds, monotonic; times the steps.
    """

    def __init__(
        self,
        session: PlayableSession,
        prompts: Sequence[Prompt],
        *,
        prompt_index: int = 0,
        undo_steps: int = 256,
        clock: Clock = time.perf_counter,
    ) -> None:
        if not prompts:
            raise InputError("expected at least one picture to start from, found none")
        self.session = session
        self.prompts = tuple(prompts)
        self.prompt_index = prompt_index
        self.paused = False
        self.times = StepTimes(clock)
        self._clock = clock
        self._undo: deque[tuple[Any, bool]] = deque(maxlen=undo_steps)
        self._single_step = False
        self._committed = False
        self._stepped = False  # the first step may find things that no later one does, so it does not count
        self._restart()

    @property
    def frame(self) -> Frame:
        """`[H, W, 3]` uint8: what the player should see now."""
        return self.session.frame

    @property
    def num_steps(self) -> int:
        """Steps since the reset, without those taken back."""
        return len(self.trail)

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def wants_step(self) -> bool:
        """Whether `tick` would step now: the game runs, or a single step was asked for."""
        return not self.paused or self._single_step

    def tick(self, action: int) -> bool:
        """One step with this action, unless paused. Returns whether there is a new frame."""
        if not self.wants_step:
            return False
        self._single_step = False
        snapshot = self.session.snapshot()
        start = self._clock()
        frame = self.session.step(action)
        step_ms = (self._clock() - start) * 1000
        stats = self.session.stats
        if self._stepped and not (stats is not None and stats.cold):
            self.times.add(step_ms)
        self._stepped = True
        self._undo.append((snapshot, self._committed))
        self.trail.add(action, self.session.passes, frame)
        self._committed = False
        return True

    def idle(self) -> None:
        """Call when the new frame is on the screen: the cache takes it in now, not in the next step."""
        if not self._committed:
            self.session.commit()
            self._committed = True

    def toggle_pause(self) -> None:
        self.paused = not self.paused
        self._single_step = False

    def request_step(self) -> None:
        """The next `tick` steps once. Pauses a running game. Asking twice is asking once."""
        self.paused = True
        self._single_step = True

    def undo(self) -> bool:
        """Takes the last step back. Returns False where nothing can be taken back (any more)."""
        if not self._undo:
            return False
        snapshot, self._committed = self._undo.pop()
        self.session.restore(snapshot)
        self.trail.drop_last()
        return True

    def reset(self, prompt_index: int | None = None) -> None:
        """Back to a prompt's picture, without index to that of this game. Pause stays as it is."""
        if prompt_index is not None:
            self.prompt_index = prompt_index % len(self.prompts)
        self._restart()

    def change_passes(self, difference: int) -> int:
        """More or fewer passes from the next step on, as far as the model goes. Returns how many now."""
        plan, possible = self.session.plan, self.session.passes_range
        self.session.plan = plan.replace(passes=min(possible[-1], max(possible[0], plan.passes + difference)))
        return self.session.plan.passes

    def _restart(self) -> None:
        self._undo.clear()
        self._single_step = False
        frame = self.session.reset(self.prompts[self.prompt_index].image)
        self.trail = Trail(frame)
        self.first_plan = self.session.plan
        self._committed = False
