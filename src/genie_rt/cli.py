"""The command line: find the command that the first words name, import its module and run it.

A command is a frozen dataclass in its package's `commands.py`: the fields are the flags, the docstring is
the help, `run()` does the work and may return an exit code; `genie_rt.parsing` reads the flags. Only the
wanted command is imported, so `genie-rt --help` costs nothing and no command pays for another's libraries.

Exit codes: 0 done; 1 failed, with one line on stderr (`GENIE_RT_DEBUG=1` shows the traceback), also where
standard output is closed or full, or silently when the reader of our output went away; 2 wrong usage; 130
interrupted.
"""

import contextlib
import difflib
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, Protocol

from genie_rt import __version__, streams
from genie_rt.environment import Environment
from genie_rt.errors import GenieError, UnsupportedError
from genie_rt.install import install_hint


class Entry(NamedTuple):
    """Command's location, one-line summary, and the extra that installs its libraries."""

    target: str
    summary: str
    extra: str = ""


COMMANDS: dict[tuple[str, ...], Entry] = {
    ("play",): Entry(
        "genie_rt.runtime.play.commands:PlayCommand",
        "play a world in a window, or render actions to a file",
        "play",
    ),
    ("info",): Entry(
        "genie_rt.runtime.commands:InfoCommand",
        "print parameters, FLOPs and memory of a bundle or a preset",
    ),
    ("bench",): Entry(
        "genie_rt.bench.commands:BenchCommand",
        "measure frame latency, next to the paper's recipe",
    ),
    ("bench", "ceilings"): Entry(
        "genie_rt.bench.commands:CeilingsCommand",
        "measure device ceilings: copies, matrix products, launches",
    ),
    ("bench", "kernels"): Entry(
        "genie_rt.bench.kernels.commands:KernelsCommand",
        "time the kernels next to library calls and the roofline",
        "gpu",
    ),
    ("bench", "long"): Entry(
        "genie_rt.bench.commands:LongCommand",
        "check memory and latency over a long rollout",
    ),
    ("bench", "peek"): Entry(
        "genie_rt.bench.commands:PeekCommand",
        "time all actions in one batch and one by one",
    ),
    ("bench", "quality"): Entry(
        "genie_rt.bench.quality.commands:QualityCommand",
        "measure quality against cost of decoding plans",
        "train",
    ),
    ("verify",): Entry(
        "genie_rt.bench.commands:VerifyCommand",
        "compare every back end and precision with float64",
    ),
    ("data", "coinrun"): Entry(
        "genie_rt.training.data.commands:CoinrunCommand",
        "record clips of the game CoinRun",
        "coinrun",
    ),
    ("data", "video"): Entry(
        "genie_rt.training.data.commands:VideoCommand",
        "turn videos into clips",
        "train",
    ),
    ("data", "prompts"): Entry(
        "genie_rt.training.data.commands:PromptsCommand",
        "save held-out frames as prompt images",
    ),
    ("train", "tokenizer"): Entry(
        "genie_rt.training.commands:TokenizerCommand",
        "train the video tokenizer: frames to tokens",
        "train",
    ),
    ("train", "lam"): Entry(
        "genie_rt.training.commands:LamCommand",
        "train the latent action model, from frames alone",
        "train",
    ),
    ("train", "dynamics"): Entry(
        "genie_rt.training.commands:DynamicsCommand",
        "train the dynamics model: the next frame's tokens",
        "train",
    ),
    ("train", "all"): Entry(
        "genie_rt.export.train_all.commands:TrainAllCommand",
        "train a world from clips in a given time, and judge it",
        "train",
    ),
    ("evaluate",): Entry(
        "genie_rt.training.evaluation.commands:EvaluateCommand",
        "measure the quality of a world on held-out clips",
        "train",
    ),
    ("compare",): Entry(
        "genie_rt.training.evaluation.compare:CompareCommand",
        "show a world beside the real game, or beside clips",
        "train",
    ),
    ("actions",): Entry(
        "genie_rt.export.actions.commands:ActionsCommand",
        "show what learned actions do, and name them",
    ),
    ("export",): Entry(
        "genie_rt.export.commands:ExportCommand",
        "write a trained world as a bundle",
    ),
}


class Command(Protocol):
    """Interface of every command class once its flags are parsed."""

    def run(self) -> int | None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run `genie-rt` with the given words, by default the process's own, and return the exit code.

    Raises:
        SystemExit: `--help` of a command (0), or words and flags that do not exist (2).
    """
    streams.prepare()
    debug = False
    logger, handler = logging.getLogger("genie_rt"), logging.StreamHandler()  # bare messages to stderr
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        debug = Environment.read().debug
        try:
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        except SystemExit:  # `--help`
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # here, so that a reader who left shows up before the interpreter's own exit
        return code
    except GenieError as error:
        if debug:
            raise
        _print_error(str(error))
        return 1
    except KeyboardInterrupt:  # only where `main` is called by a program: the process `genie-rt` raises none
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        if debug:
            raise
        _print_error(streams.explain(error))
        return 1
    finally:
        streams.settle()
        logger.removeHandler(handler)


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] == "--version":
        print(f"genie-rt {__version__}")
        return 0
    for length in (2, 1):
        name = tuple(argv[:length])
        if name in COMMANDS:
            return _run(name, argv[length:])
    in_group = bool(argv) and any(argv[0] == name[0] for name in COMMANDS)
    group, rest = (argv[0], argv[1:]) if in_group else ("", argv)
    if rest and rest[0] not in ("-h", "--help"):
        _refuse(f"{group} {rest[0]}".strip())
    _print_help(group)
    return 2 if in_group and not rest else 0  # `genie-rt data` alone names no command


def _run(name: tuple[str, ...], argv: list[str]) -> int:
    from genie_rt.parsing import parse

    entry = COMMANDS[name]
    prog = " ".join(("genie-rt", *name))
    module, _, attribute = entry.target.partition(":")
    try:
        kind: type[Any] = getattr(import_module(module), attribute)
        command: Command = parse(kind, argv, prog=prog)
        return command.run() or 0
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "genie_rt"):
            raise
        raise UnsupportedError(
            f"`{prog}` needs the module {missing!r}, which is missing; run: {install_hint(entry.extra)}"
        ) from error


def _refuse(asked: str) -> NoReturn:
    # a mistyped group ("trian"), a mistyped command ("benhc"), a command without its group ("lam")
    meant: dict[str, str] = {}
    for name in COMMANDS:
        full = " ".join(name)
        meant |= {name[0]: name[0], name[-1]: full, full: full}
    near = difflib.get_close_matches(asked, meant, n=1)
    hint = f"did you mean `genie-rt {meant[near[0]]}`?" if near else "`genie-rt --help` lists the commands"
    _print_error(f"there is no command `genie-rt {asked}`; {hint}")
    raise SystemExit(2)


def _print_help(group: str) -> None:
    from rich.console import Console
    from rich.table import Table

    prog = f"genie-rt {group}".strip()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, entry in COMMANDS.items():
        if group in ("", name[0]):
            table.add_row(" ".join(name), entry.summary)
    console = Console(highlight=False, markup=False)
    console.print(f"usage: {prog} COMMAND [flags]\n")
    if not group:
        console.print("Play, measure and train interactive world models.\n")
    console.print(table)
    console.print(f"\n`{prog} COMMAND --help` explains one command.")


def _print_error(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # one line, and nothing from a file's name or content that a terminal would obey
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    with contextlib.suppress(OSError):  # nobody can read of a standard error that is full
        Console(stderr=True, highlight=False).print(Text(f"error: {line}", style="red"), soft_wrap=True)
