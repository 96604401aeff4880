"""Codes get names by pressing keys while they play; no window is needed to know how."""

import os

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from genie_rt.runtime.play.name_keys import PAUSE, ROUND, KeyNaming, name_in_window
from genie_rt.runtime.world import World


@pytest.fixture
def naming(tmp_path):  # type: ignore[no-untyped-def]
    return KeyNaming(World.load(write_tiny_bundle(tmp_path / "w"), backend="reference", dtype="float32"))


def test_each_code_gets_the_key_that_is_pressed(naming: KeyNaming) -> None:
    naming.press(frozenset({"right"}))
    naming.press(frozenset({"space", "right"}))
    naming.press(frozenset({"return"}))
    assert naming.names == {"right": 0, "right+jump": 1, "stay": 2}
    assert naming.done


def test_codes_can_be_skipped_and_named_again(naming: KeyNaming) -> None:
    naming.press(frozenset({"tab"}))
    naming.press(frozenset({"left"}))
    naming.press(frozenset({"q"}))  # means nothing
    naming.press(frozenset({"backspace"}))
    assert naming.names == {} and not naming.done
    naming.press(frozenset({"up"}))
    naming.press(frozenset({"escape"}))
    assert naming.names == {"up": 1} and naming.done


def test_a_name_goes_to_the_last_code_that_got_it(naming: KeyNaming) -> None:
    naming.press(frozenset({"left"}))
    naming.press(frozenset({"a"}))
    assert naming.names == {"left": 1}


def test_a_code_is_played_from_one_start_after_the_other(naming: KeyNaming) -> None:
    first = naming.frame
    shown = [naming.tick() for _ in range(ROUND)]
    assert all(np.array_equal(frame, first) for frame in shown[:PAUSE])
    session = naming.world.session(seed=0)
    session.reset(naming.world.prompt(0))
    assert np.array_equal(shown[PAUSE], session.step(0))
    session.reset(naming.world.prompt(1))
    assert np.array_equal(shown[-1], session.frame)


def test_the_window_ends_when_all_is_named(naming: KeyNaming, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setitem(os.environ, "SDL_VIDEODRIVER", "dummy")
    keys = iter((pygame.K_LEFT, pygame.K_RIGHT, pygame.K_TAB))

    def events() -> list[object]:
        key = next(keys)
        return [pygame.event.Event(kind, key=key) for kind in (pygame.KEYDOWN, pygame.KEYUP)]

    monkeypatch.setattr(pygame.event, "get", events)
    name_in_window(naming, title="test", fps=1000, allow_hidden=True)
    assert naming.names == {"left": 0, "right": 1}


def test_a_key_after_the_last_code_loses_nothing(naming: KeyNaming) -> None:
    for key in ("left", "right", "up", "down"):
        naming.press(frozenset({key}))
    assert naming.names == {"left": 0, "right": 1, "up": 2} and naming.done
    naming.press(frozenset({"backspace"}))
    assert naming.names == {"left": 0, "right": 1} and not naming.done
