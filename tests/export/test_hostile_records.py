"""Records from outside: what is wrong in one is a line that names file, key, expected and found."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genie_rt.errors import BundleError, InputError
from genie_rt.export.graph_writer import read_psnr_changes
from genie_rt.export.plans import read_recommended
from genie_rt.export.provenance import check_provenance
from genie_rt.export.run_card import card_metrics, read_record

YARDSTICK = {"computation": {"backend": "reference", "dtype": "float32"}, "cost": None, "allowed_distance": 1}


def row(dtype: object = "int8", psnr_db: object = (0.1, -0.3), **changes: object) -> dict[str, Any]:
    return {
        "computation": {"backend": "onnx", "dtype": dtype},
        "cost": {"psnr_db": psnr_db, "distance": 0.3},
        "allowed_distance": 1.0,
    } | changes


def write(path: Path, *rows: object) -> Path:
    path.write_text(json.dumps({"body": {"rows": [YARDSTICK, *rows]}}))
    return path


def test_what_formats_cost_is_read(tmp_path: Path) -> None:
    unreal = row("float16", cost={"psnr_db": [0.0], "distance": 1.1})
    path = write(tmp_path / "p.json", row(), row("bfloat16", [0.05]), unreal, row(cost=None))
    assert read_psnr_changes(path) == {"int8": 0.3, "bfloat16": 0.05}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(psnr_db=[float("nan")]), "found the number NaN, which is not finite"),
        (row(psnr_db=[0.1, float("inf")]), "found the number Infinity, which is not finite"),
        (row(psnr_db=[10**400]), "found a whole number of 401 digits"),
        (row(psnr_db=[1e300]), r"body\.rows\[1\]\.cost\.psnr_db\[0\]: expected a number from -100 to 100"),
        (row(psnr_db=["0.1"]), r'psnr_db\[0\]: expected a number from -100 to 100, found "0\.1"'),
        (row(psnr_db=[True]), r"psnr_db\[0\]: expected a number from -100 to 100, found true"),
        (row(psnr_db=[]), r"psnr_db: expected a list of 1 or more, found 0 entries"),
        (row(psnr_db=0.1), r"psnr_db: expected a list, found 0\.1"),
        (row(dtype=5), r"body\.rows\[1\]\.computation\.dtype: expected a text, found 5"),
        (row(dtype=None), r"computation\.dtype: expected a text, found null"),
        (row(computation=3), r"rows\[1\]\.computation: expected an object, found 3"),
        (row(cost=3), r"rows\[1\]\.cost: expected an object, found 3"),
        (row(allowed_distance=None), r"allowed_distance: expected a number, found null"),
        (row(allowed_distance=float("nan")), "the number NaN"),
        (3, r"body\.rows\[1\]: expected an object, found 3"),
        (row(cost=None), r"body\.rows: expected figures of native, onnx, openvino, tensorrt, found none"),
    ],
)
def test_a_wrong_figure_costs_no_0_db(tmp_path: Path, bad: object, message: str) -> None:
    path = write(tmp_path / "p.json", bad)
    with pytest.raises(InputError, match=message) as raised:
        read_psnr_changes(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
    assert "the JSON record of `genie-rt bench quality --versus`" in str(raised.value)


READERS = (read_psnr_changes, read_recommended, read_record)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"3", b"null", b"[]", b"\xff\xff", b"[" * 100_000, b'{"a":' * 100_000, b'{"a": 1, "a": 2}',
     b'{"body": NaN}', b'{"schema": 1e999}'],
)  # fmt: skip
def test_what_is_no_record_is_one_line(tmp_path: Path, read: Callable[[Path], object], data: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"record\.json: ") as raised:
        read(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, found in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/null"), "a device"),
    ):
        with pytest.raises(InputError, match=f"found {found}"):
            read(path)


@pytest.mark.parametrize("figures", [3, [], "x", True])
def test_figures_are_an_object(tmp_path: Path, figures: object) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"figures": figures}))
    with pytest.raises(InputError, match=r"m\.json: figures: expected an object, found"):
        read_record(path)


def test_an_object_of_numbers_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"psnr_db": 21.5, "rollout": [{"t": 4, "model": {"mean_db": 21.0}}]}')
    assert card_metrics(read_record(path)) == {
        "all": {"psnr dB": 21.5},
        "rollout, t = 4, model": {"mean dB": 21.0},
    }


ORIGIN: dict[str, Any] = {
    "data": {}, "stages": {"dynamics": {"loop": {}, "seconds": 3}}, "versions": None,
    "recipe": {"actions": "logged", "context": "clean", "corruption": 0.1, "averaged_weights": True},
    "export": {"versions": {}, "commit": None, "date": "2026-11-30"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", 3, r"provenance: data: expected an object, found 3"),
        ("recipe", {}, r"provenance: recipe: expected the key 'actions', found an empty object"),
        (
            "recipe",
            ORIGIN["recipe"] | {"corruption": "much"},
            r"recipe\.corruption: expected a number from 0 to 1",
        ),
        ("stages", [], r"provenance: stages: expected an object, found a list of 0"),
        ("stages", {"lam": {"loop": "x"}}, r'stages\.lam\.loop: expected an object, found "x"'),
        ("stages", {"lam": 3}, r"stages\.lam: expected an object, found 3"),
        ("versions", "new", r'versions: expected an object, found "new"'),
        ("export", {"versions": []}, r"export\.versions: expected an object, found a list of 0"),
    ],
)
def test_an_origin_of_another_shape_makes_no_card(key: str, value: object, message: str) -> None:
    check_provenance(ORIGIN)
    with pytest.raises(BundleError, match=message):
        check_provenance(ORIGIN | {key: value})
