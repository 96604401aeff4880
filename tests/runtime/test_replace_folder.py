"""A folder takes another one's place, and a kill at any moment loses neither."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from genie_rt.errors import InputError, StateError
from genie_rt.runtime import replace_folder
from genie_rt.runtime.folder_lock import sole_writer
from genie_rt.runtime.replace_folder import moved_away, new_folder, put_in_place, restored

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and locks")

CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from genie_rt.runtime import replace_folder
from genie_rt.runtime.replace_folder import new_folder, put_in_place

out, point, exchange = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "exchange"

def kill_at(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)

if not exchange:
    replace_folder._exchange = lambda a, b: False
else:
    given = replace_folder._exchange
    def exchange_and_die(a, b):
        kill_at("before the exchange")
        done = given(a, b)
        kill_at("after the exchange")
        return done
    replace_folder._exchange = exchange_and_die
rename, count = Path.rename, 0
def rename_and_die(self, target):
    global count
    count += 1
    kill_at(f"before rename {count}")
    found = rename(self, target)
    kill_at(f"after rename {count}")
    return found
Path.rename = rename_and_die
rmtree = shutil.rmtree
def remove_and_die(path, **options):
    kill_at("before removal")
    next(Path(path).iterdir(), Path(path) / "none").unlink(missing_ok=True)
    kill_at("in removal")
    rmtree(path, **options)
shutil.rmtree = remove_and_die
with new_folder(out, lambda folder: True) as new:
    new.mkdir()
    for name in ("a", "b"):
        (new / name).write_text("new")
        kill_at(f"after {name}")
    put_in_place(new, out, lambda was: None)
    kill_at("at the end")
print("done")
"""
EXCHANGE = (
    "after a",
    "before the exchange",
    "after the exchange",
    "before removal",
    "in removal",
    "at the end",
)
RENAMES = (
    "after b", "before rename 1", "after rename 1", "before rename 2", "after rename 2", "before removal",
    "in removal",
)  # fmt: skip


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    for name in ("a", "b"):
        (path / name).write_text(text)
    return path


def texts(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(path.iterdir())}


def write(out: Path, text: str) -> None:
    with new_folder(out, lambda folder: True) as new:
        folder(new, text)
        put_in_place(new, out, lambda was: None)


@pytest.mark.parametrize(
    ("how", "point"),
    [*(("exchange", point) for point in EXCHANGE), *(("renames", point) for point in RENAMES)],
)
def test_a_kill_at_any_moment_leaves_one_of_the_two_whole(tmp_path: Path, how: str, point: str) -> None:
    if how == "exchange" and sys.platform != "linux":
        pytest.skip("needs renameat2, which Linux has")
    out = folder(tmp_path / "out", "old")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(out), point, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    between = (how, point) in (("renames", "after rename 1"), ("renames", "before rename 2"))
    assert out.exists() is not between  # the exchange leaves no moment without a folder
    assert restored(out) is between
    before = texts(out)
    assert before in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})
    write(out, "next")
    assert texts(out) == {"a": "next", "b": "next"}
    assert list(tmp_path.iterdir()) == [out]  # nothing of the killed one is left


@pytest.mark.parametrize("exchange", [True, False])
def test_what_the_check_refuses_stays(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(replace_folder, "_exchange", lambda a, b: False)
    out = folder(tmp_path / "out", "old")

    def refuse(was: Path) -> None:
        assert texts(was) == {"a": "old", "b": "old"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_folder(out, lambda folder: True) as new:
        put_in_place(folder(new, "new"), out, refuse)
    assert texts(out) == {"a": "old", "b": "old"}
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_not_ours_is_kept_and_a_live_one_is_never_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = folder(tmp_path / ".out.0123abcd", "somebody's")
    others = [folder(tmp_path / name, "x") for name in (".out.0123abc", ".out2.0123abcd", "out.0123abcd")]
    with new_folder(out, lambda folder: False):
        assert left.exists()
    with new_folder(out, lambda folder: True) as live:
        live.mkdir()
        assert not left.exists()
        with (
            pytest.raises(
                StateError,
                match=f"out: expected no other process exporting to it, found process {os.getpid()}",
            ),
            new_folder(out, lambda folder: True),
        ):
            pass
        assert live.exists() and not restored(out)
    assert all(path.exists() for path in others)


def test_a_reader_puts_back_only_what_nobody_is_at_work_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = folder(tmp_path / ".out.0123abcd.old", "old")
    with sole_writer(tmp_path / ".out.lock", out, "exporting to it"):
        assert not restored(out)
    assert moved_away(out) == old
    assert restored(out) and texts(out) == {"a": "old", "b": "old"}
    assert moved_away(out) is None and not restored(out)
    for name in ("a\0b/c", "a" * 300, "nowhere/out"):
        assert moved_away(tmp_path / name) is None and not restored(tmp_path / name)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a lock."""
    code = f"""
        from pathlib import Path
        from genie_rt.runtime.folder_lock import sole_writer
        with sole_writer(Path({str(tmp_path)!r}) / ".lock", Path("x"), "training into it"):
            print("locked", flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    def take() -> None:
        with sole_writer(tmp_path / ".lock", tmp_path, "training into it"):
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"

    with pytest.raises(StateError) as raised:
        take()
    assert str(raised.value) == (
        f"{tmp_path}: expected no other process training into it, found process {holder.pid}; wait until it "
        "ends, stop it, or choose another folder"
    )
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()  # the file outlives a kill, the lock does not
    take()
    take()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_no_way_to_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine")
    with (
        pytest.raises(InputError, match="expected a folder to write to"),
        sole_writer(tmp_path / ".lock", tmp_path, "training into it"),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "years of work"
