"""A session: one player in a world. `reset` with a picture, then one `step` per action."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import InputError, StateError
from genie_rt.runtime.arguments import found, sequence, truth, whole_number
from genie_rt.runtime.backends.protocol import Backend, FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.deadline import Deadline
from genie_rt.runtime.frames_out import HeldFrame, PendingFrame, held
from genie_rt.runtime.images import Picture, check_frame
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.model.dynamics import NULL_ACTION
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.rollout import Rollout, roll_out
from genie_rt.runtime.snapshot import Snapshot
from genie_rt.runtime.turn import Home, Turn, Uncopied, exclusive

__all__ = ["Session", "Snapshot"]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Where a step led to: the new row, its picture, and what it took."""

    row: Row
    frame: HeldFrame
    stats: FrameStats


class Session(Uncopied):
    """One player's rollout. Sessions of one world do not disturb each other, also in several threads.

    A call that raises leaves the session as it was before the call. One method at a time: a call while
    another thread is in one, or that comes out of one, raises `StateError`. What is only read (`frame`,
    `frame_index`, `stats`, `passes`, `plan`) may be read meanwhile, and is of before or after that call.

    It belongs to the process that loaded its world: in a fork of it all methods raise `StateError`.

    Every picture that it returns is a new array or tensor, the caller's to write to. `step` returns it on the
    host; `step_tensor` leaves it on the device, for libraries that read it there, and `step_async` copies it
    to the host in the background. The frames are the same, and the three may take turns.

    The last frame has to be taken into the cache before the next can be decoded (its *commit*). Call `commit`
    when the frame is on the screen and it happens then, off the way from the next action to its picture
    (*idle*: best latency). Do not call it and the next `step` does it first, or fused into its first pass
    where the back end can.

    On one machine, with one back end, dtype, seed and plan, the same actions give the same frames to the last
    bit, whether somebody commits, saves and restores, or peeks at one action in between. Peeks at several
    actions, rollouts and pools compute several frames in one batch: where `world.backend.batch_invariant`,
    as on a CPU, they give these frames as well, and else (`cuda`) the same within rounding, by which a token
    may be another now and then, and with it the frames that follow.

    Attributes:
        world: the world that it plays in.
        seed: the seed of its random numbers.
        stats: what the last step took; None before the first.
        turn: which thread is in one of its methods; for a pool.
    """

    instead = "fork() gives a session at the same moment, snapshot().to_bytes() takes one to another process"

    def __init__(
        self,
        world: LoadedWorld,
        *,
        seed: int,
        plan: Plan,
        target_ms: float | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.world = world
        self.turn = Turn("session")
        self.seed = check_seed(seed)
        self.stats: FrameStats | None = None
        self._plan = check_plan(plan, world)
        self._deadline = None if target_ms is None else Deadline(target_ms, *_limits(plan), clock_ns)
        self._passes: int | None = None
        self._row: Row | None = None
        self._frame: HeldFrame | None = None
        self._peeked: dict[int, Moment] = {}  # by action: what `step` would give, with `next_plan`

    def __repr__(self) -> str:
        index = None if self._row is None else self._row.frame_index
        plan = f"{self._plan.order}, {self._plan.passes} passes"
        return f"Session({self.world!r}, seed={self.seed}, frame_index={index}, plan={plan!r})"

    @property
    def plan(self) -> Plan:
        """How frames are decoded. May be replaced between steps; a refused plan leaves the old one in place.

        Raises:
            InputError: on assignment, what is assigned is no `Plan`.
            ConfigError: on assignment, the model cannot decode with it, as with more passes than tokens.
        """
        return self._plan

    @plan.setter
    @exclusive
    def plan(self, plan: Plan) -> None:
        if check_plan(plan, self.world) == self._plan:
            return
        if self._deadline is not None:
            self._deadline.limit(*_limits(plan))
        self._plan, self._peeked = plan, {}

    @property
    def next_plan(self) -> Plan:
        """The plan that the next step takes: `plan`, or with a deadline `plan` with as many passes as fit."""
        if self._deadline is None or self._deadline.passes == self._plan.passes:
            return self._plan
        return self._plan.replace(passes=self._deadline.passes)

    @property
    def passes(self) -> int:
        """`K` that the last step was allowed, the next step's before the first.

        `plan.replace(passes=session.passes)` decodes that frame again, bit for bit. Under "adaptive" it may
        have taken fewer: see `stats`.
        """
        return self.next_plan.passes if self._passes is None else self._passes

    @property
    def passes_range(self) -> range:
        """The passes that `plan` could have, everything else as it is."""
        return range(_limits(self._plan)[1], self._plan.most_passes(self.world.bundle.config) + 1)

    @property
    def frame(self) -> Picture:
        """The last frame, `[Hout, Wout, 3]` uint8. Raises `StateError` before `reset`, and in a fork.

        After `step_tensor` or `step_async` it waits for the frame.
        """
        self.home.check()
        return self._shown()

    @property
    def home(self) -> Home:
        """The process that it belongs to."""
        return self.world.home

    def _shown(self) -> Picture:
        if self._frame is None:
            raise StateError("there is no frame yet: call reset(image) first")
        return self._frame.picture().copy()

    @property
    def frame_index(self) -> int:
        """Frames since the first of the prompt, which is 0. Raises `StateError` before `reset`."""
        return self.row.frame_index

    @property
    def row(self) -> Row:
        """The state that the back end goes on from. Raises `StateError` before `reset`."""
        if self._row is None:
            raise StateError("the session has no picture to go on from: call reset(image) first")
        return self._row

    @exclusive
    def reset(self, image: Picture, actions: Iterable[str | int] = ()) -> Picture:
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
        is_clip = isinstance(image, np.ndarray | Tensor) and image.ndim == 4
        pictures = list(image) if is_clip else [image]
        if not pictures:
            raise InputError("expected at least one picture to start from, found none")
        checked = [check_frame(picture, config.height, config.width) for picture in pictures]
        given = list(islice(sequence(actions, "a list of actions"), len(checked)))  # may have no end
        if len(given) != len(checked) - 1:
            raise InputError(
                f"expected {len(checked) - 1} actions for {len(checked)} pictures (one between each two), "
                f"found {len(given) if len(given) < len(checked) else 'more'}"
            )
        led_by = [NULL_ACTION, *(self.world.action(action) for action in given)]
        row, picture = self.world.backend.prefill(self.seed, torch.from_numpy(np.stack(checked)), led_by)
        frame = picture.cpu().numpy()
        self.stats = self._passes = None
        self._be_at(row, HeldFrame(frame))
        return self._shown()

    @exclusive
    def step(self, action: str | int) -> Picture:
        """The frame that an action leads to.

        After a `peek` at this action it is there already: then the model is not evaluated. The frame is the
        same however it was asked for, as far as the class says.

        Args:
            action: name or index.

        Returns:
            `[Hout, Wout, 3]` uint8.

        Raises:
            StateError: before `reset`.
            InputError: the world has no such action.
            DeviceError: the model gave NaN or Inf.
        """
        row = self.row
        index = self.world.action(action)
        moment = self.peeked(index)
        if moment is None:
            start_ns = self.clock_ns()
            (moment,) = advance(self.world.backend, [row], [index], self.next_plan)
            return self.take(moment, took_ms=(self.clock_ns() - start_ns) / 1e6)
        return self.take(moment)

    @exclusive
    def step_tensor(self, action: str | int) -> Tensor:
        """The frame that an action leads to, left on the back end's device, for whoever reads it there.

        It is enqueued on the current stream of that device and not waited for, but where the plan's order is
        "adaptive" the host waits for the first pass, and who is two frames ahead of the device waits for it
        as well. Other libraries take the tensor without a copy, by `__dlpack__` or
        `__cuda_array_interface__`; the latter does not say on which stream it is made, so use the same there.

        Args:
            action: name or index.

        Returns:
            `[Hout, Wout, 3]` uint8, contiguous. The caller's: later steps leave it as it is, and what is
            written to it changes nothing here. (So it is a copy, on the device, of what `frame` and
            `snapshot` fetch when they are asked.)

        Raises:
            StateError: before `reset`; or the session has a deadline: that needs to know what a frame took,
                and nobody knows before somebody waits for it.
            InputError: the world has no such action.
            DeviceError: the model gave NaN or Inf; of this frame, the back end may say so at the next call.
        """
        moment = self._enqueue(action)
        tensor = moment.frame.copy_to(moment.row.tokens.device)
        self._go_on(moment)
        return tensor

    @exclusive
    def step_async(self, action: str | int) -> PendingFrame:
        """The frame that an action leads to, copied to pinned host memory in the background.

        Frame and copy are enqueued as in `step_tensor`, which see. On a CPU both are there at once.

        Args:
            action: name or index.

        Returns:
            What says when the picture is there, and gives it.

        Raises:
            StateError, InputError, DeviceError: as `step_tensor`; what is wrong with this frame,
                `PendingFrame.wait` says.
        """
        moment = self._enqueue(action)
        pending = PendingFrame(moment.frame, moment.row.tokens.device, self.world.backend, self.home)
        self._go_on(moment)
        return pending

    @exclusive
    def commit(self) -> None:
        """Computes the last frame's page now, in idle time after the frame is shown.

        Optional: see the class. A second call has no effect, and nor does the first where a commit by itself
        would round otherwise than one within the next frame: with a graph of the whole frame (`onnx`,
        `openvino`, `tensorrt`), and on `cuda` unless the plan reuses. See `Backend.commits_ahead`. No frame
        changes, as long as the plan is not changed between this call and the next step.

        Raises:
            StateError: before `reset`.
            DeviceError: the model gave NaN or Inf.
        """
        row = self.row
        if self.is_pending and self.world.backend.commits_ahead(self.next_plan):
            (self._row,) = self.world.backend.commit([row])

    @exclusive
    def peek(self, actions: Iterable[str | int] | None = None) -> dict[str, Picture]:
        """The frames that each of several actions would lead to, as one batch over one shared past.

        The session stays where it is, and keeps the results: the next `step` with one of these actions costs
        nothing, and peeking again computes only what is not known yet. Whatever moves the session on (`step`,
        `reset`, `restore`, another plan) drops the results and their pages. The frames are those of `step`,
        within rounding where the back end is not `batch_invariant`.

        Args:
            actions: names or indices; all of the world unless given.

        Returns:
            `[Hout, Wout, 3]` uint8 by action name, in the order asked for.

        Raises:
            StateError: before `reset`.
            InputError: the world has no such action.
            DeviceError: the model gave NaN or Inf.
        """
        row, world = self.row, self.world
        given: Iterable[str | int] = range(len(world.action_names))
        if actions is not None:
            given = sequence(actions, "a list of actions to peek at", ordered=False)
        asked = {world.action_names[world.action_index(action)]: world.action(action) for action in given}
        missing = [code for code in dict.fromkeys(asked.values()) if code not in self._peeked]
        if missing:
            moments = advance(world.backend, [row] * len(missing), missing, self.next_plan)
            self._peeked |= zip(missing, moments, strict=True)
        return {name: self._peeked[code].frame.picture().copy() for name, code in asked.items()}

    @exclusive
    def rollout(self, actions: Iterable[Iterable[str | int]], *, frames: bool = True) -> Rollout:
        """Where each of several sequences of actions would lead, for planners. The session stays where it is.

        All sequences go on in one batch; those that begin alike are evaluated once as far as they do, so
        memory and time follow the number of different beginnings. Every step takes `next_plan`. The frames
        are those of `step`, within rounding where the back end is not `batch_invariant`.

        Args:
            actions: `S` sequences of `T` names or indices each, both at least 1.
            frames: False leaves out the pictures, which costs less; there are then no `ends` to go on from
                either, because without its decoder pages a row cannot show what comes next.

        Raises:
            StateError: before `reset`.
            InputError: no action, sequences of several lengths, or an unknown action.
            DeviceError: the model gave NaN or Inf.
        """
        return roll_out(self.world, self.row, actions, self.next_plan, frames=truth(frames, "frames"))

    @exclusive
    def fork(self, *, seed: int | None = None) -> Session:
        """A new session at this moment, which goes its own way from here. Shares pages: no tensor is copied.

        Args:
            seed: other random numbers from here on; those of this session unless given, so that the same
                actions give the same frames.

        Raises:
            StateError: before `reset`.
            InputError: the seed is out of range.
        """
        row = self.row
        twin = Session(self.world, seed=self.seed, plan=self._plan)
        if self._deadline is not None:
            twin._deadline = self._deadline.copy()
        twin._row, twin._frame, twin.stats, twin._passes = row, self._frame, self.stats, self._passes
        if seed is not None:
            twin.seed = check_seed(seed)
            twin._row = replace(row, seed=twin.seed)
        return twin

    @exclusive
    def snapshot(self) -> Snapshot:
        """This moment, to come back to with `restore`. Costs a few references, copies no tensor.

        After `step_tensor` or `step_async` it waits for the frame and fetches it.
        """
        row, frame = self.row, self._frame
        assert frame is not None  # comes with the row
        return Snapshot(self.world, row, frame.picture())

    @exclusive
    def restore(self, snapshot: Snapshot) -> Picture:
        """Goes back to a snapshot of any session of this world, and goes on with its seed.

        Returns:
            The frame of that moment.

        Raises:
            InputError: it is no snapshot, or one of another world.
        """
        if not isinstance(snapshot, Snapshot):
            hint = ": world.load_snapshot(data) makes one of bytes" if isinstance(snapshot, bytes) else ""
            raise InputError(f"expected a Snapshot, found {found(snapshot)}{hint}")
        if snapshot.world is not self.world:
            raise InputError(
                f"this snapshot is of the world {snapshot.world.bundle.name!r} as it was loaded elsewhere; "
                "restore it in a session of that world, or take it there as bytes"
            )
        self.seed = snapshot.row.seed
        self._be_at(snapshot.row, HeldFrame(snapshot.frame))
        return self._shown()

    # For a pool, which steps many sessions in one batch.

    @property
    def is_pending(self) -> bool:
        """Whether there is a last frame that is still to be committed."""
        return self._row is not None and self._row.pending

    def clock_ns(self) -> int:
        """The time that deadlines are measured in."""
        return 0 if self._deadline is None else self._deadline.clock_ns()

    def peeked(self, index: int) -> Moment | None:
        """Where an action leads to, if that is known already."""
        return self._peeked.get(index)

    def take(self, moment: Moment, *, took_ms: float | None = None) -> Picture:
        """Goes on to where a step led. `took_ms` is None where it was known already, or says nothing."""
        self._go_on(moment)
        if self._deadline is not None and took_ms is not None and not moment.stats.cold:
            self._deadline.feed(moment.stats.passes, took_ms)
        return self._shown()

    def committed(self, row: Row) -> None:
        """The same moment with its page computed. What was peeked stays true."""
        self._row = row

    def _enqueue(self, action: str | int) -> Moment:
        """Where an action leads to, which nobody has waited for yet."""
        row, index = self.row, self.world.action(action)
        if self._deadline is not None:
            raise StateError(
                "expected a session without a deadline, found one with "
                f"target_ms={self._deadline.target_ms:g}, which has to know what each frame took; call step, "
                "or make a session without target_ms and choose the passes yourself"
            )
        moment = self.peeked(index)
        if moment is None:
            (moment,) = advance(self.world.backend, [row], [index], self.next_plan, fetch=False)
        return moment

    def _go_on(self, moment: Moment) -> None:
        self.stats, self._passes = moment.stats, self.next_plan.passes
        self._be_at(moment.row, moment.frame)

    def _be_at(self, row: Row, frame: HeldFrame) -> None:
        self._row, self._frame, self._peeked = row, frame, {}


def advance(
    backend: Backend, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, fetch: bool = True
) -> list[Moment]:
    """One batch of frames. With `fetch` the pictures are waited for and on the host: see `held`."""
    new_rows, pictures, stats = backend.frame(rows, actions, plan)
    assert pictures is not None  # they were asked for
    frames = held(pictures, fetch=fetch)
    return [Moment(*parts) for parts in zip(new_rows, frames, stats, strict=True)]


def check_seed(seed: object) -> int:
    """The seed as an int, if it is one.

    Raises:
        InputError: it is not a whole number of 64 bits.
    """
    return whole_number(seed, 0, (1 << 64) - 1, "a seed from 0 to 2**64 - 1")


def check_plan(plan: object, world: LoadedWorld) -> Plan:
    """The plan, if it is one that this world can decode with.

    Raises:
        InputError: it is no `Plan`.
        ConfigError: the model cannot decode with it.
    """
    if not isinstance(plan, Plan):
        raise InputError(f"expected a Plan, found {found(plan)}; world.plan(name) gives one of the bundle's")
    return plan.check(world.bundle.config)


def _limits(plan: Plan) -> tuple[int, int]:
    """The most passes that a deadline may choose, and the least."""
    return plan.passes, 2 if plan.reuse == "frames" else 1
