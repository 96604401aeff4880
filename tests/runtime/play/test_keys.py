"""Held keys mean the action that a player expects, in every kind of world."""

import itertools

import pytest

from genie_rt.runtime.play.keys import KeyMap
from genie_rt.runtime.play.script import expand

NAMES = ("left", "right", "stay", "jump", "left+jump", "right+jump")


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((), "stay"),
        (("left",), "left"),
        (("d",), "right"),
        (("space",), "jump"),
        (("up",), "jump"),
        (("w", "a"), "left+jump"),
        (("right", "space"), "right+jump"),
        (("left", "right"), "stay"),
        (("a", "right", "space"), "jump"),
        (("down",), "stay"),
        (("q", "1"), "stay"),
    ],
)
def test_coinrun(held: tuple[str, ...], expected: str) -> None:
    assert NAMES[KeyMap(NAMES).action(set(held))] == expected


def test_order_of_names_and_of_keys_does_not_matter() -> None:
    for names in itertools.permutations(NAMES, len(NAMES)):
        assert names[KeyMap(names).action({"right", "up"})] == "right+jump"


def test_other_spellings_of_the_same_moves() -> None:
    names = ("NOOP", "JUMP_RIGHT", "Right", "up")
    keymap = KeyMap(names)
    assert names[keymap.action(set())] == "NOOP"
    assert names[keymap.action({"d", "space"})] == "JUMP_RIGHT"
    assert names[keymap.action({"w"})] == "up"


def test_missing_combination_becomes_its_largest_part() -> None:
    names = ("stay", "left", "right", "jump")
    assert names[KeyMap(names).action({"right", "space"})] == "jump"
    assert KeyMap(("left", "right")).action({"space", "right"}) == 1


def test_other_worlds_are_played_with_digits() -> None:
    names = tuple(f"latent {index}" for index in range(12))
    keymap = KeyMap(names)
    assert keymap.uses_digits
    for digit in "0123456789":  # as `--actions` counts
        assert [keymap.action({digit})] == list(expand(digit, None, names))
    assert keymap.action({"left", "space"}) == 0
    assert keymap.keys == set("1234567890")
    assert KeyMap(names[:3]).action({"9"}) == 0


def test_default_action_of_the_bundle_wins() -> None:
    assert KeyMap(NAMES, "right").action(set()) == 1
    assert KeyMap(("a", "b"), "b").action(set()) == 1
    assert KeyMap(("a", "noop")).action(set()) == 1


def test_keys_that_play_are_those_of_the_moves() -> None:
    assert KeyMap(("left", "right")).keys == {"left", "a", "right", "d"}
    assert KeyMap(NAMES).moves == ("left", "right", "jump")
