"""Signals end `genie-rt` with one line and exit code 128 + signal, and no half-made file stays."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_runs import write_store

from genie_rt.interrupt import StopRequest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at signals in /proc")

LINE = {signal.SIGINT: "interrupted\n", signal.SIGTERM: "terminated\n", signal.SIGHUP: "hung up\n"}

START = """
import os, sys, time
from genie_rt.interrupt import Cleanup, StopRequest, Uninterrupted, finish, install
install()
def ready():
    print("ready", flush=True)
"""


@contextmanager
def running(body: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that handles signals and has said that it is ready."""
    with subprocess.Popen(
        [*words, sys.executable, "-c", START + body],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


LONG = {
    "python": "ready()\nwhile True: pass",
    "sleep": "ready()\ntime.sleep(60)",
    "native": "import hashlib\nready()\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",  # without the GIL
    "finaliser": """
class Swallows:
    def __del__(self):
        ready()
        while True: pass
Swallows()
""",
    "callback": """
import ctypes
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def compare(first, second):
    ready()
    while True: pass
ctypes.CDLL(None).qsort((ctypes.c_int * 2)(1, 2), 2, 4, compare)
""",
    "import": """
sys.path.insert(0, "{folder}")
open("{folder}/slow_module.py", "w").write("import __main__\\n__main__.ready()\\nwhile True: pass\\n")
import slow_module
""",
    "half-imported": """
import types
sys.modules["multiprocessing.process"] = types.ModuleType("multiprocessing.process")
ready()
while True: pass
""",
    "thread": """
import threading
lock = threading.Lock()
lock.acquire()
ready()
lock.acquire()
""",
}


@pytest.mark.parametrize("where", LONG)
def test_a_signal_ends_with_one_line_wherever_it_hits(where: str, tmp_path: Path) -> None:
    with running(LONG[where].replace("{folder}", str(tmp_path))) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_have_lines_of_their_own(number: signal.Signals) -> None:
    with running(LONG["python"]) as process:
        process.send_signal(number)
        assert ended(process) == (128 + number, "", LINE[number])


CLEANUPS = "with Cleanup(lambda: print('second', flush=True)), Cleanup(lambda: print('first', flush=True)):"


@pytest.mark.parametrize("body", [LONG["python"], LONG["native"]])
def test_cleanups_run_the_last_first(body: str) -> None:
    block = "\n".join("    " + line for line in body.splitlines())
    with running(f"with Cleanup(lambda: print('never')): pass\n{CLEANUPS}\n{block}") as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "first\nsecond\n", "interrupted\n")


def test_a_second_signal_does_not_wait_for_cleanups() -> None:
    with running("with Cleanup(lambda: (print('hangs', flush=True), time.sleep(60))):\n"
                 "    ready()\n    time.sleep(60)") as process:  # fmt: skip
        process.send_signal(signal.SIGINT)
        assert process.stdout and process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGINT)  # a wrapper's, within half a second: the same one again
        time.sleep(0.6)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "", "interrupted\n")


def test_what_belongs_together_is_done_together() -> None:
    body = (
        "with Uninterrupted():\n    ready()\n    time.sleep(0.3)\n    print('whole', flush=True)\nprint('on')"
    )
    with running(body) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "whole\n", "interrupted\n")


REQUEST = """
with StopRequest() as stop:
    ready()
    while stop.signum is None or {hangs}: time.sleep(0.01)
print("saved", stop.signum, flush=True)
sys.exit(finish(128 + stop.signum))
"""


@pytest.mark.parametrize("number", LINE)
def test_a_stop_request_leaves_the_end_to_the_work(number: signal.Signals) -> None:
    with running(REQUEST.format(hangs=False)) as process:
        process.send_signal(number)
        assert ended(process) == (128 + number, f"saved {int(number)}\n", LINE[number])


def test_a_second_signal_ends_work_that_hangs() -> None:
    with running(REQUEST.format(hangs=True)) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.7)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "", "interrupted\n")


