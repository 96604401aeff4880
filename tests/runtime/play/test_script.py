"""An action script means what its docstring says, and a wrong one says where."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_rt.errors import InputError
from genie_rt.runtime.play import script
from genie_rt.runtime.play.action_log import read_actions
from genie_rt.runtime.play.script import (
    MAX_STEPS,
    action_index,
    default_script,
    expand,
    script_path,
)

NAMES = ("left", "right", "stay", "jump", "left+jump", "right+jump")


@pytest.mark.parametrize(
    ("script", "steps", "expected"),
    [
        ("right", None, (1,)),
        ("right*3 jump", None, (1, 1, 1, 3)),
        ("right, jump\n left+jump", None, (1, 3, 4)),
        ("right*2 jump", 5, (1, 1, 3, 1, 1)),
        ("right*2 jump ...", 5, (1, 1, 3, 1, 1)),
        ("right*20", 2, (1, 1)),
        ("5 1*2", None, (5, 1, 1)),
    ],
)
def test_script_becomes_indices(script: str, steps: int | None, expected: tuple[int, ...]) -> None:
    assert expand(script, steps, NAMES) == expected


def test_three_dots_without_steps_are_64_steps_or_the_whole_script() -> None:
    assert expand("right*3 jump ...", None, NAMES) == (1, 1, 1, 3) * 16
    assert len(expand("right*100 ...", None, NAMES)) == 100


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1), st.integers(1, 200))
def test_every_script_gives_as_many_steps_as_asked(terms: list[tuple[int, int]], steps: int) -> None:
    once = [index for index, count in terms for _ in range(count)]
    script = " ".join(f"{NAMES[index]}*{count}" for index, count in terms)
    assert expand(script, None, NAMES) == tuple(once)
    assert expand(script, steps, NAMES) == tuple((once * steps)[:steps])


def test_unknown_action_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown action 'rihgt': did you mean 'right'\?"):
        expand("left rihgt*3", None, NAMES)
    with pytest.raises(InputError, match="did you mean 'right'"):
        action_index("RIGHT", NAMES)
    with pytest.raises(InputError, match="this world has left, right"):
        action_index("xyzzy", NAMES)
    with pytest.raises(InputError, match="unknown action '6'"):
        action_index("6", NAMES)


@pytest.mark.parametrize(
    "script",
    ["", "  ", "...", "right*0", "right*-1", "right*x", "right*", "*3", "right*1.5", "right*³", "right*2*3"],
)
def test_broken_scripts_are_refused(script: str) -> None:
    with pytest.raises(InputError):
        expand(script, None, NAMES)


@pytest.mark.parametrize(
    "script", [f"right*{MAX_STEPS + 1}", "right*99999999999999999999", "right*60000 " * 2]
)
def test_scripts_are_bounded_before_anything_is_allocated(script: str) -> None:
    with pytest.raises(InputError, match=str(MAX_STEPS)):
        expand(script, None, NAMES)


@pytest.mark.parametrize("steps", [0, -1, MAX_STEPS + 1])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match="steps"):
        expand("right", steps, NAMES)


def test_dots_in_the_middle_are_refused() -> None:
    with pytest.raises(InputError, match="only at its end"):
        expand("right ... jump", None, NAMES)


def test_names_with_a_star_or_digits_come_before_counts_and_indices() -> None:
    assert expand("a*2 1 0*3", None, ("a*2", "0", "1")) == (0, 2, 1, 1, 1)


def test_default_script_fits_any_world() -> None:
    assert expand(default_script(NAMES), 34, NAMES)[:24] == (1,) * 20 + (5,) * 4
    assert set(expand(default_script(("x", "y y")), None, ("x", "y y"))) == {0, 1}


def test_files_are_told_from_scripts() -> None:
    assert script_path("right*3 jump") is None
    assert script_path("@moves") == Path("moves")
    assert script_path("moves.txt") == Path("moves.txt")
    assert script_path("runs/log.json") == Path("runs/log.json")


def test_script_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "moves.txt"
    path.write_text("# start\nright*2  # run\n\njump left\n...\n", encoding="utf-8-sig")
    assert expand(read_actions(path), 5, NAMES) == (1, 1, 3, 0, 1)


def test_bad_script_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing of that name"):
        read_actions(tmp_path / "none.txt")
    with pytest.raises(InputError, match="readable file"):
        read_actions(tmp_path)
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"right \xff\xfe")
    with pytest.raises(InputError, match="offset 6"):
        read_actions(path)


@pytest.mark.parametrize(
    "word", ["x" * 100_000, "5*" + "9" * 100_000, "right*" + "1" * 100_000, "," * 100_000]
)
def test_a_long_word_makes_no_long_message(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it compared with the world's names as a whole: that takes a second for some 10 MB."""
    compared = []
    monkeypatch.setattr(
        script.difflib, "get_close_matches", lambda name, *others, **options: compared.append(name) or []
    )
    with pytest.raises(InputError) as raised:
        expand(word, None, NAMES)
    assert len(str(raised.value)) < 600
    assert all(len(name) <= 200 for name in compared)
