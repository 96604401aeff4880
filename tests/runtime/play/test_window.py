"""The window turns pygame's events into the player's keys, and shows frame and bar without covering one
with the other."""

import re
import subprocess
import sys

import numpy as np
import pytest

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.play import window as module
from genie_rt.runtime.play.overlay import BAR_HEIGHT, MIN_AREA

pygame = pytest.importorskip("pygame", reason="the window needs pygame-ce")


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.quit()


@pytest.fixture
def window(player):
    return module.Window(player, title="test", scale=8, allow_hidden=True)


def post(kind: int, **values) -> None:
    pygame.event.post(pygame.event.Event(kind, **values))


def pixels(surface) -> np.ndarray:
    return pygame.surfarray.array3d(surface).swapaxes(0, 1)


def test_frame_is_shown_pixel_by_pixel_over_the_bar(window, player) -> None:
    player.tick()
    window.draw()
    shown = pixels(window.surface)
    assert shown.shape == (512 + BAR_HEIGHT, 512, 3)
    np.testing.assert_array_equal(shown[:512], player.loop.frame.repeat(8, 0).repeat(8, 1))
    bar = shown[512:]
    assert bar.max() > 200
    assert not player.dirty


def test_bar_changes_with_the_keys(window, player) -> None:
    window.draw()
    before = pixels(window.surface)[512:].copy()
    player.press("right")
    window.draw()
    assert (pixels(window.surface)[512:] != before).any()


@pytest.mark.parametrize("size", [(700, 700), (300, 200), (1, 1), (2000, 90)])
def test_any_window_size_can_be_drawn(window, player, size) -> None:
    player.press("h")
    player.press("]")
    window.surface = pygame.display.set_mode(size, pygame.RESIZABLE)
    window.draw()


def test_resized_window_keeps_whole_scales(window, player) -> None:
    window.surface = pygame.display.set_mode((64 * 3 + 40, 64 * 3 + BAR_HEIGHT + 9))
    window.draw()
    shown = pixels(window.surface)[4 : 4 + 192, 20 : 20 + 192]
    np.testing.assert_array_equal(shown, player.loop.frame.repeat(3, 0).repeat(3, 1))


def test_keys_arrive(window, player, session) -> None:
    post(pygame.KEYDOWN, key=pygame.K_d)
    post(pygame.KEYDOWN, key=pygame.K_SPACE)
    post(pygame.KEYUP, key=pygame.K_SPACE)
    window.handle_events(0)
    player.tick()
    player.tick()
    assert session.steps == [5, 1]
    post(pygame.WINDOWFOCUSLOST)
    window.handle_events(0)
    player.tick()
    assert session.steps == [5, 1, 2]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (pygame.K_LEFT, "left"),
        (pygame.K_SPACE, "space"),
        (pygame.K_w, "w"),
        (pygame.K_1, "1"),
        (pygame.K_KP1, "1"),
        (pygame.K_LEFTBRACKET, "["),
        (pygame.K_RIGHTBRACKET, "]"),
        (pygame.K_PERIOD, "."),
        (pygame.K_TAB, "tab"),
        (pygame.K_BACKSPACE, "backspace"),
        (pygame.K_ESCAPE, "escape"),
        (pygame.K_F12, "f12"),
        (pygame.K_PAUSE, "break"),
    ],
)
def test_key_names_are_those_that_the_player_knows(window, key, name) -> None:
    assert module._key_name(key).casefold() == name


def test_waiting_ends_with_the_first_event(window, player) -> None:
    post(pygame.KEYDOWN, key=pygame.K_p)
    window.handle_events(None)
    assert player.loop.paused


def test_game_runs_until_escape(player, session, monkeypatch) -> None:
    def tick(once=player.tick):
        once()
        if len(session.steps) == 3:
            post(pygame.KEYDOWN, key=pygame.K_ESCAPE)

    monkeypatch.setattr(player, "tick", tick)
    module.run_window(player, title="test", fps=200, allow_hidden=True)
    assert session.steps == [2, 2, 2]
    assert session.num_commits == 4  # the idle moment after each frame
    assert not pygame.display.get_init()


def test_closing_the_window_saves_the_recording(player, session, monkeypatch, tmp_path) -> None:
    def tick(once=player.tick):
        once()
        post(pygame.QUIT)

    monkeypatch.setattr(player, "tick", tick)
    player.start_recording(tmp_path / "whole.gif")
    module.run_window(player, title="test", fps=200, allow_hidden=True)
    assert (tmp_path / "whole.gif").exists()
    assert player.recorder.news() == [f"saved {tmp_path / 'whole.gif'}"]


def test_failing_step_closes_the_window(player, monkeypatch) -> None:
    def fail():
        raise RuntimeError("NaN in layer 3")

    monkeypatch.setattr(player, "tick", fail)
    with pytest.raises(RuntimeError, match="layer 3"):
        module.run_window(player, title="test", fps=200, allow_hidden=True)
    assert not pygame.display.get_init()


def test_no_screen_points_to_headless(player) -> None:
    with pytest.raises(UnsupportedError, match="--headless"):
        module.run_window(player, title="test", fps=15)


def test_missing_pygame_says_which_extra(player, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("play"))):
        module.run_window(player, title="test", fps=15)


@pytest.mark.parametrize(
    ("height", "width", "desktop", "expected"),
    [
        (64, 64, (1920, 1080), 10),
        (90, 160, (1920, 1080), 7),
        (360, 640, (1920, 1080), 1),
        (64, 64, (800, 600), 6),
        (2000, 2000, (800, 600), 1),
    ],
)
def test_window_opens_as_large_as_fits(height, width, desktop, expected) -> None:
    assert module._opening_scale(height, width, desktop) == expected


def test_narrow_worlds_still_have_room_for_the_bar(player) -> None:
    window = module.Window(player, title="test", scale=1, allow_hidden=True)
    assert window.surface.get_size() == (MIN_AREA[0], MIN_AREA[1] + BAR_HEIGHT)
    window.draw()


def test_importing_the_window_does_not_import_pygame() -> None:
    code = (
        "import sys, genie_rt.runtime.play.window, genie_rt.runtime.play.commands;"
        "print(sorted({'pygame', 'av', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