def test_work_that_is_done_is_not_undone_by_a_signal() -> None:
    with running("finish(0)\nready()\ntime.sleep(0.3)\nprint('result')\nsys.exit(7)") as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (7, "result\n", "")


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    with running("ready()\ntime.sleep(0.3)\nprint('on')", "nohup") as process:
        process.send_signal(signal.SIGHUP)
        code, out, _ = ended(process)  # nohup itself may say that it ignores input
        assert (code, out) == (0, "on\n")


def test_a_forked_child_dies_alone() -> None:
    body = """
import warnings
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads
child = os.fork()
if child == 0:
    time.sleep(60)
ready()
os.kill(child, 2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(0.4)
"""
    with running(body) as process:
        assert ended(process) == (0, f"{-signal.SIGINT}\n", "")


def test_children_end_with_the_parent() -> None:
    body = """
import multiprocessing
multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
ready()
time.sleep(60)
"""
    with running(body) as process:
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (143, "", "terminated\n")  # once nobody holds the outputs, the child too


def test_a_program_that_embeds_it_keeps_its_handlers() -> None:
    before = [signal.getsignal(number) for number in LINE]
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in LINE] == before


# --- whole commands --------------------------------------------------------------------------------------


def start_and_stop(
    words: list[str], folder: Path, number: signal.Signals, delay_s: float
) -> tuple[int, str, str]:
    """Starts `genie-rt` with the words and sends the signal `delay_s` after it handles signals.

    What comes earlier is the interpreter's own start, which no program can change.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "genie_rt", *words], cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            while not handles(process.pid, signal.SIGHUP):  # the last one to be installed
                assert process.poll() is None, process.communicate()
                time.sleep(0.001)
            time.sleep(delay_s)
            process.send_signal(number)
            return ended(process)
        finally:
            process.kill()


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


COMMANDS = (
    "info demo",
    "play demo --headless --steps 2000 --out clip.gif --log log.json",
    "bench demo --json record.json",
    "export demo --out bundle --onnx --plan default",
    "train tokenizer --data {store} --out run --steps 10000 --batch 2 --clip 2",
    "verify demo --json record.json",
    "bench long --steps 100000 --json record.json",
    "data prompts {store} --out prompts --count 1 --frame 2",
)


def check_starts(store: Path, folder: Path, *, starts: int, most_delay_s: float, seed: int) -> dict[str, int]:
    """Starts the commands in turn, each stopped at a random moment; counts those stopped and those done."""
    chance = random.Random(seed)
    counts = {"stopped": 0, "done": 0}
    for index in range(starts):
        words = COMMANDS[index % len(COMMANDS)].format(store=store).split()
        number = chance.choice((signal.SIGINT, signal.SIGINT, signal.SIGTERM))
        delay_s = most_delay_s * chance.random()
        place = folder / str(index)
        place.mkdir()
        code, out, err = start_and_stop(words, place, number, delay_s)
        told = f"{words} after {delay_s:.3f} s of seed {seed}: {code}, {out!r}, {err!r}"
        hidden = [
            path for path in place.rglob(".*") if path.suffix != ".lock"
        ]  # held, and let go by the kernel
        assert not hidden and not list(place.rglob("*.tmp")), f"{told}; left {hidden}"
        if code == 0:  # it was faster
            assert err == "", told
            counts["done"] += 1
        else:
            assert (code, err) == (128 + number, LINE[number]), told
            counts["stopped"] += 1
    return counts


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of the size that the preset demo has."""
    return write_store(tmp_path_factory.mktemp("clips") / "store", height=64, width=64)


def test_commands_stop_at_any_moment(store: Path, tmp_path: Path) -> None:
    counts = check_starts(store, tmp_path, starts=len(COMMANDS), most_delay_s=0.8, seed=1)
    assert counts["stopped"] >= len(COMMANDS) // 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_commands_stop_at_any_moment(store: Path, tmp_path: Path, seed: int) -> None:
    counts = check_starts(store, tmp_path, starts=48, most_delay_s=6.0, seed=100 + seed)
    assert counts["stopped"] >= 24
