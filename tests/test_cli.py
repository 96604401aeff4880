"""`genie-rt`: finding a command, refusing what is none, and turning errors into one line and an exit code."""

import logging
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import tyro

from genie_rt import __version__, cli
from genie_rt.environment import Environment, compiled_cache, engine_cache
from genie_rt.errors import BundleError, ConfigError
from genie_rt.install import install_hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeCommand:
    """Does as it is told."""

    word: tyro.conf.Positional[str] = "nothing"
    """What to do."""

    code: int | None = None
    """What `run` returns."""

    def run(self) -> int | None:
        match self.word:
            case "fail":
                raise BundleError("bundle.json: expected\nschema 1, found \x1b[2J2")
            case "interrupt":
                raise KeyboardInterrupt
            case "break":
                raise BrokenPipeError
            case "import":
                import_module("a_library_that_nobody_has.part")
            case "bug":
                import_module("genie_rt.no_such_module")
        print(f"did {self.word}")
        return self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCommand:
    """Does nothing at all."""

    def run(self) -> int | None:
        return 3


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `genie-rt fake` and `genie-rt data fake` run `FakeCommand`, in a clean environment."""
    monkeypatch.delenv("GENIE_RT_DEBUG", raising=False)
    entry = cli.Entry(f"{__name__}:FakeCommand", "does as it is told", "play")
    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, ("fake",): entry, ("data", "fake"): entry})


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    for name, entry in cli.COMMANDS.items():
        assert f"{' '.join(name)}  " in shown
        assert entry.summary in shown


@pytest.mark.parametrize(("argv", "code"), [(["data", "--help"], 0), (["data"], 2)])
def test_a_group_lists_its_commands_only(
    argv: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == code
    shown = capsys.readouterr().out
    assert "data coinrun" in shown
    assert "play" not in shown


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"genie-rt {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["benhc"], "genie-rt bench"),
        (["ceilngs"], "genie-rt bench ceilings"),
        (["verfy"], "genie-rt verify"),
        (["trian", "lam"], "genie-rt train"),
        (["data", "coinrum"], "genie-rt data coinrun"),
        (["dynamics"], "genie-rt train dynamics"),
        (["qqqqqq"], "genie-rt --help"),
        (["--verison"], "genie-rt --help"),
    ],
)
def test_an_unknown_command_names_the_nearest(
    argv: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert f"`{nearest}`" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("name", [["fake"], ["data", "fake"]])
def test_a_command_gets_its_words_and_gives_its_exit_code(
    name: list[str], fake: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*name, "work"]) == 0
    assert cli.main([*name, "--code", "7"]) == 7
    assert capsys.readouterr().out == "did work\ndid nothing\n"


def test_a_command_may_have_commands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outer = cli.Entry(f"{__name__}:FakeCommand", "outer")
    inner = cli.Entry(f"{__name__}:OtherCommand", "inner")
    monkeypatch.setattr(cli, "COMMANDS", {("fake",): outer, ("fake", "deep"): inner})
    assert cli.main(["fake"]) == 0
    assert cli.main(["fake", "deeper"]) == 0
    assert cli.main(["fake", "deep"]) == 3
    assert capsys.readouterr().out == "did nothing\ndid deeper\n"


def test_a_command_explains_itself(fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "fake", "--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: genie-rt data fake" in shown
    assert "Does as it is told." in shown


def test_an_unknown_flag_is_wrong_usage(fake: None) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["fake", "--cod", "7"])
    assert exit_.value.code == 2


def test_an_error_is_one_harmless_line(fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "fail"]) == 1
    assert capsys.readouterr().err == "error: bundle.json: expected schema 1, found ?[2J2\n"


def test_debug_shows_the_traceback(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENIE_RT_DEBUG", "1")
    with pytest.raises(BundleError):
        cli.main(["fake", "fail"])


def test_a_bad_environment_is_refused(
    fake: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENIE_RT_DEBUG", "yes")
    assert cli.main(["fake"]) == 1
    assert capsys.readouterr().err == "error: GENIE_RT_DEBUG: expected 0 or 1, found 'yes'\n"


@pytest.mark.parametrize(("value", "debug"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_debug_is_a_switch(value: str | None, debug: bool) -> None:
    variables = {} if value is None else {"GENIE_RT_DEBUG": value}
    assert Environment.read(variables).debug is debug


def test_a_bad_switch_is_named() -> None:
    with pytest.raises(ConfigError, match="GENIE_RT_DEBUG"):
        Environment.read({"GENIE_RT_DEBUG": "2"})


def test_a_missing_library_names_the_extra(fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "import"]) == 1
    shown = capsys.readouterr().err
    assert "'a_library_that_nobody_has'" in shown
    assert install_hint("play") in shown


def test_a_missing_module_of_our_own_is_a_bug(fake: None) -> None:
    with pytest.raises(ModuleNotFoundError):
        cli.main(["fake", "bug"])


def test_an_interrupt_is_one_line(fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "interrupt"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_left_is_no_traceback() -> None:
    code = "import sys\nfrom genie_rt.cli import main\nsys.stdin.read()\nsys.exit(main(['--version']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()  # only now does it print
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_command_modules_load_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pygame", "av", "accelerate", "torchmetrics", "procgen"}
    modules = sorted({entry.target.partition(":")[0] for entry in cli.COMMANDS.values()})
    code = f"""
import sys
from importlib import import_module
from pathlib import Path
for name in {modules!r}:
    import_module(name)
    print(name, *sorted({heavy!r} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == modules


@pytest.mark.parametrize("name", sorted(cli.COMMANDS), ids=" ".join)
def test_every_command_in_the_table_exists(name: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([*name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: genie-rt {' '.join(name)}" in capsys.readouterr().out


def test_what_is_logged_goes_to_standard_error_while_a_command_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(argv: list[str]) -> int:
        logging.getLogger("genie_rt.cuda").info("device memory: 1 GB")
        return 0

    monkeypatch.setattr(cli, "_dispatch", command)
    assert cli.main([]) == 0
    assert capsys.readouterr() == ("", "device memory: 1 GB\n")
    logging.getLogger("genie_rt.cuda").info("nobody asked")
    assert capsys.readouterr() == ("", "")


def test_compiled_graphs_are_kept_where_caches_are_unless_switched_off(tmp_path: Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path)}
    for switch in ({}, {"GENIE_RT_CACHE": ""}, {"GENIE_RT_CACHE": "1"}):
        assert compiled_cache(home | switch) == tmp_path / "genie-rt" / "compiled"
    assert compiled_cache(home | {"GENIE_RT_CACHE": "0"}) is None
    with pytest.raises(ConfigError, match="GENIE_RT_CACHE: expected 0 or 1, found 'no'"):
        compiled_cache(home | {"GENIE_RT_CACHE": "no"})


def test_engines_are_kept_where_caches_are(tmp_path: Path) -> None:
    assert engine_cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "genie-rt" / "engines"
    assert engine_cache({}) == engine_cache({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache/genie-rt/engines"
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME: expected an absolute path, found 'caches'"):
        engine_cache({"XDG_CACHE_HOME": "caches"})
