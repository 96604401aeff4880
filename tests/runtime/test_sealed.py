"""A sealed file is what was written, to the byte, or one line says what it is not."""

import json
import os
from pathlib import Path

import pytest

from genie_rt.errors import BundleError
from genie_rt.runtime.sealed import read_about, read_sealed, write_sealed

ABOUT = {"gpu": "one"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_sealed(tmp_path / "it", ABOUT, b"bytes")
    return tmp_path / "it"


def refuse(path: Path, *parts: str) -> None:
    with pytest.raises(BundleError) as raised:
        read_sealed(path)
    for part in (str(path), *parts):
        assert part in str(raised.value)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("sha256", [0] * 10_000, "a list of 10000"),
        ("sha256", "x" * 10_000, "64 digits"),
        ("sha256", None, "null"),
        ("size", "5", "a whole number"),
        ("size", 5.0, "a whole number"),
        ("size", True, "a whole number"),
        ("size", -1, "a whole number"),
        ("size", 6, "the size 6 that was written, found 5"),
        ("about", [], "an object"),
    ],
)
def test_notes_of_another_kind_are_refused_in_one_line(
    key: str, value: object, found: str, path: Path
) -> None:
    line, _, data = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(json.loads(line) | {key: value}).encode() + b"\n" + data)
    refuse(path, found)


def test_a_file_of_another_size_is_not_read(path: Path) -> None:
    os.truncate(path, 1 << 42)  # sparse: more than any memory holds
    refuse(path, "the size 5 that was written")


def test_other_bytes_of_the_same_size_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refuse(path, "the sha256", "changed or damaged")
    assert read_about(path) == ABOUT
