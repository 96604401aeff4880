"""What targets share: commands run in this process, and cases that change one file."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from fuzz.case import KINDS, Case

from genie_rt.cli import main
from genie_rt.errors import GenieError

FILE_KINDS = 0.04
"""Share of the inputs that have something else in place of a file."""

SAMPLES: list[Path] = []
"""The one folder of all samples, set before inputs are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One way in.

    Attributes:
        sample: folder that is copied for every input.
        make: draws a case; it gets the sample's folder, which it only reads.
        open: opens the mutated copy, raises a `GenieError` where it is refused, and asserts what it accepts.
        share: how often it is drawn, beside the others.
        quick_share: the same in the quick tests, where it differs: some take long.
        tried_whole: files of the sample that have to be accepted as they are.
    """

    sample: str
    make: Callable[[Random, Path], Case]
    open: Callable[[Path, Case], None]
    share: float = 1.0
    quick_share: float | None = None
    tried_whole: tuple[str, ...] = ("",)


class RefusedError(GenieError):
    """A command said "error: ..." and ended with 1."""


def command(*words: str | Path) -> str:
    """Runs `genie-rt` in this process and returns what it printed; a refusal is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    if code == 1:
        lines = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, f"expected one line with an error, found {err.getvalue()[-400:]!r}"
        raise RefusedError(lines[0])
    assert code == 0, f"exit code {code}"
    return out.getvalue()


def other_kind(random: Random, target: str, names: list[str]) -> Case | None:
    """Sometimes, something that is no file in place of one."""
    if random.random() >= FILE_KINDS:
        return None
    kind, name = random.choice(KINDS), random.choice(names)
    return Case(target=target, what=f"{kind} in place of {name}", files={name: kind}, must_refuse=True)


def changed_file(
    target: str,
    change: Callable[[Random, bytes], tuple[str, bytes]],
    pattern: str,
    *,
    empty: bool = True,
    lenient: bool = False,
) -> Callable[[Random, Path], Case]:
    """Cases that change one of the sample's files.

    Args:
        pattern: of their names.
        empty: whether an empty file is to be refused.
        lenient: whether what is no file is passed over, not refused.
    """

    def make(random: Random, sample: Path) -> Case:
        names = names_of(sample, pattern)
        if (case := other_kind(random, target, names)) is not None:
            return replace(case, must_refuse=not lenient)
        name = random.choice(names)
        if empty and not lenient and random.random() < 0.01:
            return Case(target=target, what=f"nothing in {name}", files={name: b""}, must_refuse=True)
        word, data = change(random, (sample / name).read_bytes())
        return Case(target=target, what=f"{name}: {word}", files={name: data})

    return make


@functools.cache
def names_of(sample: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(sample).as_posix() for path in sample.glob(pattern) if path.is_file())
