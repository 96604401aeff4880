"""From pressed keys to the play loop: what each key does and what the player is told."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from genie_rt.errors import GenieError
from genie_rt.runtime.play.action_log import ActionLog
from genie_rt.runtime.play.keys import KeyMap
from genie_rt.runtime.play.loop import PlayLoop
from genie_rt.runtime.play.pace import Clock
from genie_rt.runtime.play.recorder import Recorder

_REWIND_KEYS = frozenset({"z", "backspace"})
_REWIND_DELAY_S = 0.25
_MESSAGE_S = 3.0


@dataclass(frozen=True, slots=True)
class Status:
    """What the bar under the picture says.

    Attributes:
        action: name of the action that led to the frame, empty at the start.
        moves: the moves that the keys ask for right now.
        mode: "" while the game runs, else "paused" or "rewind".
        message: news for some seconds, or empty.
    """

    action: str
    moves: frozenset[str]
    step: int
    fps: float | None
    p50_ms: float | None
    p95_ms: float | None
    passes: int
    mode: str
    recording: bool
    message: str


class Player:
    """Held keys become actions, other keys commands.

    Keys carry pygame's names. A key that was pressed and released between two steps still counts for the next
    one, and no more: keys are a state, never a queue, so a late frame has nothing to catch up with.

    Args:
        loop: the game.
        action_names: the world's.
        recorder: where V and F12 record to.
        default_action: the name of what no key means.
        script: actions that are played before the keys take over.
        make_log: the game so far as a log, written beside a recording; None writes no logs.
        folder: where recordings go.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        loop: PlayLoop,
        action_names: Sequence[str],
        recorder: Recorder,
        *,
        default_action: str | None = None,
        script: Sequence[int] = (),
        make_log: Callable[[], ActionLog] | None = None,
        folder: Path = Path(),
        clock: Clock = time.perf_counter,
    ) -> None:
        self.loop = loop
        self.recorder = recorder
        self.keymap = KeyMap(action_names, default_action)
        self.show_help = False
        self.quit = False
        self.dirty = True
        """Whether the picture or the bar changed since the window last drew them."""
        self._action_names = action_names
        self._script = list(reversed(script))
        self._make_log = make_log
        self._folder = folder
        self._clock = clock
        self._num_recordings = 0
        self._held: set[str] = set()
        self._tapped: set[str] = set()
        self._rewind_again_at = 0.0
        self._message = ""
        self._message_until = 0.0
        self._commands: dict[str, Callable[[], object]] = {
            "p": loop.toggle_pause,
            "break": loop.toggle_pause,  # pygame's name of the Pause key
            "n": loop.request_step,
            ".": loop.request_step,
            "r": self._reset,
            "tab": lambda: self._choose_prompt(loop.prompt_index + 1),
            "[": lambda: self._change_passes(-1),
            "]": lambda: self._change_passes(+1),
            "v": self.toggle_recording,
            "f12": self.toggle_recording,
            "h": self._toggle_help,
            "f1": self._toggle_help,
            "escape": self._leave,
        }
        if not self.keymap.uses_digits:
            for index in range(min(10, len(loop.prompts))):  # as `--prompt` counts
                self._commands[str(index)] = lambda index=index: self._choose_prompt(index)  # type: ignore[misc]

    def press(self, key: str) -> None:
        """A key goes down. Commands act at once, keys that play act in the next `tick`."""
        key = key.casefold()
        self.dirty = True
        self._held.add(key)
        if key in self.keymap.keys:
            self._tapped.add(key)
        elif key in _REWIND_KEYS:
            self._rewind_again_at = self._clock() + _REWIND_DELAY_S
            self._undo()
        elif key in self._commands:
            self._commands[key]()

    def release(self, key: str) -> None:
        """A key goes up."""
        self._held.discard(key.casefold())
        self.dirty = True

    def release_all(self) -> None:
        """The window lost the keyboard: whatever goes up now, nobody will tell."""
        self._held.clear()
        self._tapped.clear()
        self.dirty = True

    @property
    def rewinding(self) -> bool:
        return bool(self._held & _REWIND_KEYS)

    @property
    def wants_tick(self) -> bool:
        """Whether `tick` would change the frame, now or once a held rewind key repeats."""
        return not self.show_help and (self.rewinding or self.loop.wants_step)

    def tick(self) -> None:
        """One frame on, or back while a rewind key is held. Call at the target rate.

        The game waits while the help covers it.
        """
        if self.show_help:
            return
        if self.rewinding:
            if self._clock() >= self._rewind_again_at:
                self._undo()
            return
        if not self.loop.wants_step:
            return
        action = self._script.pop() if self._script else self.keymap.action(self._held | self._tapped)
        self._tapped.clear()
        self.loop.tick(action)
        self._record()

    def idle(self) -> None:
        """Call after drawing: lets the session commit, and collects news."""
        self.loop.idle()
        for news in self.recorder.news():
            self._tell(news)
        if self._message and self._clock() >= self._message_until:
            self._message = ""
            self.dirty = True

    def greet(self) -> None:
        """Tells how to play."""
        how, what = self.help_lines()[0]
        if self.keymap.uses_digits:
            how, what = f"0-{min(10, len(self._action_names)) - 1}", "act"
        self._tell(f"{how}: {what}    H: help")

    def toggle_recording(self) -> None:
        """Starts a GIF named after the time of day, or ends the recording that runs."""
        if self.recorder.active:
            self._tell("saving ...")
            self.stop_recording()
        else:
            self._num_recordings += 1
            name = f"genie-rt-{datetime.now():%Y%m%d-%H%M%S}-{self._num_recordings}.gif"
            self.start_recording(self._folder / name)

    def start_recording(self, path: Path) -> None:
        self.recorder.start(path)
        self._record()

    def stop_recording(self) -> None:
        """Ends the recording, if one runs; it is written beside the game."""
        if not self.recorder.active:
            return
        log = None
        try:
            log = self._make_log() if self._make_log else None
        except GenieError as error:  # a game of more steps than a log may have
            self._tell(f"no action log: {error}")
        self.recorder.stop(log)

    def status(self) -> Status:
        loop = self.loop
        last = loop.trail.last_action
        return Status(
            action="" if last is None else self._action_names[last],
            moves=self.keymap.moves_of(self._held),
            step=loop.num_steps,
            fps=None if loop.paused else loop.times.fps,
            p50_ms=loop.times.percentile_ms(50),
            p95_ms=loop.times.percentile_ms(95),
            passes=loop.session.plan.passes,
            mode="rewind" if self.rewinding else "paused" if loop.paused else "",
            recording=self.recorder.active,
            message=self._message,
        )

    def help_lines(self) -> tuple[tuple[str, str], ...]:
        """Pairs of keys and what they do."""
        if self.keymap.uses_digits:
            play: tuple[tuple[str, str], ...] = tuple(
                (str(index), name) for index, name in enumerate(self._action_names[:10])
            )
            prompts = "Tab"
        else:
            play = (("Arrows, WASD, Space", "move"),)
            prompts = "Tab, 0-9"
        return (
            *play,
            ("P", "pause, go on"),
            ("N", "one step"),
            ("Z", "undo, hold to rewind"),
            ("R", "start again"),
            (prompts, "other start picture"),
            ("[  ]", "fewer, more passes"),
            ("V", "record a GIF"),
            ("H", "this help"),
            ("Esc", "quit"),
        )

    def _record(self) -> None:
        last = self.loop.trail.last_action
        self.recorder.add(self.loop.frame, "" if last is None else self._action_names[last])
        self.dirty = True
        if self.recorder.full:
            self._tell("recording is full, saving ...")
            self.stop_recording()

    def _undo(self) -> None:
        if self.loop.undo():
            self._record()
        else:
            self._tell("nothing left to undo")

    def _reset(self) -> None:
        self.loop.reset()
        self._record()

    def _choose_prompt(self, index: int) -> None:
        self.loop.reset(index)
        self._tell(self.loop.prompts[self.loop.prompt_index].name)
        self._record()

    def _change_passes(self, difference: int) -> None:
        passes = self.loop.change_passes(difference)
        self._tell(f"{passes} {'pass' if passes == 1 else 'passes'} a frame")

    def _toggle_help(self) -> None:
        self.show_help = not self.show_help

    def _leave(self) -> None:
        if self.show_help:
            self.show_help = False
        else:
            self.quit = True

    def _tell(self, message: str) -> None:
        self._message = message
        self._message_until = self._clock() + _MESSAGE_S
        self.dirty = True
