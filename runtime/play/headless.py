"""Play without a window: actions in, frames and step times out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from genie_rt.errors import InputError
from genie_rt.runtime.play.action_log import Trail
from genie_rt.runtime.play.pace import percentile
from genie_rt.runtime.play.playable import Frame, PlayableSession

_MAX_KEPT_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a headless game gave.

    Attributes:
        frames: `[T + 1]` copies, the first one after the reset; empty if they were not kept.
        trail: the actions and a checksum of every frame.
        step_ms: `[T]` from action to frame, each in milliseconds.
        commit_ms: `[T]` of the commits that came right after, as in an idle moment of a game.
        cold: `[T]` whether something was made ready within the step, such as a graph compiled.
    """

    frames: tuple[Frame, ...]
    trail: Trail
    step_ms: tuple[float, ...]
    commit_ms: tuple[float, ...]
    cold: tuple[bool, ...]

    @property
    def first_ms(self) -> float:
        """Milliseconds of the first step, which may find things that no later one does."""
        return self.step_ms[0]

    @property
    def num_cold(self) -> int:
        """Steps after the first within which something was made ready."""
        return sum(self.cold[1:])

    @property
    def fps(self) -> float | None:
        """Frames per second when nothing waits: steps and commits together, of `warm` steps."""
        taken = [self.step_ms[step] + self.commit_ms[step] for step in self.warm]
        return len(taken) / max(sum(taken) / 1000, 1e-9) if taken else None

    @property
    def warm(self) -> tuple[int, ...]:
        """The steps whose times are like those of any later one: neither the first nor a cold one."""
        return tuple(step for step in range(1, len(self.step_ms)) if not self.cold[step])

    def percentile_ms(self, percent: float) -> float | None:
        """Percentile of `warm` steps, in milliseconds; None where there are none."""
        return percentile([self.step_ms[step] for step in self.warm], percent) if self.warm else None


def play_headless(
    session: PlayableSession,
    image: Frame,
    actions: Sequence[int],
    *,
    passes: Sequence[int] | None = None,
    keep_frames: bool = True,
    on_step: Callable[[], object] | None = None,
) -> Played:
    """Plays the actions from a picture on.

    Args:
        session: is reset.
        image: `[H, W, 3]` uint8, the picture to start from.
        actions: `[T]` indices.
        passes: `[T]` of each step, as a log has them; None leaves the session's plan alone.
        keep_frames: whether the result has the frames.
        on_step: called after every step, outside the times.

    Raises:
        InputError: more than 4 GiB of frames would have to be kept.
    """
    frame = session.reset(image)
    if keep_frames and (len(actions) + 1) * frame.nbytes > _MAX_KEPT_BYTES:
        most = _MAX_KEPT_BYTES // frame.nbytes - 1
        raise InputError(
            f"expected at most {most} steps of frames of this size in one clip, found {len(actions)}"
        )
    frames = [frame.copy()] if keep_frames else []
    trail = Trail(frame)
    step_ms: list[float] = []
    commit_ms: list[float] = []
    cold: list[bool] = []
    session.commit()
    for index, action in enumerate(actions):
        if passes is not None and passes[index] != session.plan.passes:
            session.plan = session.plan.replace(passes=passes[index])
        start = time.perf_counter_ns()
        frame = session.step(action)
        shown = time.perf_counter_ns()
        session.commit()
        done = time.perf_counter_ns()
        step_ms.append((shown - start) / 1e6)
        commit_ms.append((done - shown) / 1e6)
        cold.append(session.stats is not None and session.stats.cold)
        trail.add(action, session.passes, frame)
        if keep_frames:
            frames.append(frame.copy())
        if on_step is not None:
            on_step()
    return Played(
        frames=tuple(frames),
        trail=trail,
        step_ms=tuple(step_ms),
        commit_ms=tuple(commit_ms),
        cold=tuple(cold),
    )
