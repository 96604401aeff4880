"""The libretro core in RetroArch: a window on a virtual screen, a keyboard, states, rewind, run-ahead."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.world import World

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "runtime" / "bundles" / "demo-logged" / "bundle.json"
CORE = ROOT / "out" / "native" / "genie_libretro.so"
TOOLS = ("retroarch", "Xvfb", "xdotool", "dbus-run-session")
PATIENCE_S = 90

MISSING = [tool for tool in TOOLS if shutil.which(tool) is None] + (
    []
    if CORE.exists() and BACKENDS["native"].is_installed
    else ["what `cmake --preset release && cmake --build --preset release` builds"]
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]

SETTINGS = {
    "video_driver": "gl",
    "video_scale": "8.0",
    "video_smooth": "false",
    "video_fullscreen": "false",
    "video_gpu_screenshot": "true",  # of the window: while it runs ahead there is no other
    "video_font_enable": "false",  # no text in it
    "menu_enable_widgets": "false",
    "video_vsync": "false",
    "audio_enable": "false",
    "menu_driver": "null",
    "input_driver": "x",
    "input_autodetect_enable": "false",
    "pause_nonactive": "false",
    "quit_press_twice": "false",
    "config_save_on_exit": "false",
    "network_cmd_enable": "true",
    "rewind_enable": "true",
    "rewind_buffer_size": "200000000",
    "run_ahead_enabled": "true",
    "run_ahead_frames": "1",
    "run_ahead_secondary_instance": "false",
}


class RetroArch:
    """A running RetroArch."""

    def __init__(self, folder: Path, display: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._display = display
        self._process = process
        self._commands = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._commands.connect(("127.0.0.1", port))
        self._commands.settimeout(0.5)

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert self._process.poll() is None, f"RetroArch ended: {self.log}"
            assert time.monotonic() < end, f"{what} did not come: {self.log}"
            time.sleep(0.05)

    def until_ended(self) -> None:
        assert self._process.wait(timeout=PATIENCE_S) == 0, self.log

    def is_playing(self) -> bool:
        try:
            self._commands.send(b"GET_STATUS")
            return self._commands.recv(256).startswith(b"GET_STATUS PLAYING")
        except OSError:
            return False

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """A key of the keyboard, held down meanwhile."""
        self._xdotool("keydown", key)
        yield
        self._xdotool("keyup", key)

    def _taps(self, key: str) -> bool:
        """Presses and lets go; RetroArch may have looked at neither, so it is to be done again and again."""
        with self.held(key):
            time.sleep(0.05)
        return True

    def _xdotool(self, *arguments: str) -> None:
        environment = os.environ | {"DISPLAY": self._display}
        subprocess.run(["xdotool", *arguments], env=environment, check=True, timeout=PATIENCE_S)

    def focus(self) -> None:
        self._xdotool("search", "--sync", "--name", "RetroArch", "windowfocus", "--sync")

    def picture(self) -> bytes:
        """What the window shows, RGB, a pixel for each of the world's."""
        shots = self.folder / "shots"
        self.until(lambda: self._taps("F8") and any(shots.glob("*.png")), "a screenshot")
        path = next(shots.glob("*.png"))
        self.until(lambda: path.read_bytes().endswith(b"IEND\xaeB`\x82"), "the end of a screenshot")
        with Image.open(path) as image:
            assert image.size == (512, 512)
            pixels = image.convert("RGB").resize((64, 64), Image.Resampling.NEAREST).tobytes()
        for left in shots.glob("*.png"):
            left.unlink()
        return pixels


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def screen() -> Iterator[str]:
    """A display without a monitor."""
    reads, writes = os.pipe()
    command = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "640x640x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writes], stderr=subprocess.DEVNULL)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        number = pipe.readline().strip()
    try:
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def retroarch(screen: str, tmp_path: Path) -> Iterator[RetroArch]:
    port = free_port()
    folders = {
        "screenshot_directory": tmp_path / "shots",
        "savestate_directory": tmp_path / "states",
        "core_options_path": tmp_path / "options.cfg",
        "libretro_directory": CORE.parent,  # cores of other folders are denied states
        "libretro_info_path": tmp_path / "info",
    }
    (tmp_path / "shots").mkdir()
    (tmp_path / "states").mkdir()
    (tmp_path / "info").mkdir()
    shutil.copy(ROOT / "runtime" / "native" / "libretro" / "genie_libretro.info", tmp_path / "info")
    settings = (
        SETTINGS | {name: str(path) for name, path in folders.items()} | {"network_cmd_port": str(port)}
    )
    config = tmp_path / "retroarch.cfg"
    config.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    environment = os.environ | {"DISPLAY": screen, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = ["dbus-run-session", "--", "retroarch", "--verbose", "--config", config, "-L", CORE, BUNDLE]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    running = RetroArch(tmp_path, screen, port, process)
    try:
        running.until(running.is_playing, "the world")
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def idle() -> list[bytes]:
    """The first 20 seconds of a world that nobody plays, by a session of Python."""
    world = World.load(BUNDLE.parent, backend="native", dtype="int8")
    session = world.session(seed=0)
    return [session.reset(world.prompt(0)).tobytes(), *(session.step("stay").tobytes() for _ in range(300))]


def test_a_world_is_played_in_retroarch(idle: list[bytes], retroarch: RetroArch) -> None:
    assert "world demo-logged: 6 actions" in retroarch.log
    retroarch.focus()
    start = retroarch.picture()
    assert start in idle

    with retroarch.held("Right"):
        retroarch.until(lambda: retroarch.picture() != start, "another frame")
        with retroarch.held("F2"):
            retroarch.until(lambda: any((retroarch.folder / "states").glob("*.state")), "a save state")
    assert retroarch.picture() not in idle

    with retroarch.held("r"):
        retroarch.until(lambda: retroarch.picture() == idle[0], "the first frame, rewound")
    assert retroarch.picture() in idle

    with retroarch.held("F4"):
        retroarch.until(lambda: retroarch.picture() not in idle, "the saved frame")
    with retroarch.held("Return"):  # Start
        retroarch.until(lambda: retroarch.picture() in idle, "the first frames again")

    assert "Initializing rewind buffer" in retroarch.log
    for fault in ("Run-Ahead unavailable", "[genie-rt] save state:", "[genie-rt] load state:"):
        assert fault not in retroarch.log
    with retroarch.held("Escape"):
        retroarch.until_ended()
