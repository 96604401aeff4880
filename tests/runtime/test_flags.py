"""Flags of several commands: results that cannot be written are found before the work; too many threads."""

import dataclasses
import os
from importlib import import_module
from pathlib import Path

import pytest
import torch

from genie_rt.cli import COMMANDS, main
from genie_rt.errors import InputError
from genie_rt.runtime.flags import check_file, check_folder, set_threads

OUTPUTS = ("out", "json", "log", "export_times", "tuned_folder")
"""Fields that say where results go."""

NEEDED = {
    ("play",): ["/none", "--headless"],
    ("data", "video"): ["/none.mp4"],
    ("data", "prompts"): ["/none"],
    ("train", "tokenizer"): ["--data", "/none"],
    ("train", "lam"): ["--data", "/none"],
    ("train", "all"): ["--data", "/none"],
    ("train", "dynamics"): ["--data", "/none", "--tokenizer", "/none"],
    ("bench", "kernels"): ["--device", "none"],
    ("bench", "ceilings"): ["--device", "none"],
    ("data", "coinrun"): ["--env", "none"],
}
"""Words that each command needs; what they name is not there, which the checks come before."""

ENDINGS = {("play",): ".gif", ("bench", "quality"): ".csv"}


def outputs() -> list[tuple[tuple[str, ...], str]]:
    """Every command with each of its flags for results."""
    found = []
    for name, entry in COMMANDS.items():
        module, _, attribute = entry.target.partition(":")
        for field in dataclasses.fields(getattr(import_module(module), attribute)):
            if field.name in OUTPUTS and field.type != "bool":
                found.append((name, f"--{field.name.replace('_', '-')}"))
    return found


def test_all_commands_with_results_are_looked_at() -> None:
    assert {name for name, _ in outputs()} == COMMANDS.keys() - {("info",)}


@pytest.mark.parametrize(("name", "flag"), outputs(), ids=lambda value: "-".join(value).strip("-"))
def test_results_that_cannot_be_written_are_found_before_the_work(
    name: tuple[str, ...], flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    ending = ENDINGS.get(name, "") if flag == "--out" else ".json"
    words = NEEDED.get(name, [] if name[:1] == ("data",) else ["/none"])
    assert main([*name, *words, flag, str(tmp_path / "file" / "deep" / f"result{ending}")]) == 1
    error = capsys.readouterr().err
    assert error == f"error: {flag}: expected a folder at {tmp_path / 'file'}, found a file\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    check_file("--json", None)
    check_file("--json", tmp_path / "old")
    check_file("--json", tmp_path / "new" / "deep" / "x.json")
    check_folder("--out", tmp_path)
    check_folder("--out", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--json {tmp_path}: expected the name of a file.*found a folder"):
        check_file("--json", tmp_path)
    with pytest.raises(InputError, match="such as a device"):
        check_file("--json", Path(os.devnull))
    with pytest.raises(InputError, match="too long"):
        check_file("--json", tmp_path / ("a" * 300))
    with pytest.raises(InputError, match="expected a name that can be written"):
        check_folder("--out", Path("nul\0"))


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="a folder that nobody can write to, not even root"
)
def test_a_folder_that_cannot_be_written_is_refused() -> None:
    for path in (Path("/proc/x.json"), Path("/proc/none/x.json")):
        with pytest.raises(InputError, match="--json: expected a folder that can be written, found /proc: "):
            check_file("--json", path)


def test_more_threads_than_cpus_are_taken_with_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    set_threads(None)
    set_threads(2)
    assert capsys.readouterr().err == ""
    set_threads(1000)
    assert capsys.readouterr().err == (
        "note: --threads 1000: this machine offers 2, so threads wait for each other and times grow\n"
    )
    for wrong in (0, 1025):
        with pytest.raises(InputError, match="--threads: expected a whole number from 1 to 1024"):
            set_threads(wrong)
    assert asked == [2, 1000]
