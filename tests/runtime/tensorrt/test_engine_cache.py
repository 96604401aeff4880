"""The folder of engines: nothing foreign, changed or half-written is ever loaded."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import write_graph
from tensorrt_place import SIGNATURE, Place

from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.runtime.backends.tensorrt.cache import EngineCache, Identity, Settings
from genie_rt.runtime.backends.tensorrt.target import Target

TESTS = Path(__file__).parents[2]
AMPERE = Target(gpu="NVIDIA GeForce RTX 3060", capability=86, driver="580.65")

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import pytest
from tensorrt_place import make_place
with pytest.MonkeyPatch.context() as patch:
    place = make_place(Path({folder!r}), patch, "tensorrt")
    def on_build():
        print("building", flush=True)
        {on_build}
    place.trt.on_build = on_build
    place.obtain()
"""


def child(folder: Path, on_build: str) -> "subprocess.Popen[str]":
    """Another process that builds the same engine, and does something while at it."""
    code = CHILD.format(tests=str(TESTS), folder=str(folder), on_build=on_build)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


CHANGES: dict[str, Any] = {
    "bundle": "f" * 64, "graph": "decode", "graph_sha256": "0" * 64, "precision": "int8", "flavour": "other",
    "version": "11.0.1", "target": AMPERE, "settings": Settings(level=5),
}  # fmt: skip


def test_all_that_an_engine_depends_on_is_in_its_key(full: Place) -> None:
    wanted = full.wanted()
    assert CHANGES.keys() == {field.name for field in fields(Identity)}
    others = [replace(wanted, **{name: value}) for name, value in CHANGES.items()]
    others += [
        replace(wanted, target=replace(wanted.target, **change))
        for change in ({"gpu": "another"}, {"capability": 90}, {"driver": "581.0"})
    ]
    others.append(replace(wanted, settings=Settings(workspace_bytes=1 << 30)))
    assert len({wanted.key, *(other.key for other in others)}) == 1 + len(others)


def test_an_engine_is_built_once(place: Place) -> None:
    first = place.obtain()
    assert place.obtain() == first
    assert place.trt.builds == 1


def test_another_graph_file_is_built_anew(place: Place) -> None:
    first = place.obtain()
    write_graph(place.path, SIGNATURE, note="changed")
    assert place.obtain() != first


def test_an_engine_for_another_gpu_is_refused_by_name_and_rebuilt_on_request(full: Place) -> None:
    full.obtain(AMPERE)
    with pytest.raises(UnsupportedError) as raised:
        full.obtain()
    says = str(raised.value)
    assert "expected an engine of tensorrt 11.0.0 for sm_89 with NVIDIA GeForce RTX 4090" in says
    assert "one of tensorrt 11.0.0 for sm_86 with NVIDIA GeForce RTX 3060 with driver 580.65" in says
    assert "--rebuild" in says
    mine = full.obtain(rebuild=True)
    assert full.obtain() == mine
    full.obtain(AMPERE)
    assert full.trt.builds == 2, "the other GPU's engine was not kept"


@pytest.mark.parametrize("what", ["version", "driver"])
def test_an_engine_of_another_version_is_refused_and_gives_way(full: Place, what: str) -> None:
    full.obtain()
    if what == "version":
        full.flavour = replace(full.flavour, version="11.2.0")
        target = full.wanted().target
    else:
        target = replace(full.wanted().target, driver="600.1")
    with pytest.raises(UnsupportedError, match="11.2.0" if what == "version" else "driver 600.1"):
        full.obtain(target)
    full.obtain(target, rebuild=True)
    assert len(list(full.root.rglob("*.engine"))) == 1, "the useless one was kept"
    assert len(list(full.root.rglob("*.log"))) == 1


@pytest.mark.parametrize("notes", [{"gpu": 5}, {"capability": "x"}, {"driver": None}, {"gpu": "x" * 60_000}])
def test_strange_notes_of_other_engines_do_no_harm(full: Place, notes: dict[str, object]) -> None:
    full.obtain(AMPERE)
    (path,) = full.root.rglob("*.engine")
    line, _, data = path.read_bytes().partition(b"\n")
    seal = json.loads(line)
    seal["about"]["target"] |= notes
    path.write_bytes(json.dumps(seal).encode() + b"\n" + data)
    try:
        full.obtain()
    except UnsupportedError as error:
        assert len(str(error)) < 2000


def test_rtx_engines_serve_all_gpus_of_a_capability(rtx: Place) -> None:
    first = rtx.obtain(AMPERE)
    other = replace(AMPERE, gpu="NVIDIA RTX A2000", driver="600.1")
    assert rtx.obtain(other) == first


def test_other_precisions_and_settings_are_not_foreign(full: Place) -> None:
    full.obtain(AMPERE)
    full.path = full.path.rename(full.path.with_name("pass.int8.onnx"))
    full.obtain(precision="int8")
    assert full.trt.builds == 2


