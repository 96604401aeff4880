"""Held-out levels are those that look like no training level."""

import contextlib
import hashlib
from typing import get_args

import pytest

from genie_rt.errors import InputError
from genie_rt.training.data import levels
from genie_rt.training.data.game import VISUALS, Visuals, import_procgen
from genie_rt.training.data.levels import LEVELS, Copies, copies, find_copies

needs_procgen = pytest.mark.usefixtures("procgen")


@pytest.fixture
def procgen() -> None:
    pytest.importorskip("procgen", reason='needs procgen: pip install -e ".[coinrun]"')


@pytest.mark.parametrize("visuals", get_args(Visuals))
def test_the_known_copies_lie_in_the_held_out_range(visuals: Visuals) -> None:
    known = copies("coinrun", visuals)
    first, count = LEVELS["heldout"]
    assert known.by_picture and known.by_picture <= known.by_layout
    assert known.levels <= set(range(first, first + count))
    assert known.num_unseen == count - len(known.levels) > 300


def test_which_levels_are_unseen() -> None:
    some = Copies(by_picture=frozenset({10_001}), by_layout=frozenset({10_001, 10_003}))
    wanted = [9_999, 10_000, 10_001, 10_002, 10_003, 10_999, 11_000]
    assert some.unseen(wanted).tolist() == [False, True, False, True, False, True, False]
    assert some.as_provenance() == {"levels": 998, "left_out_by_picture": 1, "left_out_by_layout_alone": 1}


@needs_procgen
@pytest.mark.parametrize("visuals", get_args(Visuals))
def test_the_viewer_draws_the_level_that_was_asked_for(visuals: Visuals) -> None:
    procgen = import_procgen()
    viewer = levels._Viewer("coinrun", visuals)
    wanted = LEVELS["heldout"][0] + 7
    env = procgen.ProcgenGym3Env(
        num=1, env_name="coinrun", start_level=wanted, num_levels=1, rand_seed=5, num_threads=0,
        center_agent=False, render_mode="rgb_array", **VISUALS[visuals],
    )  # fmt: skip
    with contextlib.closing(viewer), contextlib.closing(env):
        picture, layout = viewer.digests(wanted)
        drawn = env.get_info()[0]["rgb"]
        assert drawn.shape == (512, 512, 3)
        assert picture == hashlib.sha256(drawn.tobytes()).digest()
        assert layout != hashlib.sha256(b"").digest()
        assert viewer.digests(3) != viewer.digests(4)
        assert viewer.digests(wanted) == (picture, layout)


@needs_procgen
def test_a_known_copy_equals_a_training_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among few levels, the search finds what comparing each with each finds."""
    monkeypatch.setattr(levels, "LEVELS", {"train": (0, 120), "heldout": (10_000, 40)})
    found = find_copies("coinrun", "plain")
    with contextlib.closing(levels._Viewer("coinrun", "plain")) as viewer:
        train = [viewer.digests(level) for level in range(120)]
        held = {level: viewer.digests(level) for level in range(10_000, 10_040)}
    for place, copied in enumerate((found.by_picture, found.by_layout)):
        assert copied == {level for level, looks in held.items() if looks[place] in {t[place] for t in train}}
    assert found.by_picture  # levels of plain visuals repeat that often
    assert found.levels <= copies("coinrun", "plain").levels


@needs_procgen
@pytest.mark.slow
@pytest.mark.parametrize("visuals", get_args(Visuals))
def test_the_known_copies_are_all_of_them(visuals: Visuals) -> None:
    assert find_copies("coinrun", visuals) == copies("coinrun", visuals)


@needs_procgen
def test_other_games_are_told_apart_by_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "LEVELS", {"train": (0, 20), "heldout": (10, 20)})
    found = find_copies("starpilot", "plain")  # all its grids are empty
    assert found.by_picture == found.by_layout == set(range(10, 20))


def test_a_game_without_unseen_levels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = frozenset(range(10_000, 11_000))
    monkeypatch.setattr(levels, "find_copies", lambda *_: Copies(by_picture=everything, by_layout=everything))
    copies.cache_clear()
    with pytest.raises(
        InputError, match=r"every held-out level of maze .*full visuals.* looks like a training"
    ):
        copies("maze", "full")
    copies.cache_clear()


@needs_procgen
def test_an_unknown_game_is_refused() -> None:
    with pytest.raises(InputError, match="no game 'doom'"):
        find_copies("doom", "plain")
