"""SIGINT (Ctrl-C), SIGTERM and SIGHUP end `genie-rt` with one line on stderr and exit code 128 + signal.

Python's own way, a KeyboardInterrupt raised wherever the main thread happens to be, is unsafe in a process
full of native code: inside a callback from C++ it aborts the process, in a `__del__` it is printed and lost,
and during imports it is a traceback. So nothing is raised here. A watcher thread, woken through
`signal.set_wakeup_fd` even while the main thread is inside a native call, runs the cleanups that are
registered, prints the line and leaves by `os._exit`; the main thread's handler only keeps the main thread
from going on meanwhile. A second signal, half a second or more after the first, ends the process at once.

- `Cleanup` registers what has to be undone, such as a half-written file.
- `Uninterrupted` puts the end off for a moment, such as two renames that belong together.
- `StopRequest` leaves the end to the code inside: a training step is finished and saved, a game is recorded.

Only `install`, which `genie_rt.__main__` calls, changes how the process treats signals. In a program that
embeds genie-rt `Cleanup` and `Uninterrupted` do nothing, and `StopRequest` handles signals while entered.

This module is imported before everything else, so it imports little.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, NoReturn, Self

LINES = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""Line printed on stderr, by the signal's name."""

SIGNALS = tuple(int(getattr(signal, name)) for name in LINES if hasattr(signal, name))
"""Their numbers; Windows has no SIGHUP."""

_PATIENCE_S = 0.2
"""How long the watcher waits for the main thread's handler: microseconds, unless a native call runs."""

_AGAIN_S = 0.5
"""Signals that come closer together than this are one: a terminal and a wrapper may both send it."""

_CLEANUP_S = 10.0
"""How long cleanups may take while the main thread waits for them."""


class _State:
    """What the handler and the watcher know; one for the process."""

    installed = False
    writer = -1
    """File descriptor that wakes the watcher; -1 without one."""
    signum: int | None = None
    """The first signal that came."""
    since = 0.0
    """Its time, `time.monotonic()`."""
    is_ending = False
    """The process will end: the main thread must not go on."""
    is_parked = False
    """The main thread waits in its handler."""
    uninterrupted = 0
    """Number of `Uninterrupted` blocks that are entered."""
    is_put_off = False
    """A signal came while one was."""
    request: StopRequest | None = None
    """The innermost one that is entered."""
    printing = _thread.allocate_lock()
    mask: set[int | signal.Signals] = set()  # noqa: RUF012 (the process's, as all of this class)
    """What the thread that forks had blocked before."""
    cleanups: list[Callable[[], object]] = []  # noqa: RUF012 (the process's, as all of this class)


def install() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end the process as the module says. Main thread only.

    A signal that the parent process had ignored, as `nohup` and `&` in scripts do, stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    if hasattr(os, "register_at_fork"):  # on Windows only a socket wakes, so there the handler is all
        reader, _State.writer = os.pipe()
        os.set_blocking(_State.writer, False)
        signal.set_wakeup_fd(_State.writer, warn_on_full_buffer=False)
        _thread.start_new_thread(_watch, (reader,))
        os.register_at_fork(before=_hold, after_in_parent=_let_through, after_in_child=_forget)
    _State.installed = True