def test_an_engine_that_was_changed_is_refused(place: Place) -> None:
    place.obtain()
    (path,) = place.root.rglob("*.engine")
    whole = path.read_bytes()
    end = whole.index(b"\n")
    broken = {
        "changed": whole[:-1] + b"?",
        "cut": whole[:-5],
        "longer": whole + b"more",
        "headless": whole[end + 1 :],
        "empty": b"",
        "a list": b"[]\n",
        "no end": whole[:end],
    }
    for data in broken.values():
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"\.engine: expected .*found.*--rebuild"):
            place.obtain()
    place.obtain(rebuild=True)
    place.obtain()
    assert place.trt.builds == 2


def test_an_engine_in_anothers_place_is_refused(full: Place) -> None:
    full.obtain(AMPERE)
    (path,) = full.root.rglob("*.engine")
    path.rename(EngineCache(full.root).engine_path(full.wanted()))
    with pytest.raises(BundleError, match="found notes about another one"):
        full.obtain()


def test_damaged_neighbours_do_not_disturb(full: Place) -> None:
    folder = EngineCache(full.root).folder(full.wanted())
    folder.mkdir(parents=True)
    (folder / "0.engine").write_bytes(b"\xff\n")
    (folder / "1.engine").write_bytes(b'{"sha256": 1, "size": 1, "about": {"target": []}}\n')
    full.obtain()
    assert full.trt.builds == 1


def test_the_folder_is_the_owners_alone(place: Place) -> None:
    before = os.umask(0)
    try:
        place.obtain()
    finally:
        os.umask(before)
    assert place.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720])
def test_a_folder_that_others_can_write_is_refused(place: Place, mode: int) -> None:
    place.root.mkdir(parents=True)
    place.root.chmod(mode)
    with pytest.raises(UnsupportedError, match=f"found the mode {mode:o}.*chmod 700"):
        place.obtain()
    assert place.trt.builds == 0


def test_a_folder_of_someone_else_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.obtain()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UnsupportedError, match="expected a folder of the user 4711"):
        place.obtain()


def test_a_folder_that_cannot_be_made_says_so(place: Place) -> None:
    place.root.parent.write_text("a file")
    with pytest.raises(InputError, match="expected a folder that can be made"):
        place.obtain()


def test_a_killed_build_leaves_nothing_and_the_next_one_builds(full: Place, tmp_path: Path) -> None:
    half = f"(Path({str(full.root)!r}) / '0123456789abcdef' / 'pass.float32.tensorrt' / '.x.engine.00.tmp')"
    killed = child(
        tmp_path, f"{half}.write_text('half'); import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    assert killed.wait() == -signal.SIGKILL
    assert [path.name for path in full.root.rglob("*") if path.is_file()] != []
    assert list(full.root.rglob("*.engine")) == []
    full.obtain()
    assert full.trt.builds == 1
    assert list(full.root.rglob(".*")) == [], "what the killed build was writing is still there"


def test_two_processes_that_want_an_engine_build_it_once(
    full: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waits = threading.Event()

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for another process" in record.getMessage():
                waits.set()

    logger, tell = logging.getLogger("genie_rt.tensorrt"), Tell()
    caplog.set_level(logging.INFO, "genie_rt.tensorrt")
    logger.addHandler(tell)
    other = child(tmp_path, "input()")
    got: list[bytes] = []
    mine = threading.Thread(target=lambda: got.append(full.obtain()))
    try:
        assert other.stdout is not None and other.stdout.readline() == "building\n"
        mine.start()
        assert waits.wait(60)
        assert got == []
        other.communicate("\n", timeout=60)
        mine.join(60)
    finally:
        logger.removeHandler(tell)
        other.kill()
    assert other.returncode == 0
    assert len(got) == 1 and full.trt.builds == 0


def test_threads_that_want_an_engine_build_it_once(full: Place) -> None:
    start, got = threading.Barrier(4), []

    def want() -> None:
        start.wait()
        got.append(full.obtain())

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and len({*got}) == 1 and full.trt.builds == 1


def test_a_failed_build_leaves_its_log_and_no_engine(place: Place) -> None:
    place.trt.build_fails = True
    with pytest.raises(Exception, match="no implementation for node_7"):
        place.obtain()
    (log,) = place.root.rglob("*.log")
    assert "ERROR no implementation for node_7" in log.read_text()
    assert list(place.root.rglob("*.engine")) == []
    place.trt.build_fails = False
    place.obtain()
    text = log.read_text()
    assert "INFO engine generated" in text and "thousands" not in text and "node_7" not in text
    assert text.startswith(place.wanted().where)


def test_measurements_are_kept_for_the_next_build(full: Place) -> None:
    full.obtain()
    write_graph(full.path, SIGNATURE, note="changed")
    full.obtain()
    given = [call[1] for call in full.trt.calls if call[0] == "create_timing_cache"]
    assert given == [b"", b"+measured"]


@pytest.mark.parametrize("data", [b"", b"{}\n", b"\x00" * 99])
def test_damaged_measurements_are_made_again(full: Place, data: bytes) -> None:
    full.obtain()
    (path,) = full.root.rglob("*.timing")
    path.write_bytes(data)
    full.obtain(rebuild=True)
    given = [call[1] for call in full.trt.calls if call[0] == "create_timing_cache"]
    assert given == [b"", b""]
