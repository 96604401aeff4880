"""The action log: everything that a game needs to be played again, bit for bit."""

import json
import re
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.config import from_dict, to_dict
from genie_rt.runtime.plan import MAX_PASSES, Plan
from genie_rt.runtime.play.playable import Frame
from genie_rt.runtime.play.script import read_text, script_of
from genie_rt.runtime.untrusted_json import parse_json

SCHEMA = "genie-rt-actions/1"
MAX_LOG_STEPS = 1_000_000
_MAX_LOG_BYTES = 128 * 2**20
_NAME = re.compile("[a-z0-9-]{1,32}")  # of a back end or number format


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLog:
    """One game from its prompt picture on.

    The same bundle, binary, back end, number format and plan give the same frames; `frames_crc32` tells where
    two games part.

    Attributes:
        bundle: name or folder of the bundle, as the player gave it.
        bundle_sha256: of its `bundle.json`, which identifies all of it; None if unknown.
        backend: that computed the frames, one of `backends.registry.BACKENDS`; None if unknown.
        dtype: that it computed in, one of `backends.registry.ACTIVATIONS`; None if unknown.
        seed: of the session.
        plan: of the session before the first step.
        prompt: name of the bundle's picture, or the path of another one.
        prompt_crc32: of the picture's pixels.
        actions: `[T]` names.
        passes: `[T]` passes of each step, which a player may change during the game.
        frames_crc32: `[T + 1]` of the frame after the reset and after every step.
    """

    schema: str = SCHEMA
    bundle: str
    bundle_sha256: str | None
    backend: str | None = None
    dtype: str | None = None
    seed: int
    plan: Plan
    prompt: str
    prompt_crc32: int
    actions: tuple[str, ...]
    passes: tuple[int, ...]
    frames_crc32: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ConfigError(f"schema: expected {SCHEMA!r}, found {self.schema!r}")
        if not len(self.actions) == len(self.passes) == len(self.frames_crc32) - 1:
            raise ConfigError(
                "expected as many passes as actions and one frame more, found "
                f"{len(self.actions)} actions, {len(self.passes)} passes, {len(self.frames_crc32)} frames"
            )
        if len(self.actions) > MAX_LOG_STEPS:
            raise ConfigError(f"expected at most {MAX_LOG_STEPS} actions, found {len(self.actions)}")
        for name, value in (("backend", self.backend), ("dtype", self.dtype)):
            if value is not None and not _NAME.fullmatch(value):
                raise ConfigError(f"{name}: expected 1 to 32 of a-z, 0-9 and -, found {value!r}")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed: expected a whole number of 64 bits, found {self.seed}")
        if not all(1 <= passes <= MAX_PASSES for passes in self.passes):
            raise ConfigError(f"passes: expected whole numbers from 1 to {MAX_PASSES}")

    @property
    def computed_by(self) -> str | None:
        """Back end and number format in words, or None if neither is known."""
        return " ".join(filter(None, (self.backend, self.dtype))) or None


class Trail:
    """What happened since the last reset, with the steps that were undone left out.

    12 bytes a step, so a game may go on for days.
    """

    def __init__(self, frame: Frame) -> None:
        self._actions = array("I")
        self._passes = array("I")
        self._frames_crc32 = array("I", [frame_crc32(frame)])

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, action: int, passes: int, frame: Frame) -> None:
        self._actions.append(action)
        self._passes.append(passes)
        self._frames_crc32.append(frame_crc32(frame))

    def drop_last(self) -> None:
        self._actions.pop()
        self._passes.pop()
        self._frames_crc32.pop()

    @property
    def last_action(self) -> int | None:
        return self._actions[-1] if self._actions else None

    @property
    def passes(self) -> tuple[int, ...]:
        return tuple(self._passes)

    @property
    def frames_crc32(self) -> tuple[int, ...]:
        return tuple(self._frames_crc32)

    def log(self, action_names: Sequence[str], **origin: Any) -> ActionLog:
        """The trail as a log; `origin` has the fields that a trail does not know."""
        return ActionLog(
            actions=tuple(action_names[index] for index in self._actions),
            passes=self.passes,
            frames_crc32=self.frames_crc32,
            **origin,
        )


def frame_crc32(frame: Frame) -> int:
    """A checksum of the frame's bytes in row order."""
    return zlib.crc32(frame.tobytes())


def write_log(path: Path, log: ActionLog) -> None:
    """Writes the log as JSON, whole or not at all."""
    text = json.dumps(to_dict(log))
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_log(path: Path) -> ActionLog:
    """Reads a log that somebody wrote, trusting nothing.

    Raises:
        InputError: not a readable file, not JSON, another schema, a key missing, unknown or of the wrong type
            or range, or more than 1,000,000 steps.
    """
    return _parse_log(path, read_text(path, _MAX_LOG_BYTES))


def read_actions(path: Path) -> ActionLog | str:
    """What a file of actions holds: a log if it begins with `{`, else a script, whatever its name.

    Raises:
        InputError: as `read_text`, `script_of` and `read_log`.
    """
    text = read_text(path, _MAX_LOG_BYTES)
    return _parse_log(path, text) if text.lstrip().startswith("{") else script_of(path, text)


def _parse_log(path: Path, text: str) -> ActionLog:
    try:
        return from_dict(ActionLog, parse_json(text), "action log")
    except (ValueError, ConfigError) as error:
        raise InputError(f"{path}: expected an action log, found: {str(error)[:400]}") from error
