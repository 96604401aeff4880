"""Which files are imported: folders, files given twice, and names that no encoding or terminal likes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genie_rt.errors import InputError
from genie_rt.training.data.video_files import ENDINGS, KINDS, find_videos, shown_name

CASES = Path(__file__).with_name("cases")


def touch(path: Path, content: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(path) if content is None else content)
    return path


def test_a_folder_stands_for_the_videos_in_it_and_below(tmp_path: Path) -> None:
    names = ["b.MP4", "a/z.mkv", "a/deep/er.webm", "c.gif", "notes.txt", ".hidden.mp4", ".git/x.mp4", "d.png"]
    for name in names:
        touch(tmp_path / name)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    other = touch(tmp_path.with_name(f"{tmp_path.name}-other") / "any.name")
    found = find_videos([other, tmp_path])
    assert found.files == (
        other,
        *(tmp_path / name for name in ("a/deep/er.webm", "a/z.mkv", "b.MP4", "c.gif")),
    )
    assert found.notes == (f"{tmp_path}: 4 videos found",)


def test_a_folder_without_videos_is_refused_with_what_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(InputError) as raised:
        find_videos([tmp_path])
    assert str(raised.value) == (
        f"{tmp_path}: expected a folder with videos ({KINDS}), found none in it or below"
    )
    for kind in KINDS.replace(" or ", ", ").split(", "):
        assert f".{kind}" in ENDINGS


def test_the_same_file_is_imported_once(tmp_path: Path) -> None:
    first = touch(tmp_path / "a.mp4", "content")
    copy = touch(tmp_path / "copy.mp4", "content")
    other = touch(tmp_path / "b.mp4", "CONTENT")
    link = tmp_path / "link.mp4"
    link.symlink_to(first)
    found = find_videos([first, other, first, copy, link, tmp_path / "none.mp4"])
    assert found.files == (first, other, tmp_path / "none.mp4")
    assert found.notes == tuple(f"{each}: the same as {first}, imported once" for each in (first, copy, link))


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        os.mkfifo(tmp_path / name)
    pipes = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    assert find_videos(pipes).files == tuple(pipes)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"M\xfcn.mp4", r"M\xfcn.mp4"),
        ("Mün 日本.mp4".encode(), "Mün 日本.mp4"),
        (b"a\x1b[2Jb\n.mp4", r"a\x1b[2Jb\n.mp4"),
    ],
)
def test_a_name_is_shown_without_harm(name: bytes, shown: str) -> None:
    assert shown_name(Path(os.fsdecode(name))) == shown
    shown_name(Path(os.fsdecode(name))).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["C", "UTF-8", "ascii streams", "ascii names"],
)
def test_no_name_ends_the_import_or_loses_a_later_file(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("av", reason='needs PyAV: pip install -e ".[train]"')
    folder = os.fsencode(tmp_path / "Vidéos")
    os.mkdir(folder)  # noqa: PTH102 (its names are bytes)
    data = {case: (CASES / case).read_bytes() for case in ("slow5.gif", "sar2.mp4", "rot90.mp4")}
    for name, case in (
        (b"M\xfcn.mp4", "sar2.mp4"),
        ("Mün.mp4".encode(), "rot90.mp4"),
        (b"z.gif", "slow5.gif"),
    ):
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(data[case])  # noqa: PTH118
    Path(os.fsdecode(os.path.join(folder, b"broken\xff\n.mp4"))).write_text("no video")  # noqa: PTH118
    done = subprocess.run(
        [sys.executable, "-m", "genie_rt", "data", "video", folder, "--out", os.path.join(folder, b"s\xfc")],  # noqa: PTH118
        capture_output=True,
        check=False,
        env={**environment, "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr.decode(errors="replace")
    for line in (rb"M\xfcn.mp4: 20 frames", b"z.gif: 119 frames"):
        assert line in done.stdout
    assert rb"broken\xff\n.mp4: skipped" in done.stderr
    index = json.loads(Path(os.fsdecode(os.path.join(folder, b"s\xfc", b"store.json"))).read_text())  # noqa: PTH118
    assert sum(index["shards"]) == 159
    names = index["provenance"]["files"]
    assert r"M\xfcn.mp4" in names and len(names) == 4
    "".join(names).encode()
