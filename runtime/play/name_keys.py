"""Naming learned actions with keys: one code after the other plays, and gets the key that is pressed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.play.playable import Frame

if TYPE_CHECKING:
    from genie_rt.runtime.world import World

ROUND = 12
"""Steps that a code is held for before it begins again from another start."""

PAUSE = 3
"""Steps at the start of a round in which the first picture stands still."""

MOVES = {
    "left": "left",
    "a": "left",
    "right": "right",
    "d": "right",
    "up": "up",
    "w": "up",
    "down": "down",
    "s": "down",
    "space": "jump",
    "return": "stay",
}
"""pygame's names of the keys that may be given, and what a code on them is called."""

ORDER = ("left", "right", "up", "down", "jump", "stay")
SKIP, BACK, QUIT = "tab", "backspace", "escape"


class KeyNaming:
    """The codes of a world in turn. `names` grows as keys are pressed.

    Args:
        world: with at least one prompt.
        seed: of the sampling.
    """

    def __init__(self, world: World, *, seed: int = 0) -> None:
        self.world = world
        self.codes = sorted(set(world.bundle.action_codes))
        self.place = 0
        """Index in `codes` of the code that plays."""
        self.names: dict[str, int] = {}
        """Code of each name so far."""
        self._session = world.session(seed=seed)
        self._round = self._at = 0
        self.frame: Frame = self._begin()

    @property
    def done(self) -> bool:
        return self.place >= len(self.codes)

    def tick(self) -> Frame:
        """One frame on."""
        if self.done:
            return self.frame
        self._at += 1
        if self._at >= ROUND:
            self._round += 1
            self.frame = self._begin()
        elif self._at > PAUSE:
            self.frame = self._session.step(self.world.bundle.action_codes.index(self.codes[self.place]))
        return self.frame

    def press(self, keys: frozenset[str]) -> None:
        """Keys were held together and let go: the code is named after them, skipped, or the last one undone.

        Keys without a meaning here do nothing. A name that another code had goes to this one.
        """
        if self.done and BACK not in keys:
            return  # a key that came with the last one
        if QUIT in keys:
            self.place = len(self.codes)
        elif BACK in keys:
            self.place = max(0, self.place - 1)
            again = self.codes[self.place]
            self.names = {name: code for name, code in self.names.items() if code != again}
        elif SKIP in keys:
            self.place += 1
        elif moves := {MOVES[key] for key in keys if key in MOVES}:
            self.names["+".join(sorted(moves, key=ORDER.index))] = self.codes[self.place]
            self.place += 1
        else:
            return
        if not self.done:
            self._round = 0
            self.frame = self._begin()

    def _begin(self) -> Frame:
        self._at = 0
        return self._session.reset(self.world.prompt(self._round % len(self.world.prompts)))


def name_in_window(naming: KeyNaming, *, title: str, fps: float = 10.0, allow_hidden: bool = False) -> None:
    """Open a window and name codes until all have been seen, or it is closed.

    Args:
        fps: steps per second.
        allow_hidden: go on where SDL draws into memory because there is no screen.

    Raises:
        UnsupportedError: pygame is missing, or there is no screen.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # else it prints an advertisement
    try:
        import pygame
    except ImportError as error:
        raise UnsupportedError(f"--keys needs pygame-ce: {install_hint('play')}") from error
    pygame.display.init()
    pygame.font.init()
    try:
        if pygame.display.get_driver() in ("dummy", "offscreen") and not allow_hidden:
            raise UnsupportedError("--keys needs a screen, found none; --names needs none")
        height, width = naming.frame.shape[:2]
        scale = max(1, 512 // min(height, width))
        surface = pygame.display.set_mode((max(560, width * scale), height * scale + 64))
        pygame.display.set_caption(title)
        font, clock, held = pygame.font.Font(None, 24), pygame.time.Clock(), set[str]()
        total = len(naming.codes)
        while not naming.done:
            for event in pygame.event.get():
                if event.type == pygame.QUIT:
                    naming.press(frozenset({QUIT}))
                elif event.type == pygame.KEYDOWN:
                    held.add(pygame.key.name(event.key))
                elif event.type == pygame.KEYUP and held:
                    naming.press(frozenset(held))
                    held.clear()
            surface.fill((16, 18, 22))
            picture = pygame.image.frombuffer(naming.tick().tobytes(), (width, height), "RGB")
            surface.blit(pygame.transform.scale(picture, (width * scale, height * scale)), (0, 0))
            lines = (
                f"code {naming.place + 1} of {total}: press its key (arrows, space, Enter for stay)",
                "Tab: no key   Backspace: back   Esc: done",
            )
            for row, text in enumerate(lines):
                place = (10, height * scale + 10 + 24 * row)
                surface.blit(font.render(text, True, (232, 234, 238)), place)
            pygame.display.flip()
            clock.tick(fps)
    finally:
        pygame.quit()
