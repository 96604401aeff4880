"""The libretro core, played by a frontend without a window: buttons in, frames out, states back and forth."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.world import World

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "runtime" / "bundles" / "demo-logged"
CORE = ROOT / "out" / "native" / "genie_libretro.so"

libretro = pytest.importorskip("libretro", reason="needs libretro.py, of the extra dev")
if not CORE.exists():
    pytest.skip(
        f"{CORE} is not built: cmake --preset release && cmake --build --preset release",
        allow_module_level=True,
    )

from libretro.api import JoypadState, retro_game_info  # noqa: E402
from libretro.drivers import ArrayVideoDriver, DictOptionDriver, LoggerMessageInterface  # noqa: E402

NOTHING = JoypadState()
LEFT, RIGHT = JoypadState(left=True), JoypadState(right=True)
JUMP, RIGHT_JUMP = JoypadState(b=True), JoypadState(right=True, b=True)
START, SELECT = JoypadState(start=True), JoypadState(select=True)

PERIOD = 4
"""Turns of 1/60 s for a step of the world, at the 15 steps per second that are the default."""


class Log:
    """What the core logs, as text."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, text: bytes, *arguments: object) -> None:
        self.lines.append(text.decode())


class Console:
    """A frontend with the core in it."""

    def __init__(self, session: Any, log: Log, held: list[JoypadState]) -> None:
        self._session = session
        self._held = held
        self.core = session.core
        self.log = log

    @property
    def info(self) -> Any:
        return self.core.get_system_av_info()

    @property
    def messages(self) -> list[str]:
        return [message.msg.decode() for message in self._session.message.message_exts]

    @property
    def picture(self) -> tuple[int, int, bytes]:
        """Width, height and RGBA bytes of what the core drew last."""
        shot = self._session.video.screenshot()
        return shot.width, shot.height, bytes(shot.data)

    def turn(self, buttons: JoypadState = NOTHING) -> bytes:
        """A sixtieth of a second. Returns the picture's bytes."""
        self._held[0] = buttons
        self._session.run()
        return self.picture[2]

    def play(self, turns: Sequence[JoypadState]) -> list[bytes]:
        return [self.turn(buttons) for buttons in turns]

    def save(self) -> bytes:
        state = bytearray(self.core.serialize_size())
        assert self.core.serialize(state)
        return bytes(state)

    def load(self, state: bytes) -> bool:
        return bool(self.core.unserialize(state))

    def set_option(self, key: str, value: str) -> None:
        self._session.options.variables[key.encode()] = value.encode()


@contextmanager
def console(bundle: Path = BUNDLE, **options: str) -> Iterator[Console]:
    held, log = [NOTHING], Log()

    def pad() -> Iterator[JoypadState]:
        while True:
            yield held[0]

    builder = (
        libretro.SessionBuilder.defaults(str(CORE))
        .with_content(str(bundle / "bundle.json"))
        .with_input(pad)
        .with_video(ArrayVideoDriver)
        .with_log(log)
        .with_message(LoggerMessageInterface(1))
        .with_options(DictOptionDriver(2, True, {f"genie_{key}": value for key, value in options.items()}))
    )
    with builder.build() as session:
        yield Console(session, log, held)


