"""What is no regular file is refused, at once and with its name; what is one is read, but not without end."""

import os
import socket
from pathlib import Path

import pytest

from genie_rt.errors import BundleError, InputError
from genie_rt.runtime.files import open_regular, read_regular


def refused(path: str | Path, *parts: str, max_bytes: int = 100) -> None:
    with pytest.raises(InputError) as caught:
        read_regular(path, max_bytes, expected="a record")
    for part in (str(path), "expected a record", *parts):
        assert part in str(caught.value)


def test_a_file_and_a_chain_of_links_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"some bytes")
    (tmp_path / "link").symlink_to("blob")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("../link")
    for name in ("blob", "link", "folder/link"):
        assert read_regular(tmp_path / name, 10) == read_regular(str(tmp_path / name), 1000) == b"some bytes"


def test_a_file_of_more_bytes_than_it_may_have(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(101))
    refused(tmp_path / "long", "at most 100 bytes", "101")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    refused(tmp_path / "sparse", "at most 100 bytes", str(1 << 40))


def test_a_file_that_hides_its_size_is_not_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grows").write_bytes(bytes(200))
    size = os.stat_result((0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda descriptor: size)
    refused(tmp_path / "grows", "at most 100 bytes", "101 or more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_devices_sockets_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "pipe", "a named pipe")
    refused(tmp_path / "link", "a named pipe")
    refused(tmp_path / "folder", "a folder")
    refused("/dev/zero", "a device")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))  # a socket may have no long name
        refused(tmp_path / "socket", "a socket")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    before = (tmp_path / "file").stat()
    monkeypatch.setattr(os, "stat", lambda path: before)
    refused(tmp_path / "pipe", "a named pipe")


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    refused(tmp_path / "none", "nothing of that name")
    refused(tmp_path / "dangling", "nothing of that name")
    refused(tmp_path / "loop", "a loop of links")
    refused("a\0b", "nothing of that name")
    refused("a\ud800b", "nothing of that name")
    refused(tmp_path / ("a" * 300), "cannot be read")


def test_the_error_is_the_callers_and_its_own_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothing of that name"), open_regular("nowhere", error=BundleError):
        pass
    (tmp_path / "file").write_bytes(b"12")
    with pytest.raises(ValueError, match="mine"), open_regular(tmp_path / "file") as file:
        raise ValueError("mine")
    assert file.closed
