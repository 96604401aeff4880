"""Who may use a world and what is made of it: the process that loaded it, one call of a session at a time.

Neither threads nor what back ends keep outside of Python survive a fork: in the child, OpenMP, ONNX Runtime
and OpenVINO wait for ever for threads that only the parent has. So the child is told, before it waits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar, Concatenate, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

import torch

from genie_rt.errors import StateError, UnsupportedError

P = ParamSpec("P")
R = TypeVar("R")

_loaded_in: int | None = None
"""The process that loaded a world last, or inherited one when it was forked."""


class Home:
    """The process that something belongs to."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def check(self) -> None:
        """Raises `StateError` in any other process."""
        if os.getpid() != self._pid:
            raise StateError(
                f"this world was loaded in the process {self._pid} and this is its fork {os.getpid()}, where "
                "the threads that compute its frames do not exist: load the world in the worker, or use "
                'spawn (multiprocessing.get_context("spawn")); a worker that is forked must be forked before '
                "any world is loaded"
            )


def enter_process() -> None:
    """Remembers that this process loads a world.

    Raises:
        StateError: it was forked from a process that had loaded one, and computes with several threads: those
            of torch would wait for ever.
    """
    global _loaded_in
    pid = os.getpid()
    if _loaded_in not in (None, pid) and torch.get_num_threads() > 1:
        raise StateError(
            f"this process was forked from {_loaded_in}, which had loaded a world: torch's threads do not "
            "survive that, and loading would wait for ever; use spawn "
            '(multiprocessing.get_context("spawn")), fork before a world is loaded, or call '
            "torch.set_num_threads(1) in the worker first"
        )
    _loaded_in = pid


Call: TypeAlias = tuple[str, threading.Thread]
"""What is called, and who calls."""


class Turn:
    """Lets one call at a time through; a second one is an error and does not wait."""

    __slots__ = ("holders", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.holders: dict[str, Call] = {}  # of nobody or one, under ""

    def take(self, call: Call) -> None:
        """Begins a call.

        Raises:
            StateError: another call is not over yet.
        """
        holder = self.holders.setdefault("", call)  # atomic
        if holder is call:
            return
        name, thread = holder
        if thread is call[1]:
            raise StateError(
                f"{call[0]}: this {self.what} is in the middle of {name}, which this call came out of; call "
                "it when that has returned"
            )
        raise StateError(
            f"{call[0]}: this {self.what} is being used by another thread ({name} in {thread.name!r}); use "
            f"one {self.what} per thread, or a lock around every call"
        )

    def leave(self, call: Call) -> None:
        """Ends a call, if it began."""
        if self.holders.get("") is call:
            del self.holders[""]


@contextmanager
def together(turns: Iterable[Turn], name: str) -> Iterator[None]:
    """Takes several turns for one call, all of them or none.

    Raises:
        StateError: one of them is taken.
    """
    call, turns = (name, threading.current_thread()), list(turns)
    try:
        for turn in turns:
            turn.take(call)
        yield
    finally:
        for turn in turns:
            turn.leave(call)


class Shared(Protocol):
    """What `exclusive` methods belong to."""

    @property
    def home(self) -> Home: ...

    @property
    def turn(self) -> Turn: ...


S = TypeVar("S", bound=Shared)


def exclusive(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that only one thread may be in, together with all others like it, and only at home."""
    name = method.__name__

    @wraps(method)
    def alone(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.home.check()
        call, turn = (name, threading.current_thread()), self.turn
        holders = turn.holders
        try:
            turn.take(call)
            return method(self, *args, **kwargs)
        finally:  # no call in here: Ctrl-C would come out of it, and the turn would be taken for good
            if "" in holders and holders[""] is call:
                del holders[""]

    return alone


class Uncopied:
    """What cannot be pickled or copied, and says what to do in its place: `instead`."""

    __slots__ = ()
    instead: ClassVar[str]

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UnsupportedError(
            f"a {type(self).__name__} cannot be copied or pickled, nor be sent to another process: "
            f"{self.instead}"
        )
