"""What an input must not do, done on purpose: for tests of what watches."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn


def _raise() -> NoReturn:
    raise ZeroDivisionError("a bug")


def _exit() -> NoReturn:
    os._exit(0)


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _spin() -> NoReturn:
    while True:
        pass


def _wait() -> None:
    time.sleep(3600)


def _eat() -> None:
    """Takes 200 MB for a moment."""
    bytearray(200_000_000)[::4096] = b"x" * len(range(0, 200_000_000, 4096))


def _refuse() -> str:
    return "InputError: as it should be"


DEEDS: dict[str, Callable[[], str | None]] = {
    "raise": _raise, "exit": _exit, "crash": _crash, "spin": _spin, "wait": _wait, "eat": _eat,
    "refuse": _refuse,
}  # fmt: skip