def finish(code: int = 1) -> int:
    """Ignores further signals, since the work is done and Python takes its time to exit. Main thread only.

    Args:
        code: the exit code of the work.

    Returns:
        `code`. Where that is 128 + signal, since a `StopRequest` ended the work early, stderr got its line.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)
    if _State.signum is not None and code == 128 + _State.signum:
        _print(_State.signum)
    return code


class Cleanup:
    """While entered, a signal that ends the process calls `cleanup` first; the last one entered goes first.

    Args:
        cleanup: undoes what is half done. It is called in another thread, between any two instructions of the
            main thread or during a native call of it; the main thread's Python code never goes on. It must
            import nothing and take no lock that the main thread may hold. What it raises is dropped.
    """

    def __init__(self, cleanup: Callable[[], object]) -> None:
        self._cleanup = cleanup

    def __enter__(self) -> Self:
        _State.cleanups.append(self._cleanup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _State.cleanups.remove(self._cleanup)


class Uninterrupted:
    """While entered, a signal is only remembered; it ends the process when the block is left."""

    def __enter__(self) -> Self:
        _State.uninterrupted += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _State.uninterrupted -= 1
        if _State.is_put_off and not _State.uninterrupted and _State.signum is not None:
            _State.is_ending = True
            if _State.writer >= 0:
                os.write(_State.writer, bytes([_State.signum]))
            _wait_for_the_end()


class StopRequest:
    """While entered, the first signal is only remembered, in `signum`.

    What comes after the block is the caller's: to stop, and to return 128 + signal. A second SIGINT, for work
    that hangs, ends the process where `install` was called, and raises KeyboardInterrupt elsewhere; elsewhere
    only SIGINT and SIGTERM are handled, and the old handlers come back after. Outside the main thread, where
    Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}
        self._outer: StopRequest | None = None

    def __enter__(self) -> Self:
        import threading

        if threading.current_thread() is threading.main_thread():
            self._outer, _State.request = _State.request, self
            if not _State.installed:
                for number in (signal.SIGINT, signal.SIGTERM):
                    self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if _State.request is self:
            _State.request = self._outer

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is None:
            self.signum = signum


def _on_signal(signum: int, frame: FrameType | None) -> None:
    """The main thread's handler: returns only where the end is put off."""
    now = time.monotonic()
    if _State.signum is None:
        _State.signum, _State.since = signum, now
    again = now - _State.since >= _AGAIN_S
    if _State.is_parked:  # the cleanups take long
        if again:
            _end(_State.signum)
        return
    if not _State.is_ending and not again:
        if _State.request is not None:
            _State.request.signum = _State.signum
            return
        if _State.uninterrupted:
            _State.is_put_off = True
            return
    _State.is_ending = True
    _wait_for_the_end()


def _wait_for_the_end() -> NoReturn:
    if _State.writer < 0:
        _leave()
    _State.is_parked = True
    start = time.monotonic()
    while time.monotonic() - start < _CLEANUP_S:
        time.sleep(0.1)
    _end(_State.signum or signal.SIGINT)


def _watch(reader: int) -> NoReturn:
    """Ends the process once it was asked to. Runs in a thread of its own."""
    asked: float | None = None
    while True:
        for number in os.read(reader, 64):
            if number not in SIGNALS or signal.getsignal(number) is not _on_signal:
                continue
            now = time.monotonic()
            again = asked is not None and now - asked >= _AGAIN_S
            asked = asked or now
            while not _State.is_ending and time.monotonic() - now < _PATIENCE_S:
                time.sleep(0.005)
            if _State.is_ending or again or not (_State.uninterrupted or _State.request):
                _State.is_ending = True  # where the main thread is in a native call, it does not know yet
                _State.signum, _State.since = _State.signum or number, _State.since or now
                _leave()


def _leave() -> NoReturn:
    cleanups = [] if _State.uninterrupted else _State.cleanups[::-1]
    for cleanup in (*cleanups, _kill_children):
        try:
            cleanup()
        except BaseException:  # the process ends: the next cleanup must still run, and none can be told of
            continue
    _end(_State.signum or signal.SIGINT)


def _kill_children() -> None:
    """Raises anything where the module is only half imported, and then there are none."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        for child in processes.active_children():
            child.kill()


def _end(signum: int) -> NoReturn:
    _print(signum)
    os._exit(128 + signum)


def _print(signum: int) -> None:
    """One line, whichever thread is first, past Python's buffers, which the main thread may hold locked."""
    if not _State.printing.acquire(blocking=False):
        time.sleep(0.05)
        return
    line = f"{LINES[signal.Signals(signum).name]}\n"
    try:
        if os.isatty(2):
            line = (
                f"\r\x1b[2K\x1b[?25h{line}"  # over the line of a progress bar; shows the cursor that it hid
            )
        os.write(2, line.encode())
    except OSError:
        return


def _hold() -> None:
    """Keeps signals waiting during a fork: a child with the same pipe would wake the parent's watcher."""
    _State.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _State.mask)


def _forget() -> None:
    """Makes a forked child die of signals as any process does; the parent speaks."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL)
    _State.installed, _State.writer = False, -1
    _State.cleanups.clear()
    _let_through()
