"""The window: pygame's events to the player, the player's frame to the screen. Its rules: `player.py`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.interrupt import StopRequest
from genie_rt.runtime.play.overlay import BAR_HEIGHT, MIN_AREA, PAPER, Overlay
from genie_rt.runtime.play.pace import Pacer
from genie_rt.runtime.play.playable import Frame
from genie_rt.runtime.play.player import Player

if TYPE_CHECKING:
    import pygame

_HIDDEN_DRIVERS = ("dummy", "offscreen")
_PAUSED_WAIT_MS = 100  # how often a paused window looks whether a message has to go


def run_window(
    player: Player,
    *,
    title: str,
    fps: float,
    scale: int | None = None,
    allow_hidden: bool = False,
) -> int | None:
    """Opens the window and plays until the player quits, or Ctrl-C. Returns when all clips are on disk.

    Args:
        player: the game.
        title: of the window.
        fps: the rate that steps come at, where the model is fast enough.
        scale: enlargement that the window opens with; None fits the screen.
        allow_hidden: goes on where SDL draws into memory because there is no screen.

    Returns:
        The signal that ended the game, such as SIGINT; None where the player quit.

    Raises:
        UnsupportedError: pygame is missing, or there is no screen.
    """
    _require_pygame()
    import pygame

    with StopRequest() as stop:
        try:
            window = Window(player, title=title, scale=scale, allow_hidden=allow_hidden)
            player.greet()
            pacer = Pacer(fps)
            window.draw()
            while not player.quit and stop.signum is None:
                player.idle()
                window.handle_events(pacer.wait_s() if player.wants_tick else None)
                if player.wants_tick and pacer.wait_s() == 0 and not player.quit:
                    pacer.start_step()
                    player.tick()
                if player.dirty:
                    window.draw()
        finally:
            pygame.quit()
            player.stop_recording()
            player.recorder.join()
    return stop.signum


class Window:
    """One resizable window. The picture stands at the largest whole scale that fits, over the bar.

    Args:
        player: the game.
        title: of the window.
        scale: enlargement to open with; None takes the largest whose short side is 640 pixels or less and
            that fits the screen.
        allow_hidden: as in `run_window`.
    """

    def __init__(self, player: Player, *, title: str, scale: int | None, allow_hidden: bool) -> None:
        import pygame

        try:
            pygame.display.init()
            pygame.font.init()
            if pygame.display.get_driver() in _HIDDEN_DRIVERS and not allow_hidden:
                raise pygame.error("no screen")
            height, width = player.loop.frame.shape[:2]
            if scale is None:
                scale = _opening_scale(height, width, pygame.display.get_desktop_sizes()[0])
            size = (max(MIN_AREA[0], width * scale), max(MIN_AREA[1], height * scale) + BAR_HEIGHT)
            self.surface = pygame.display.set_mode(size, pygame.RESIZABLE)
        except pygame.error as error:
            raise UnsupportedError(
                f"a window needs a screen, found: {error}; "
                "`genie-rt play --headless --out clip.gif` needs none"
            ) from error
        pygame.display.set_caption(title)
        pygame.event.set_blocked(None)
        pygame.event.set_allowed(
            [
                pygame.QUIT,
                pygame.KEYDOWN,
                pygame.KEYUP,
                pygame.WINDOWFOCUSLOST,
                pygame.WINDOWEXPOSED,
                pygame.WINDOWSIZECHANGED,
            ]
        )
        self._player = player
        self._overlay = Overlay(player.keymap.moves)

    def handle_events(self, wait_s: float | None) -> None:
        """Waits for an event, at most `wait_s` (None: until something happens), and handles all that came."""
        import pygame

        wait_ms = _PAUSED_WAIT_MS if wait_s is None else int(wait_s * 1000)
        events = pygame.event.get()
        if not events and wait_ms > 0:
            events = [pygame.event.wait(wait_ms), *pygame.event.get()]
        for event in events:
            self._handle(event)

    def draw(self) -> None:
        """Shows the player's frame, bar, news and help."""
        import pygame

        player, surface = self._player, self.surface
        surface.fill(PAPER)
        area = pygame.Rect(0, 0, surface.get_width(), max(1, surface.get_height() - BAR_HEIGHT))
        picture = _picture(player.loop.frame, area)
        surface.blit(picture, picture.get_rect(center=area.center))
        status = player.status()
        self._overlay.draw_bar(surface.subsurface(self._bar()), status)
        if player.show_help:
            self._overlay.draw_help(surface, player.help_lines(), area)
        if status.message:
            self._overlay.draw_message(surface, status.message, area)
        pygame.display.flip()
        player.dirty = False

    def _bar(self) -> pygame.Rect:
        bar = self.surface.get_rect()
        bar.top = max(0, bar.bottom - BAR_HEIGHT)
        return bar.clip(self.surface.get_rect())

    def _handle(self, event: pygame.event.Event) -> None:
        import pygame

        player = self._player
        if event.type == pygame.QUIT:
            player.quit = True
        elif event.type == pygame.KEYDOWN:
            if event.key == pygame.K_F11:
                pygame.display.toggle_fullscreen()
            else:
                player.press(_key_name(event.key))
        elif event.type == pygame.KEYUP:
            player.release(_key_name(event.key))
        elif event.type == pygame.WINDOWFOCUSLOST:
            player.release_all()
        elif event.type in (pygame.WINDOWEXPOSED, pygame.WINDOWSIZECHANGED):
            self.surface = pygame.display.get_surface() or self.surface
            player.dirty = True


def _require_pygame() -> None:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # else it prints an advertisement
    try:
        import pygame  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            f"the window needs pygame-ce, which is missing: {install_hint('play')}, or play --headless"
        ) from error


def _key_name(key: int) -> str:
    """pygame's name of a key; the keypad's are those of the main block."""
    import pygame

    name = pygame.key.name(key)
    return name[1:-1] if len(name) == 3 and name[0] == "[" and name[2] == "]" else name


def _opening_scale(height: int, width: int, desktop: tuple[int, int]) -> int:
    """The largest whole scale with the short side within 640 pixels and the window within the screen."""
    fits = min((desktop[0] - 40) // width, (desktop[1] - BAR_HEIGHT - 120) // height)
    return max(1, min(fits, 640 // min(height, width)))


def _picture(frame: Frame, area: pygame.Rect) -> pygame.Surface:
    """The frame at the largest whole scale that fits the area, or shrunk if none does."""
    import pygame

    height, width = frame.shape[:2]
    small = pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
    scale = min(area.width // width, area.height // height)
    if scale >= 1:
        return pygame.transform.scale(small, (width * scale, height * scale))
    shrink = min(area.width / width, area.height / height)
    return pygame.transform.scale(small, (max(1, int(width * shrink)), max(1, int(height * shrink))))
