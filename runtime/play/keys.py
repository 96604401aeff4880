"""Which action the held keys mean."""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

IDLE_WORDS = {"stay", "noop", "none", "idle", "null", "wait", "still"}
"""Words that mean to do nothing."""

_KEYS_OF_MOVE = {
    "left": ("left", "a"),
    "right": ("right", "d"),
    "up": ("up", "w"),
    "down": ("down", "s"),
    "jump": ("space", "up", "w"),
}
_DIGITS = "0123456789"


class KeyMap:
    """Held keys to an action of one world. Pure: the same keys always mean the same action.

    Where the world's names are made of left, right, up, down and jump (`"left+jump"`, `"jump_left"`), arrows,
    WASD and space play it. Any other world is played with digits, each an action's index as in `--actions`:
    0 is the first.

    Args:
        action_names: the world's action names; `action` returns an index into them.
        default_action: the name that is meant when nothing is held. None: one that reads like "stay" or
            "noop", else the first.
    """

    def __init__(self, action_names: Sequence[str], default_action: str | None = None) -> None:
        by_moves: dict[frozenset[str], int] = {}
        for index, name in enumerate(action_names):
            words = frozenset(re.split(r"[^a-z0-9]+", name.casefold())) - IDLE_WORDS - {""}
            if words <= _KEYS_OF_MOVE.keys():
                by_moves.setdefault(words, index)
        self.idle: int = by_moves.get(frozenset(), 0)
        if default_action is not None:
            self.idle = action_names.index(default_action)
        self.moves: tuple[str, ...] = tuple(
            move for move in _KEYS_OF_MOVE if any(move in words for words in by_moves)
        )
        """The moves that the world knows; empty if it is played with digits."""
        self._by_moves = by_moves
        self._num_actions = len(action_names)

    @property
    def uses_digits(self) -> bool:
        return not self.moves

    @property
    def keys(self) -> frozenset[str]:
        """Every key that plays an action."""
        if self.uses_digits:
            return frozenset(_DIGITS[: self._num_actions])
        return frozenset(key for move in self.moves for key in _KEYS_OF_MOVE[move])

    def moves_of(self, held: AbstractSet[str]) -> frozenset[str]:
        """The moves that the held keys ask for; left and right, or up and down, cancel each other.

        Up is a jump in worlds that know no "up".
        """
        moves = {move for move in self.moves if held & set(_KEYS_OF_MOVE[move])}
        if "up" in self.moves and "space" not in held:
            moves.discard("jump")
        for pair in ({"left", "right"}, {"up", "down"}):
            if pair <= moves:
                moves -= pair
        return frozenset(moves)

    def action(self, held: AbstractSet[str]) -> int:
        """The index of the action that the held keys mean; the idle action if they mean none.

        Keys carry pygame's names: `"left"`, `"a"`, `"space"`, `"1"`. A combination that the world lacks
        becomes the largest part of it that the world has, a jump first.
        """
        if self.uses_digits:
            pressed = [_DIGITS.index(key) for key in held if key in _DIGITS]
            return min((index for index in pressed if index < self._num_actions), default=self.idle)
        wanted = self.moves_of(held)
        possible = [words for words in self._by_moves if words and words <= wanted]
        if not possible:
            return self.idle
        return self._by_moves[max(possible, key=lambda words: (len(words), "jump" in words, sorted(words)))]