def script(num_turns: int) -> list[JoypadState]:
    """Buttons that change at all places of a period."""
    kinds = [RIGHT, RIGHT, RIGHT_JUMP, NOTHING, LEFT, JUMP, RIGHT_JUMP]
    return [kinds[turn // 7 % len(kinds)] for turn in range(num_turns)]


@pytest.mark.skipif(not BACKENDS["native"].is_installed, reason="the C library is not built: make native")
def test_frames_are_those_of_a_python_session() -> None:
    world = World.load(BUNDLE, backend="native", dtype="int8")
    session = world.session(seed=2)
    start = session.reset(world.prompt(1))
    actions = ["right"] * 6 + ["right+jump"] * 4 + ["left"] * 3 + ["jump"] + ["stay"] * 2
    wanted = [start, *(session.step(action) for action in actions)]

    buttons = {"left": LEFT, "right": RIGHT, "jump": JUMP, "right+jump": RIGHT_JUMP, "stay": NOTHING}
    with console(fps="60", seed="2", prompt="1") as played:
        played.core.reset()
        frames = [played.turn(buttons[action]) for action in actions]
    for found, frame in zip(frames, wanted[1:], strict=True):
        rgba = np.frombuffer(found, np.uint8).reshape(64, 64, 4)
        np.testing.assert_array_equal(rgba[:, :, :3], frame)


def test_the_screen_has_the_size_of_the_world_s_frames() -> None:
    with console() as played:
        geometry, timing = played.info.geometry, played.info.timing
        assert (geometry.base_width, geometry.base_height, geometry.aspect_ratio) == (64, 64, 1.0)
        assert (geometry.max_width, geometry.max_height) == (512, 512)
        assert timing.fps == 60
        played.turn()
        width, height, pixels = played.picture
        assert (width, height, len(pixels)) == (64, 64, 64 * 64 * 4)


def test_a_world_steps_at_its_own_rate_and_frames_repeat_between() -> None:
    with console() as played:
        frames = played.play([RIGHT] * PERIOD * 8)
    shown = [frames[turn : turn + PERIOD] for turn in range(PERIOD - 1, len(frames) - PERIOD, PERIOD)]
    assert all(len(set(repeats)) == 1 for repeats in shown)
    assert len({repeats[0] for repeats in shown}) == len(shown)


@pytest.mark.parametrize(("fps", "period"), [("10", 6), ("60", 1)])
def test_the_rate_is_an_option(fps: str, period: int) -> None:
    with console(fps=fps) as played:
        frames = played.play([RIGHT] * 24)
    changes = [turn for turn in range(1, 24) if frames[turn] != frames[turn - 1]]
    assert changes == list(range(max(1, period - 1), 24, period))


def test_what_is_pressed_decides_the_frames() -> None:
    endings = set()
    for buttons in (NOTHING, LEFT, RIGHT, JUMP, RIGHT_JUMP):
        with console() as played:
            endings.add(played.play([buttons] * 40)[-1])
    assert len(endings) == 5


def test_buttons_that_cancel_each_other_mean_nothing() -> None:
    with console() as played:
        still = played.play([NOTHING] * 40)
    with console() as played:
        assert played.play([JoypadState(left=True, right=True)] * 40) == still


def test_a_press_between_two_steps_is_played() -> None:
    with console() as played:
        still = played.play([NOTHING] * 24)
    tapped = [NOTHING] * 24
    tapped[PERIOD] = JUMP  # the steps before and after are at PERIOD - 1 and 2 * PERIOD - 1
    with console() as played:
        frames = played.play(tapped)
    assert frames[: 2 * PERIOD - 1] == still[: 2 * PERIOD - 1]
    assert frames[2 * PERIOD - 1] != still[2 * PERIOD - 1]


def test_a_state_brings_the_same_frames_back() -> None:
    with console() as played:
        played.play(script(45))
        state = played.save()
        first = played.play(script(52))
        end = played.save()
        played.play([LEFT] * 31)
        assert played.load(state)
        assert played.save() == state
        assert played.play(script(52)) == first
        assert played.save() == end
    with console() as another:
        another.play([LEFT] * 13)
        assert another.load(state)
        assert another.play(script(52)) == first


def test_states_have_one_size() -> None:
    with console() as played:
        size = played.core.serialize_size()
        sizes = {size}
        for buttons in script(50):
            played.turn(buttons)
            sizes.add(played.core.serialize_size())
            played.save()
        assert sizes == {size}
        assert not played.core.serialize(bytearray(size - 1))


def test_rewinding_shows_the_frames_backwards() -> None:
    with console() as played:
        frames, states = [], []
        for buttons in script(60):
            states.append(played.save())
            frames.append(played.turn(buttons))
        for turn in range(59, 20, -1):
            assert played.load(states[turn])
            assert played.turn(script(60)[turn]) == frames[turn]


@pytest.mark.parametrize("ahead", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_running_ahead_shows_what_comes(ahead: int) -> None:
    turns = script(36)
    with console() as played:
        frames = played.play(turns)
    with console() as played:
        for turn in range(36 - ahead):
            played.turn(turns[turn])
            state = played.save()
            later = played.play(turns[turn + 1 : turn + 1 + ahead])
            assert later == frames[turn + 1 : turn + 1 + ahead]
            assert played.load(state)


def test_a_broken_state_is_refused_and_play_goes_on() -> None:
    with console() as played:
        played.play(script(30))
        state = played.save()
        frames = played.play(script(30))
        assert played.load(state)
        middle = len(state) // 3
        for broken in (
            b"",
            state[:39],
            b"X" + state[1:],
            state[:8] + b"\xff" * 8 + state[16:],
            state[:24] + b"\xff" * 4 + state[28:],
            state[: len(state) // 2],
            state[:middle]
            + bytes(byte ^ 0xFF for byte in state[middle : middle + 64])
            + state[middle + 64 :],
        ):
            assert not played.load(broken)
        assert any("expected" in line for line in played.log.lines)
        assert played.play(script(30)) == frames


def test_start_begins_again_and_select_takes_the_next_picture() -> None:
    with console() as played:
        first = played.turn()
        played.play([RIGHT] * 30)
        assert played.turn(START) == first
        other = played.turn(SELECT)
        assert other != first
        assert any("(2 of" in message for message in played.messages)
        played.turn()
        assert played.turn(JoypadState(l=True)) == first
        played.core.reset()
        assert played.turn() == first


def test_actions_without_a_name_of_a_key_are_chosen_and_played() -> None:
    def after(*turns: JoypadState) -> tuple[bytes, list[str]]:
        with console(BUNDLE.parent / "demo", fps="60") as played:
            played.play(turns)
            return played.play([JoypadState(x=True)] * 12)[-1], played.messages

    first, messages = after(NOTHING, NOTHING)
    assert messages == []
    second, messages = after(JoypadState(r=True), NOTHING)
    assert messages == ["X, Y: latent-2 (2 of 3)"]
    back, messages = after(JoypadState(l=True), NOTHING)
    assert messages == ["X, Y: latent-3 (3 of 3)"]
    assert len({first, second, back}) == 3


def test_seed_prompt_and_plan_are_options() -> None:
    def played_with(**options: str) -> list[bytes]:
        with console(**options) as played:
            return played.play(script(60))

    plain = played_with()
    assert played_with(seed="0", prompt="0", plan="default") == plain
    assert played_with(seed="3") != plain
    assert played_with(prompt="1")[0] != plain[0]
    assert played_with(plan="fast") != plain


def test_threads_do_not_change_frames_in_int8() -> None:
    def played_with(threads: str) -> list[bytes]:
        with console(threads=threads, precision="int8") as played:
            return played.play(script(40))

    assert played_with("1") == played_with("2") == played_with("3")


def test_a_pixel_is_drawn_larger() -> None:
    with console() as played:
        plain = played.turn()
    with console(scale="3") as played:
        played.turn()
        width, height, pixels = played.picture
        assert (width, height) == (192, 192)
        for y, x in [(0, 0), (17, 40), (63, 63)]:
            small = plain[4 * (64 * y + x) :][:4]
            for dy, dx in [(0, 0), (1, 2), (2, 2)]:
                assert pixels[4 * (192 * (3 * y + dy) + 3 * x + dx) :][:4] == small


def test_options_may_change_while_it_plays() -> None:
    with console() as played:
        played.play(script(20))
        played.set_option("genie_scale", "2")
        played.set_option("genie_fps", "60")
        frames = played.play([RIGHT] * 10)
        assert played.picture[:2] == (128, 128)
        assert len(set(frames)) == 10


def test_old_frontends_get_their_options_too() -> None:
    held, log = [NOTHING], Log()
    builder = (
        libretro.SessionBuilder.defaults(str(CORE))
        .with_content(str(BUNDLE / "bundle.json"))
        .with_video(ArrayVideoDriver)
        .with_log(log)
        .with_message(LoggerMessageInterface(0))
        .with_options(DictOptionDriver(0, False, {"genie_fps": "60", "genie_plan": "fast"}))
    )
    with builder.build() as session:
        played = Console(session, log, held)
        values = {key.decode() for key in session.options.definitions}
        assert {"genie_plan", "genie_prompt", "genie_seed", "genie_fps", "genie_scale"} <= values
        assert len(set(played.play([NOTHING] * 6))) > 3


def test_a_folder_is_content_too() -> None:
    with console() as played:
        frames = played.play(script(12))
        played.core.unload_game()
        assert played.core.load_game(retro_game_info(str(BUNDLE).encode(), None, 0, None))
        assert played.play(script(12)) == frames


def test_the_frontend_learns_what_buttons_do() -> None:
    with console() as played:
        told = {entry.id: entry.description.decode() for entry in played._session.input_descriptors}
    assert (told[6], told[7], told[0], told[8]) == ("left", "right", "jump", "jump")
    assert told[4] == "jump"  # up, in a world without "up"
    assert 5 not in told


def test_content_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    log = Log()
    builder = (
        libretro.SessionBuilder.defaults(str(CORE)).with_content(str(tmp_path / "bundle.json")).with_log(log)
    )
    with pytest.raises(RuntimeError, match="Failed to load"), builder.build():
        pass
    assert any("cannot load the bundle" in line for line in log.lines)


def test_the_core_exports_nothing_else() -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", CORE], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    assert {"retro_run", "retro_serialize", "retro_load_game"} <= names
    assert {name for name in names if not name.startswith("retro_")} == set()
