"""Draws what stands around the picture: the bar under it, passing news, the help page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genie_rt.runtime.play.player import Status

if TYPE_CHECKING:
    import pygame

BAR_HEIGHT = 64
MIN_AREA = (448, 320)
"""Width and height that the picture gets at least, so that bar and help have room."""

PAPER = (16, 18, 22)
_KEY, _KEY_LIT = (40, 44, 53), (94, 176, 255)
_ARROW, _ARROW_LIT = (118, 126, 139), (12, 20, 30)
_INK, _DIM, _RED, _AMBER = (232, 234, 238), (142, 150, 162), (255, 92, 92), (255, 190, 84)
_MARGIN, _KEY_SIZE = 14, 30

# Corners of an arrow in a box from -1 to 1, by the move it stands for.
_ARROWS = {
    "left": ((-0.5, 0.0), (0.35, -0.5), (0.35, 0.5)),
    "up": ((0.0, -0.5), (-0.5, 0.35), (0.5, 0.35)),
    "jump": ((0.0, -0.5), (-0.5, 0.35), (0.5, 0.35)),
    "down": ((0.0, 0.5), (-0.5, -0.35), (0.5, -0.35)),
    "right": ((0.5, 0.0), (-0.35, -0.5), (-0.35, 0.5)),
}


class Overlay:
    """Needs an initialised pygame.

    Args:
        moves: those that the world knows; each gets a key in the bar, which lights up while it is held.
    """

    def __init__(self, moves: Sequence[str]) -> None:
        import pygame

        self._moves = [move for move in _ARROWS if move in moves]
        self._large = pygame.font.Font(None, 26)
        self._small = pygame.font.Font(None, 20)

    def draw_bar(self, target: pygame.Surface, status: Status) -> None:
        """Fills the whole target, which is `BAR_HEIGHT` high."""
        target.fill(PAPER)
        left = self._draw_keys(target, status)
        first, second = 12, 36
        end = self._text(target, self._large, status.action or "ready", _INK, left, first)
        if status.mode:
            end = self._text(target, self._small, status.mode.upper(), _AMBER, end + 12, first + 4)
        if status.recording:
            self._draw_recording(target, end + 12, first)
        self._text(target, self._small, f"step {status.step}", _DIM, left, second)

        right = target.get_width() - _MARGIN
        rate = "" if status.fps is None else f"{status.fps:.0f} FPS"
        self._text(target, self._large, rate, _INK, right, first, from_right=True)
        passes = f"{status.passes} {'pass' if status.passes == 1 else 'passes'}"
        if status.p50_ms is None or status.p95_ms is None:
            speed = passes
        else:
            speed = f"p50 {_number(status.p50_ms)}  p95 {_number(status.p95_ms)} ms    {passes}"
        self._text(target, self._small, speed, _DIM, right, second, from_right=True)

    def draw_message(self, target: pygame.Surface, message: str, area: pygame.Rect) -> None:
        """A line of news at the lower edge of the picture's area; it passes after some seconds."""
        import pygame

        text = self._small.render(self._cut(message, area.width - 2 * _MARGIN), True, _INK)
        box = text.get_rect().inflate(20, 12)
        box.midbottom = (area.centerx, area.bottom - 10)
        pill = pygame.Surface(box.size, pygame.SRCALPHA)
        pygame.draw.rect(pill, (*PAPER, 225), pill.get_rect(), border_radius=box.height // 2)
        target.blit(pill, box)
        target.blit(text, text.get_rect(center=box.center))

    def draw_help(self, target: pygame.Surface, lines: Sequence[tuple[str, str]], area: pygame.Rect) -> None:
        """Dims the picture and lists keys, in columns; what a tiny window has no room for is left out."""
        import pygame

        veil = pygame.Surface(area.size, pygame.SRCALPHA)
        veil.fill((*PAPER, 232))
        target.blit(veil, area)
        pitch = 26
        per_column = max(1, min(len(lines), (area.height - 2 * _MARGIN) // pitch))
        num_columns = max(1, min(-(-len(lines) // per_column), area.width // 230))
        lines = lines[: per_column * num_columns]
        width = min(area.width - 2 * _MARGIN, 380 * num_columns) // num_columns
        key_width = min(170, width // 2)
        left = area.centerx - width * num_columns // 2
        top = area.centery - pitch * per_column // 2
        for index, (keys, meaning) in enumerate(lines):
            x = left + width * (index // per_column)
            y = top + pitch * (index % per_column)
            self._text(target, self._small, keys, _KEY_LIT, x + key_width - 16, y, from_right=True)
            self._text(target, self._small, meaning, _INK, x + key_width, y)

    def _draw_keys(self, target: pygame.Surface, status: Status) -> int:
        """Returns where the text may begin."""
        import pygame

        x, y = _MARGIN, (BAR_HEIGHT - _KEY_SIZE) // 2
        for move in self._moves:
            lit = move in status.moves
            box = pygame.Rect(x, y, _KEY_SIZE, _KEY_SIZE)
            pygame.draw.rect(target, _KEY_LIT if lit else _KEY, box, border_radius=6)
            radius = _KEY_SIZE * 0.42
            corners = [(box.centerx + dx * radius, box.centery + dy * radius) for dx, dy in _ARROWS[move]]
            pygame.draw.polygon(target, _ARROW_LIT if lit else _ARROW, corners)
            x += _KEY_SIZE + 4
        return x + 10 if self._moves else x

    def _draw_recording(self, target: pygame.Surface, x: int, y: int) -> None:
        import pygame

        pygame.draw.circle(target, _RED, (x + 5, y + 9), 5)
        self._text(target, self._small, "REC", _RED, x + 15, y + 4)

    def _text(
        self,
        target: pygame.Surface,
        font: pygame.font.Font,
        text: str,
        colour: tuple[int, int, int],
        x: int,
        y: int,
        from_right: bool = False,
    ) -> int:
        """Draws a line and returns where it ends."""
        image = font.render(text, True, colour)
        box = image.get_rect(topright=(x, y)) if from_right else image.get_rect(topleft=(x, y))
        target.blit(image, box)
        return box.right

    def _cut(self, text: str, width: int) -> str:
        """The text, with an ellipsis if it is too wide. A NUL, which no font can draw, ends it."""
        text = text.partition("\0")[0]
        if self._small.size(text)[0] <= width:
            return text
        while text and self._small.size(text + "...")[0] > width:
            text = text[:-1]
        return text + "..."


def _number(value_ms: float) -> str:
    """Three digits, so that the bar does not jump."""
    return f"{value_ms:.1f}" if value_ms < 100 else f"{value_ms:.0f}"
