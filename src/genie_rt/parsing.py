"""Parsing of commands and printing of their help, shared by all, on top of tyro.

Help shows a command's docstring down to "Examples:", then its flags, then the examples. `shown` sets the
default that help states for a flag. Every flag may also be spelled in camelCase, as in trtexec; help does not
list that spelling. Keep the docstring of a flag on one line: tyro does not join its lines.
"""

import contextlib
import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")

_DESCRIPTION = "DESCRIPTION"
"""Placeholder for the description in tyro's help: tyro does not wrap descriptions, so we put it in."""

_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def shown(*, default: str | None = None, metavar: str | None = None) -> Any:
    """Set what help shows of a flag, in `Annotated[type, shown(...)]`.

    Args:
        default: what happens without the flag, where the field's own default, such as None, does not say it.
        metavar: what stands for the flag's value, in place of its type.
    """
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def parse(kind: type[T], words: Sequence[str], *, prog: str) -> T:
    """Parse the words after a command's name into that command.

    Args:
        kind: a command: a dataclass whose fields are the flags and whose docstring is the help.
        words: flags and values; a flag may be in camelCase, as in `--warmUp` for `--warm-up`.
        prog: the command's name, such as "genie-rt bench".

    Raises:
        SystemExit: help was asked for and printed (0), or the words are wrong (2).
    """
    printed = _Terminal()
    try:
        with contextlib.redirect_stdout(printed):
            return tyro.cli(
                kind,
                args=[_hyphenated(word) for word in words],
                prog=prog,
                description=_DESCRIPTION,
                config=(tyro.conf.DisallowNone,),  # None is how we say "not given", and no value to type
            )
    except SystemExit:
        description, examples = _split(inspect.getdoc(kind) or "")
        usage, mark, flags = printed.getvalue().partition(f"\n{_DESCRIPTION}\n")
        sys.stdout.write(f"{_wrap_usage(usage)}\n{description}\n{flags}{examples}" if mark else usage)
        raise


class _Terminal(io.StringIO):
    """Capture what tyro prints. It sees the encoding and colours of the real standard output."""

    def __init__(self) -> None:
        super().__init__()
        self._output = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        return self._output.encoding

    def isatty(self) -> bool:
        return self._output.isatty()


def _split(text: str) -> tuple[str, str]:
    """Split a docstring into its description, wrapped, and its examples, indented."""
    description, mark, examples = text.partition("Examples:\n")
    paragraphs = [_fill(each) for each in description.strip().split("\n\n")]
    lines = textwrap.indent(textwrap.dedent(examples).rstrip(), "  ")
    return "\n\n".join(paragraphs), f"\nexamples:\n{lines}\n" if mark else ""


def _wrap_usage(usage: str) -> str:
    """Wrap the usage line between flags, never between a flag and its value."""
    kept = re.sub(r"(?<= )\[[^]]*]", lambda flag: flag[0].replace(" ", "\0"), usage)
    return _fill(kept, " " * len("usage: ")).replace("\0", " ") + "\n"


def _fill(text: str, indent: str = "") -> str:
    width = min(shutil.get_terminal_size().columns, 110)
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _hyphenated(word: str) -> str:
    """Spell a camelCase flag with hyphens; return anything else unchanged."""
    if not word.startswith("--"):
        return word
    flag, mark, value = word.partition("=")
    return _CAMEL_CASE.sub("-", flag).lower() + mark + value
