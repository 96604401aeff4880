"""A bundle that was touched anywhere is refused with one BundleError that names the file."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_bundle import CONFIG, HEIGHT, WIDTH, edit, refuse, seal

from genie_rt.errors import BundleError
from genie_rt.runtime import bundle as module
from genie_rt.runtime.bundle import (
    SCHEMA_VERSION,
    open_bundle,
    shipped_bundles,
)
from genie_rt.runtime.manifest import GraphManifest, Int8Manifest
from genie_rt.runtime.plan import Plan


def test_all_that_was_written_comes_back(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert (bundle.name, bundle.preset, bundle.config) == ("tiny", "custom", CONFIG)
    assert bundle.action_names == ("left", "stay", "right")
    assert bundle.default_action == "stay"
    assert dict(bundle.plans) == {"default": Plan(passes=4), "best": Plan(passes=6, temperature=2.0)}
    assert bundle.provenance["nested"] == {"list": [1, 2.5, None, True]}
    assert [path.relative_to(folder).as_posix() for path in bundle.prompts] == [
        "prompts/000.png",
        "prompts/001.png",
    ]
    assert bundle.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert bundle.files["weights.safetensors"].size == (folder / "weights.safetensors").stat().st_size


def test_a_path_a_string_and_a_link_to_the_folder_open_the_same_bundle(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert open_bundle(folder) == open_bundle(str(folder)) == open_bundle(folder.parent / "link")


def test_a_shipped_bundle_opens_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHIPPED", folder.parent)
    assert shipped_bundles() == ("tiny",)
    assert open_bundle("tiny").path == folder.resolve()


def test_an_unknown_name_lists_the_shipped_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHIPPED", folder.parent)
    refuse("tinny", "'tinny'", "(tiny)", "nothing of that name", "bundle.json")
    refuse(str(folder / "bundle.json"), "a file")
    refuse("../nowhere", "nothing of that name")
    refuse("a\0b", "nothing of that name")


def test_names_of_shipped_bundles_do_not_apply_to_paths(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHIPPED", folder.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    refuse(Path("tiny"), "nothing of that name")


def test_opening_a_bundle_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys; from genie_rt.runtime.bundle import open_bundle; "
        "open_bundle(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


# --- bundle.json -----------------------------------------------------------------------------------------


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *parents, last = key.split("/")
        for parent in parents:
            values = values[parent]
        values[last] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *parents, last = key.split("/")
        for parent in parents:
            values = values[parent]
        del values[last]

    return change


RECORD = {"sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("schema_version", SCHEMA_VERSION + 1), ("schema_version 1", "found 2", "newer genie-rt")),
        (put("schema_version", 0), ("schema_version 1", "found 0", "export the bundle again")),
        (put("schema_version", True), ("schema_version 1", "found True")),
        (put("schema_version", "1"), ("schema_version 1", "found '1'")),
        (drop("schema_version"), ("schema_version 1", "found none")),
        (lambda values: [values], ("expected an object, found list",)),
        (lambda values: "text", ("expected an object, found str",)),
        (put("nmae", "x"), ("unknown key 'nmae'", "did you mean 'name'")),
        (put("config/dynamics/merg", 1), ("unknown key 'merg'", "did you mean 'merge'")),
        (put("plans/default/pases", 1), ("unknown key 'pases'", "'default'")),
        (put("files/README.md/mode", 511), ("unknown key 'mode'", "README.md")),
        (put("k" * 100_000, 1), ("unknown key",)),
        (drop("config"), ("'config' is missing",)),
        (drop("config/tokenizer/patch"), ("'patch' is missing",)),
        (put("config/tokenizer/patch", 0), ("TokenizerConfig.patch", "found 0")),
        (put("config/tokenizer/codebook_size", 10**400), ("expected JSON", "401 digits")),
        (put("config/tokenizer/patch", 4.0), ("expected int, found 4.0",)),
        (put("name", "../evil"), ("name", "'../evil'")),
        (put("name", "tiny\n"), ("name", "'tiny\\n'")),
        (put("name", 7), ("name", "expected str, found 7")),
        (put("preset", ""), ("preset",)),
        (put("action_names", ["left", "right"]), ("action_names", "expected 3 names")),
        (put("action_names", ["left", "stay", "stay"]), ("action_names", "every name once", "stay")),
        (put("action_names", ["left", "stay", "\x1b[2J"]), ("action_names", "printable")),
        (put("action_names", ["left", "stay", "\ud800"]), ("expected JSON", "surrogate")),
        (put("action_names", ["left", "stay", ""]), ("action_names",)),
        (put("action_names", ["left", "stay", 3]), ("action_names[2]", "expected str")),
        (put("action_names", "lsr"), ("action_names", "expected a list")),
        (put("default_action", "jump"), ("default_action", "'jump'")),
        (drop("plans/default"), ("plans", '"default"')),
        (put("plans", []), ("plans", "expected an object")),
        (put("plans/a b", {}), ("plans", "'a b'")),
        (put("plans", {"default": {}, **{f"p{i}": {} for i in range(64)}}), ("plans", "at most 64")),
        (put("plans/best/order", "raster"), ("plans['best']", "'raster'")),
        (put("plans/best/passes", 0), ("plans['best']", "passes")),
        (put("plans/best/passes", 4097), ("plans['best']", "passes")),
        (put("plans/best/passes", True), ("plans['best']", "passes")),
        (put("plans/best/temperature", 0), ("plans['best']", "temperature")),
        (put("plans/best/temperature", float("nan")), ("expected JSON", "NaN")),
        (put("plans/best/noise", -1), ("plans['best']", "noise")),
        (put("plans/best/noise", 10**400), ("expected JSON", "401 digits")),
        (put("provenance", None), ("provenance", "expected an object")),
        (put("provenance/loss", float("inf")), ("expected JSON", "Infinity")),
        (drop("files/weights.safetensors"), ("files", "a record of weights.safetensors")),
        (put("files/README.md", 3), ("files['README.md']", "expected an object")),
        (put("files/README.md/size", -1), ("files['README.md']", "size")),
        (put("files/README.md/size", 1.5), ("files['README.md']", "size")),
        (put("files/README.md/size", 10**18), ("files['README.md']", "size")),
        (put("files/README.md/sha256", "0" * 63), ("files['README.md']", "sha256")),
        (put("files/README.md/sha256", "0" * 64 + "\n"), ("files['README.md']", "sha256")),
        (put("files/README.md/sha256", "F" * 64), ("files['README.md']", "sha256")),
        (
            lambda values: values["files"].update({f"{i}.onnx": {**RECORD, "size": 2**35} for i in range(3)}),
            ("files", "together"),
        ),
        (
            lambda values: values["files"].update({f"{i}.onnx": RECORD for i in range(1024)}),
            ("files", "at most 1024"),
        ),
    ],
)
def test_a_manifest_that_says_something_wrong(
    folder: Path, change: Callable[[dict[str, Any]], Any], parts: tuple[str, ...]
) -> None:
    edit(folder, change)
    refuse(folder, "bundle.json", *parts)


GRAPHS = {"opset": 23, "precisions": ["float32", "int8"], "frame_plans": ["best"]}
GRAPH_NAMES = ("encode", "commit", "pass", "pass-at", "decode", "frame-best")


def with_graphs(values: dict[str, Any]) -> None:
    values["graphs"] = dict(GRAPHS)
    values["files"].update({f"{name}{kind}.onnx": RECORD for name in GRAPH_NAMES for kind in ("", ".int8")})


def test_graphs_are_hashed_like_the_rest(folder: Path) -> None:
    edit(folder, with_graphs)
    listed = json.loads((folder / "bundle.json").read_text())["files"]
    for name in listed:
        if name.endswith(".onnx"):
            (folder / name).write_bytes(b"graph")
    refuse(folder, ".onnx")
    seal(folder)
    bundle = open_bundle(folder)
    assert bundle.graphs == GraphManifest(opset=23, precisions=("float32", "int8"), frame_plans=("best",))
    assert set(bundle.graphs.files) == {name for name in listed if name.endswith(".onnx")}
    (folder / "pass.int8.onnx").unlink()
    refuse(folder, "pass.int8.onnx", "found nothing of that name")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("graphs", None), ("graphs", "the precision and plan of every .onnx file")),
        (drop("files/pass.int8.onnx"), ("graphs", "a record of pass.int8.onnx")),
        (drop("files/frame-best.onnx"), ("graphs", "a record of frame-best.onnx")),
        (put("graphs/frame_plans", []), ("graphs", "every .onnx file", "frame-best")),
        (put("graphs/frame_plans", ["worst"]), ("graphs",)),
        (put("graphs/precisions", ["float32"]), ("graphs", "every .onnx file", ".int8.onnx")),
        (put("graphs/precisions", []), ("graphs", "precisions", "some of float32, float16, int8")),
        (put("graphs/precisions", ["float32", "int4"]), ("graphs", "'int4'")),
        (put("graphs/precisions", ["int8", "int8", "float32"]), ("graphs", "every name once")),
        (put("graphs/opset", 0), ("graphs", "opset")),
        (put("graphs/bounds", {"int8": {"means": 0.46, "logit": 0.1, "psnr_db": 40.0}}), ("means", "0.45")),
        (put("graphs/bounds", {"int8": {"means": 0.1, "logit": 0.8, "psnr_db": 40.0}}), ("logit", "0.75")),
        (put("graphs/bounds", {"int8": {"means": 0.1, "logit": 0.1, "psnr_db": 30.0}}), ("psnr_db", "42")),
        (put("graphs/bounds", {"fp8": {"means": 0.1, "logit": 0.1, "psnr_db": 40.0}}), ("graphs", "'fp8'")),
        (put("graphs/bounds", {"float32": {"means": 0.1, "logit": 0.1, "psnr_db": 50.0}}), ("int8 alone",)),
        (put("plans/best.int8", {"passes": 2}), ("plans", "ends with .fp16 or .int8", "'best.int8'")),
        (put("plans/best.fp16", {"passes": 2}), ("plans", "ends with .fp16 or .int8", "'best.fp16'")),
        (put("graphs/psnr_change_db", {"int8": 1000.0}), ("psnr_change_db", "dB")),
        (put("graphs/engine", "x"), ("graphs", "unknown key 'engine'")),
    ],
)
def test_graphs_that_are_not_what_is_said_of_them(
    folder: Path, change: Callable[[dict[str, Any]], Any], parts: tuple[str, ...]
) -> None:
    edit(folder, with_graphs)
    edit(folder, change)
    refuse(folder, "bundle.json", *parts)


LIMITS = {"tokenizer.encoder.blocks.0.up": 2.5, "dynamics.transformer.blocks.0.spatial.qkv": 3}
BLOCK = "dynamics.transformer.blocks"
UNKNOWN = (f"{BLOCK}.1.up", f"{BLOCK}.0.up.weight", "dynamics.token_in", "")


def test_int8_limits_come_back_and_need_no_graphs(folder: Path) -> None:
    assert open_bundle(folder).int8 is None and "int8" not in json.loads((folder / "bundle.json").read_text())
    edit(folder, put("int8", {"limits": LIMITS}))
    assert open_bundle(folder).int8 == Int8Manifest(limits=LIMITS)
    edit(folder, put("int8", None))
    assert open_bundle(folder).int8 is None


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        *((put(f"int8/limits/{name}", 1.0), ("int8.limits", "blocks", repr(name))) for name in UNKNOWN),
        *(
            (put(f"int8/limits/{name}", value), ("int8", "limits", "from 1e-30 to 1e+30"))
            for name in LIMITS
            for value in (0, -1.0, 9e-31, 1e30, 1e300)
        ),
        (put("int8/limits", {}), ("int8", "limits", "one linear or more")),
        (put("int8/limits", []), ("int8", "limits", "an object")),
        (put("int8", {}), ("int8", "'limits' is missing")),
        (put("int8", []), ("int8", "an object")),
        (put(f"int8/limits/{BLOCK}.0.up", "3"), ("limits", "float", "'3'")),
        (put(f"int8/limits/{BLOCK}.0.up", True), ("limits", "float", "True")),
        (put(f"int8/limits/{BLOCK}.0.up", float("inf")), ("Infinity",)),
        (put("int8/scales", {}), ("int8", "unknown key 'scales'")),
    ],
)
def test_int8_limits_that_no_engine_can_use(
    folder: Path, change: Callable[[dict[str, Any]], Any], parts: tuple[str, ...]
) -> None:
    edit(folder, put("int8", {"limits": LIMITS}))
    edit(folder, change)
    refuse(folder, "bundle.json", *parts)


@pytest.mark.parametrize(
    "name",
    [
        "../weights.safetensors",
        "prompts/../../a.png",
        "/etc/passwd",
        "//host/share/a.onnx",
        "C:\\a.onnx",
        "C:a.onnx",
        "\\a.onnx",
        "prompts\\a.png",
        "prompts/a/b.png",
        "prompts/",
        "prompts/.png",
        "prompts/.hidden.png",
        ".hidden.onnx",
        "./a.onnx",
        "a.onnx\n",
        "a\0.onnx",
        "a.onnx:stream",
        "é.onnx",
        "a" * 300 + ".onnx",
        "model.pkl",
        "model.pt",
        "run.py",
        "bundle.json",
        "",
    ],
)
def test_a_malicious_file_name(folder: Path, name: str) -> None:
    edit(folder, lambda values: values["files"].update({name: RECORD}))
    refuse(folder, "bundle.json", "in the bundle's folder")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        '{"schema_version": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"schema_version": 1, "name": ' + b"1" * 5000 + b"}",
        b'{"schema_version": 1, "schema_version": 1}',
        b'{"schema_version": 1, "name": NaN}',
        b'{"schema_version": 1, "name": 1e999}',
        b" " * 1_000_001,
    ],
)
def test_a_manifest_that_is_no_json_object(folder: Path, data: bytes) -> None:
    (folder / "bundle.json").write_bytes(data)
    refuse(folder, "bundle.json")


def test_a_whole_number_serves_as_a_float(folder: Path) -> None:
    edit(folder, put("plans/best/temperature", 2))
    temperature = open_bundle(folder).plans["best"].temperature
    assert temperature == 2.0 and isinstance(temperature, float)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=3))
def test_random_damage_to_the_manifest_gives_nothing_but_bundle_errors(
    folder: Path, pristine: Path, flips: list[tuple[float, int]]
) -> None:
    data = bytearray((pristine / "bundle.json").read_bytes())
    for where, mask in flips:
        data[int(where * (len(data) - 1))] ^= mask
    (folder / "bundle.json").write_bytes(data)
    try:
        open_bundle(folder)  # damage within the provenance is still a bundle, of another digest
    except BundleError as error:
        str(error).encode()  # and can be printed


# --- prompts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "size", "kind", "part"),
    [
        ("RGB", (WIDTH + 1, HEIGHT), "PNG", "8 high and 13 wide"),
        ("RGB", (HEIGHT, WIDTH), "PNG", "12 high and 8 wide"),
        ("L", (WIDTH, HEIGHT), "PNG", "found L"),
        ("RGBA", (WIDTH, HEIGHT), "PNG", "found RGBA"),
        ("P", (WIDTH, HEIGHT), "PNG", "found P"),
        ("RGB", (WIDTH, HEIGHT), "JPEG", "expected a PNG"),
    ],
)
def test_a_prompt_of_the_wrong_kind(
    folder: Path, mode: str, size: tuple[int, int], kind: str, part: str
) -> None:
    Image.new(mode, size).save(folder / "prompts/000.png", format=kind)
    seal(folder)
    refuse(folder, "prompts/000.png", part)


def test_a_prompt_whose_pixels_are_cut(folder: Path) -> None:
    data = (folder / "prompts/000.png").read_bytes()
    (folder / "prompts/000.png").write_bytes(data[: len(data) // 2])
    seal(folder)
    refuse(folder, "prompts/000.png", "cannot be decoded")
