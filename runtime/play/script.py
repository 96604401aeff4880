"""Action scripts: `right*20 right+jump*4 stay ...` to action indices."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.runtime.files import read_regular
from genie_rt.runtime.untrusted import MAX_COMPARED, brief

MAX_STEPS = 100_000
"""Most steps that one script may ask for, checked before anything is allocated."""

DEFAULT_STEPS = 64
"""How long a script that ends in `...` runs when nobody says how long."""

_MAX_FILE_BYTES = 16 * 2**20
_TERM = re.compile(r"(?P<action>.+?)(?:\*(?P<count>[^*]*))?")


def expand(script: str, steps: int | None, action_names: Sequence[str]) -> tuple[int, ...]:
    """The actions of a script, one index per step.

    A script is a list of actions between blanks or commas; `NAME*N` is `N` times `NAME`; an action is one of
    the world's names or, where no name reads like that, its index. The whole script starts again from its
    first action whenever it is shorter than `steps`.

    Args:
        script: such as `"right*20 right+jump*4 right*10 ..."`.
        steps: how many actions are wanted. None: the script once, or 64 steps if it ends in `...`.
        action_names: the world's names; the result indexes them.

    Raises:
        InputError: an unknown action (the nearest name is given), a bad count, no action at all, or more than
            100,000 steps.
    """
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise InputError(f"steps: expected a whole number from 1 to {MAX_STEPS}, found {steps}")
    terms = script.replace(",", " ").split()
    endless = bool(terms) and terms[-1] == "..."
    if endless:
        terms.pop()
    actions: list[int] = []
    for term in terms:
        index, count = _parse_term(term, action_names)
        if len(actions) + count > MAX_STEPS:
            found = brief(repr(term))
            raise InputError(f"action script: expected at most {MAX_STEPS} steps, found more at {found}")
        actions.extend([index] * count)
    if not actions:
        raise InputError(
            f"action script: expected at least one action such as {action_names[0]!r}, "
            f"found {brief(repr(script))}"
        )
    if steps is None:
        steps = max(DEFAULT_STEPS, len(actions)) if endless else len(actions)
    return tuple(actions[step % len(actions)] for step in range(steps))


def action_index(name: str, action_names: Sequence[str]) -> int:
    """The index of an action given by name, or by the index itself where no name reads like that.

    Raises:
        InputError: there is no such action; the message has the nearest name.
    """
    if name in action_names:
        return action_names.index(name)
    if name.isdecimal() and len(name) < 9 and int(name) < len(action_names):
        return int(name)
    folded = {known.casefold(): known for known in action_names}
    near = difflib.get_close_matches(name[:MAX_COMPARED].casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    raise InputError(f"unknown action {brief(repr(name))}: {hint}this world has {', '.join(action_names)}")


def default_script(action_names: Sequence[str]) -> str:
    """A script that shows what a world does: a run with jumps where it can, else every action in turn."""
    if {"right", "right+jump"} <= set(action_names):
        return "right*20 right+jump*4 right*10 ..."
    return " ".join(f"{index}*8" for index in range(len(action_names))) + " ..."


def script_path(actions: str) -> Path | None:
    """The file that an `--actions` value points to, or None if it is itself a script.

    `@FILE` is always a file; without the `@`, whatever ends in `.txt` or `.json`.
    """
    if actions.startswith("@"):
        return Path(actions[1:])
    return Path(actions) if actions.endswith((".txt", ".json")) else None


def script_of(path: Path, text: str) -> str:
    """The script in the text of a file: one or more actions per line, `#` starts a comment.

    Raises:
        InputError: it is above 16 MiB.
    """
    if len(text) > _MAX_FILE_BYTES:
        raise InputError(f"{path}: expected a script of at most {_MAX_FILE_BYTES} bytes, found a larger one")
    return "\n".join(line.partition("#")[0] for line in text.splitlines())


def read_text(path: Path, max_bytes: int) -> str:
    """The text of an untrusted file.

    Raises:
        InputError: the file is missing, unreadable, not UTF-8 text, or larger than `max_bytes`.
    """
    content = read_regular(path, max_bytes, expected="a readable file of actions")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, found other bytes at offset {error.start}") from error


def _parse_term(term: str, action_names: Sequence[str]) -> tuple[int, int]:
    if term == "...":
        raise InputError("action script: expected `...` only at its end, found it before other actions")
    if term in action_names:  # a name may hold a `*` of its own
        return action_names.index(term), 1
    match = _TERM.fullmatch(term)
    name, digits = (match["action"], match["count"]) if match else (term, None)
    if digits is None:
        return action_index(name, action_names), 1
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 9 or not 1 <= int(digits) <= MAX_STEPS:
        raise InputError(
            f"action script: expected a count from 1 to {MAX_STEPS} after the `*`, found {brief(repr(term))}"
        )
    return action_index(name, action_names), int(digits)
