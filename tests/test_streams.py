"""Output that is closed, full, or that nobody reads any more: one line or none, and never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of sh in which `$0` is the command."""
    return subprocess.run(
        ["sh", "-c", line.replace("genie-rt", '"$0" -m genie_rt'), sys.executable],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "genie-rt --version >&-",
        "genie-rt info demo >&-",
        "genie-rt data coinrun --help >&-",
        "genie-rt --version <&- >&-",
    ],
)
def test_a_closed_standard_output_is_one_line(line: str) -> None:
    done = shell(line)
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output cannot be written: Bad file descriptor; send it to another place or to "
        "/dev/null\n"
    )


@needs_full
@pytest.mark.parametrize("command", ["--version", "info demo", "--help", "data coinrun --help"])
def test_a_full_standard_output_is_one_line(command: str) -> None:
    done = shell(f"genie-rt {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output cannot be written: No space left on device; send it to another place or to "
        "/dev/null\n"
    )


@pytest.mark.parametrize("end", ["2>&-", "<&- 2>&-"])
def test_a_closed_standard_error_changes_no_exit_code(end: str) -> None:
    assert shell(f"genie-rt info nowhere {end}").returncode == 1
    assert shell(f"genie-rt --version {end}").returncode == 0


@needs_full
def test_a_full_standard_error_changes_no_exit_code() -> None:
    assert shell("genie-rt info nowhere 2> /dev/full").returncode == 1


def test_nothing_is_printed_into_a_file_that_took_the_number_of_standard_output(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom genie_rt import streams\nstreams.prepare()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "sys.exit(1 if file.fileno() < 3 else 0)"
    )
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)
    assert done.returncode == 0


def test_a_reader_that_wants_one_line_gets_it_and_no_traceback() -> None:
    done = shell("genie-rt info demo | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_name_of_any_bytes_is_printed_as_it_is() -> None:
    code = "import os\nfrom genie_rt import streams\nstreams.prepare()\nprint(os.fsdecode(b'caf\\xe9'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout == b"caf\xe9\n"
