"""The command lines that our documents show, word by word."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from genie_rt.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "kernels/README.md",
    "docs/**/*.md",
    "examples/*.md",
    "runtime/bundles/*/README.md",
)
MAKE_TARGETS = ("demo", "train-demo")

PLACEHOLDERS = {
    "BUNDLE": "demo",
    "NEW": "new",
    "RUN": "run",
    "FILE": "file.json",
    "STORE": "store",
    "COMMAND": "info",
    "squared_relu": "mlp",  # the operator that docs/add-a-kernel.md adds
}
"""What capital words, and names made up for a page, stand for."""

_SPAN = re.compile(r"`(genie-rt [^`]+)`")
_BLOCK_LINE = re.compile(r"^(?:\$ )?(genie-rt .+)$")


@dataclass(frozen=True, slots=True)
class Documented:
    """One command line.

    Attributes:
        where: file and line number.
        words: what follows `genie-rt`, placeholders filled in.
    """

    where: str
    words: tuple[str, ...]

    @property
    def name(self) -> tuple[str, ...]:
        """The command's own words."""
        return next((self.words[:n] for n in (2, 1) if self.words[:n] in COMMANDS), ())

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.words[len(self.name) :]

    @property
    def kind(self) -> type:
        """The command's class."""
        module, _, attribute = COMMANDS[self.name].target.partition(":")
        return getattr(import_module(module), attribute)

    def __str__(self) -> str:
        return f"{self.where}: genie-rt {shlex.join(self.words)}"


def documented() -> list[Documented]:
    """All of them: of the pages, of the commands' help, of the Makefile."""
    found = [line for page in PAGES for path in sorted(ROOT.glob(page)) for line in of_page(path)]
    for name in COMMANDS:
        kind = Documented("", name).kind
        lines = (line.strip() for line in (kind.__doc__ or "").splitlines())
        for text in (
            *_SPAN.findall(kind.__doc__ or ""),
            *(line for line in lines if _BLOCK_LINE.match(line)),
        ):
            found.append(Documented(f"genie-rt {' '.join(name)} --help", to_words(text)))
    return found + of_makefile()


def of_page(path: Path) -> list[Documented]:
    """Lines of code blocks that begin with `genie-rt`, and code within sentences that does."""
    found = []
    is_fenced = False
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        is_code = is_fenced or line.startswith("    ")
        while is_code and line.endswith("\\"):
            line = line[:-1] + next(lines)[1]
        texts = (_BLOCK_LINE if is_code else _SPAN).findall(line.strip())
        where = f"{path.relative_to(ROOT).as_posix()}:{number}"
        found += [Documented(where, to_words(text)) for text in texts]
    return found


def of_makefile() -> list[Documented]:
    """What `make` would run, and what it prints for the reader to type."""
    command = [
        "make",
        "-n",
        "-C",
        str(ROOT),
        "RUN=run",
        f"VENV={Path(sys.executable).parent.parent}",
        *MAKE_TARGETS,
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if "/genie-rt " not in line:
            continue
        words = shlex.split(line)
        if words[0] == "printf":  # its last word is a sentence that ends in a command
            words = shlex.split(words[-1][words[-1].index("/genie-rt") :])
        found.append(Documented("Makefile", tuple(words[1:])))
    return found


def to_words(text: str) -> tuple[str, ...]:
    """The words after `genie-rt`, without a comment at the end."""
    words = shlex.split(text, comments=True)[1:]
    return tuple(PLACEHOLDERS.get(word, word) for word in words)
