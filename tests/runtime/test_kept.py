"""What is kept is given back to the byte, or not at all; and nothing that goes wrong there stops anybody."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.runtime import kept as kept_module
from genie_rt.runtime.kept import Kept, private_folder
from genie_rt.runtime.sealed import write_sealed

WANTED = {"graph": "a" * 64, "shapes": [["index", [3]]], "options": {"threads": 2}}
OTHER = {**WANTED, "options": {"threads": 3}}
DATA = bytes(range(256)) * 4


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "cache" / "compiled")


def files(kept: Kept) -> list[Path]:
    assert kept.root is not None
    return sorted(kept.root.iterdir())


def test_bytes_come_back_for_what_they_were_made_of_and_for_nothing_else(kept: Kept) -> None:
    assert kept.find(WANTED) is None
    kept.keep(WANTED, DATA)
    assert kept.find(WANTED) == Kept(kept.root).find(WANTED) == DATA
    assert kept.find(OTHER) is None
    kept.keep(WANTED, DATA[::-1])
    assert kept.find(WANTED) == DATA[::-1] and len(files(kept)) == 1
    kept.drop(WANTED)
    assert kept.find(WANTED) is None and files(kept) == []


def test_the_folder_is_its_owners_alone(kept: Kept) -> None:
    kept.keep(WANTED, DATA)
    assert kept.root is not None and kept.root.stat().st_mode & 0o777 == 0o700


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut short":
        path.write_bytes(data[:-1])
    elif how == "longer":
        path.write_bytes(data + b"x")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a bit flipped":
        path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    elif how == "no line":
        path.write_bytes(DATA)
    elif how == "another's":
        write_sealed(path, OTHER, DATA)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "a named pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    "how",
    ["cut short", "longer", "empty", "a bit flipped", "no line", "another's", "a folder", "a named pipe"],
)
def test_what_is_not_what_was_written_is_not_given(
    kept: Kept, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept.keep(WANTED, DATA)
    (path,) = files(kept)
    damage(path, how)
    assert kept.find(WANTED) is None
    assert "it is made again" in caplog.text
    if how != "a folder":
        assert not path.exists()  # and is not looked at again
        kept.keep(WANTED, DATA)
        assert kept.find(WANTED) == DATA


def test_what_was_not_asked_for_longest_goes_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_bytes=3 * (len(DATA) + 400))
    made: list[dict[str, Any]] = [{"number": number} for number in range(4)]
    for number, wanted in enumerate(made[:3]):
        kept.keep(wanted, DATA)
        (newest,) = (path for path in files(kept) if path.stat().st_mtime > 1000)
        os.utime(newest, (number, number))
    assert kept.find(made[0]) == DATA  # so that the second is the oldest
    kept.keep(made[3], DATA)
    assert [kept.find(wanted) is not None for wanted in made] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(kept)) <= kept.max_bytes


def test_what_does_not_fit_at_all_is_not_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_bytes=len(DATA) - 1)
    kept.keep(WANTED, DATA)
    assert kept.find(WANTED) is None and files(kept) == []


def test_what_a_killed_process_was_writing_is_swept(kept: Kept) -> None:
    kept.keep(WANTED, DATA)
    assert kept.root is not None
    old, new = kept.root / ".a.kept.0.tmp", kept.root / ".b.kept.0.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - kept_module.LEFTOVER_S - 60
    os.utime(old, (long_ago, long_ago))
    kept.keep(OTHER, DATA)
    assert not old.exists() and new.exists()


def test_none_keeps_nothing() -> None:
    kept = Kept(None)
    kept.keep(WANTED, DATA)
    assert kept.find(WANTED) is None and not kept.is_on
    kept.drop(WANTED)


def test_a_folder_that_others_may_write_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Kept(tmp_path).keep(WANTED, DATA)
    tmp_path.chmod(0o777)
    kept = Kept(tmp_path)
    assert kept.find(WANTED) is None and not kept.is_on
    assert "only its owner can write, found the mode 777" in caplog.text
    with pytest.raises(UnsupportedError, match="chmod 700"):
        private_folder(tmp_path, "an engine")


def test_a_folder_that_cannot_be_made_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = Kept(tmp_path / "file" / "compiled")
    with caplog.at_level(logging.WARNING):
        kept.keep(WANTED, DATA)
        assert kept.find(WANTED) is None
    assert caplog.text == ""  # such as in a container without a home
    with pytest.raises(InputError, match="can be made"):
        private_folder(tmp_path / "file" / "compiled", "an engine")


def test_a_full_disk_stops_nobody(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, about: dict[str, Any], data: bytes) -> None:
        raise InputError(f"{path}: expected a place that can be written, found: No space left on device")

    monkeypatch.setattr(kept_module, "write_sealed", write)
    kept.keep(WANTED, DATA)
    assert kept.find(WANTED) is None
