"""Help that all commands share: defaults stated once, no alias twice, lines that fit the terminal."""

import re
import shutil
from dataclasses import dataclass
from typing import Annotated

import pytest

from genie_rt import cli
from genie_rt.parsing import parse, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Say something about one thing, in a first sentence that is much longer than a narrow terminal is wide.

    A second paragraph.

    Examples:
        genie-rt sample --warm-up 3
    """

    warm_up: int = 2
    """How long to warm up."""

    seed: Annotated[int | None, shown(default="the log's")] = None
    """Random seed."""

    words: Annotated[tuple[str, ...], shown(default="none", metavar="WORD ...")] = ()
    """Words."""

    def run(self) -> int | None:
        return None


def help_of(kind: type, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse(kind, [*words, "--help"], prog="genie-rt sample")
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["--warm-up", "7"], ["--warmUp", "7"], ["--warmUp=7"], ["--warm_up", "7"]])
def test_a_flag_may_be_in_camel_case(words: list[str]) -> None:
    assert parse(Sample, words, prog="x").warm_up == 7


def test_a_value_in_camel_case_stays() -> None:
    assert parse(Sample, ["--words", "aB", "cD=eF"], prog="x").words == ("aB", "cD=eF")
    assert parse(Sample, ["--words=--aB"], prog="x").words == ("--aB",)


def test_none_is_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(Sample, ["--seed", "None"], prog="x")
    assert exit_.value.code == 2
    assert capsys.readouterr().out == ""


def test_help_ends_with_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(Sample, capsys)
    assert shown.endswith("\n\nexamples:\n  genie-rt sample --warm-up 3\n")
    assert shown.count("genie-rt sample --warm-up 3") == 1
    assert "\n\nA second paragraph.\n\n" in shown
    assert "--seed INT" in shown and "(default: the log's)" in shown
    assert "--words WORD ..." in shown and "(default: none)" in shown


@pytest.mark.parametrize("name", sorted(cli.COMMANDS), ids=" ".join)
def test_help_of_every_command_fits_and_says_no_none(
    name: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert shutil.get_terminal_size().columns == 80
    with pytest.raises(SystemExit):
        cli.main([*name, "--help"])
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "None" not in shown
    assert "(default: )" not in shown
    assert re.search(rf"\n\nexamples:\n(  genie-rt {' '.join(name)}\b.*\n){{1,2}}$", shown)
    assert not re.search(r"--[a-z]+[A-Z]\w* [A-Z]+, ", shown)  # an alias beside the flag
