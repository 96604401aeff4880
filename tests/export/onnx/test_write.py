"""What graph files are like, whatever they compute: checked, small, flat, the same every time, or refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_runs import make_inputs, make_tokens, run_graph, save_weights
from makers import make_config

pytest.importorskip("onnx", reason="the extra onnx is not installed")

import onnx

from genie_rt.errors import BundleError, ConfigError
from genie_rt.export.onnx.builder import Builder
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.weights import WeightFile
from genie_rt.export.onnx.write import check_onnx, write_graphs
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES, Signature, Value, signatures
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.manifest import graph_file
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan

CONFIG = make_config(grid=(4, 6), merge=2)
PLANS = {
    "default": Plan(passes=3),
    "moving": Plan(passes=2, order="adaptive"),
    "even": Plan(passes=2, order="halton"),
    "kept": Plan(passes=2, order="halton", reuse="passes"),
}
FRAMES = ["default", "moving", "even"]
QUANTISATION = Quantisation(amax=dict.fromkeys(linear_names(CONFIG), 4.0))
NAMES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16",
         onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8"}  # fmt: skip


def write(folder: Path, **changes: Any) -> list[Path]:
    save_weights(folder, CONFIG)
    arguments: dict[str, Any] = {
        "precisions": list(PAGE_DTYPES), "frame_plans": FRAMES, "quantisation": QUANTISATION
    }  # fmt: skip
    return write_graphs(folder, CONFIG, PLANS, **arguments | changes)


@pytest.fixture(scope="module", params=[20, 23])
def paths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(tmp_path_factory.mktemp("graphs"), opset=request.param)


def test_every_graph_has_a_file_and_its_signature(paths: list[Path]) -> None:
    expected = {}
    for precision in PAGE_DTYPES:
        for name, signature in signatures(CONFIG, precision, {key: PLANS[key] for key in FRAMES}).items():
            expected[graph_file(name, precision)] = signature
    assert [path.name for path in paths] == list(expected)
    for path in paths:
        graph = onnx.load(path, load_external_data=False).graph
        for found, values in (
            (graph.input, expected[path.name].inputs),
            (graph.output, expected[path.name].outputs),
        ):
            assert {value.name: value_of(value) for value in found} == values
            assert [value.name for value in found] == list(values)


def value_of(info: Any) -> Value:
    tensor = info.type.tensor_type
    shape = tuple(side.dim_param or side.dim_value for side in tensor.shape.dim)
    return Value(dtype=NAMES[tensor.elem_type], shape=shape)


def test_no_value_has_more_than_four_axes_and_every_one_a_known_number_of_them(paths: list[Path]) -> None:
    for path in paths:
        graph = check_onnx(path).graph
        ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in graph.value_info}
        assert all(info.type.tensor_type.HasField("shape") for info in graph.value_info)
        assert {name for node in graph.node for name in node.output} <= {
            *ranks, *(info.name for info in graph.output)
        }  # fmt: skip
        assert max(ranks.values()) <= 4
        assert all(len(tensor.dims) <= 4 for tensor in graph.initializer)


def test_weights_stay_where_they_are(paths: list[Path]) -> None:
    """Whatever is stored in the graph itself is small: scales, tables of a schedule, a triangle of ones."""
    for path in paths:
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                assert {entry.key: entry.value for entry in tensor.external_data}[
                    "location"
                ] == "weights.safetensors"
            else:
                assert np.prod(tensor.dims) <= 1024
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(
        [*(path.name for path in paths), "weights.safetensors"]
    )


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    for first, second in zip(write(tmp_path / "a"), write(tmp_path / "b"), strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize(("opset", "ir"), [(20, 9), (23, 11)])
def test_files_say_a_version_that_engines_of_that_opset_read(opset: int, ir: int, tmp_path: Path) -> None:
    for path in write(tmp_path, opset=opset, precisions=["float32"]):
        model = onnx.load(path, load_external_data=False)
        assert (model.ir_version, [(item.domain, item.version) for item in model.opset_import]) == (
            ir,
            [("", opset)],
        )


def test_nodes_are_named_by_where_they_stand(paths: list[Path]) -> None:
    names = {
        node.name for node in onnx.load(paths[0].parent / "pass.onnx", load_external_data=False).graph.node
    }
    assert {
        "dynamics/2/temporal/qkv",
        "dynamics/0/mlp/up",
        "dynamics/head/scores",
        "dynamics/sample/p",
    } <= names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 19}, "opset: expected 20 or 23, found 19"),
        ({"precisions": ["fp8"]}, "precisions: expected some of float32, float16, int8, found 'fp8'"),
        ({"quantisation": None}, "quantisation: expected one"),
        ({"frame_plans": ["best"]}, "expected some of default, moving, even, kept, found 'best'"),
        ({"frame_plans": ["kept"]}, "frame-kept: expected a plan with reuse \"none\", found 'passes'"),
        ({"quantisation": Quantisation(amax={})}, "blocks.0.down: expected a positive number, found None"),
        ({"quantisation": Quantisation(amax={"token_in": 1})}, "linears of `linear_names`, found 'token_in'"),
        (
            {"quantisation": Quantisation(amax=dict.fromkeys(linear_names(CONFIG), float("nan")))},
            "expected a positive number, found nan",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        write(tmp_path, **changes)
    assert message in str(error.value)


def rewrite_header(path: Path, change: Any) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda header: header.update(other=header.pop("dynamics.position")),
            "expected shape [6, 16], found no such weight",
        ),
        (lambda header: header.pop("dynamics.position"), "and the one before it ends at"),
        (lambda header: header["dynamics.position"].update(shape=[16, 6]), "[6, 16], found [16, 6]"),
        (lambda header: header["dynamics.position"].update(dtype="I8"), "expected a safetensors file"),
        (lambda header: header["dynamics.position"].update(shape=[6, 17]), "expected a safetensors file"),
    ],
)  # fmt: skip
def test_another_models_weights_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_weights(tmp_path, CONFIG)
    rewrite_header(tmp_path / "weights.safetensors", change)
    with pytest.raises(BundleError) as error:
        write_graphs(tmp_path, CONFIG, PLANS, precisions=["float32"], frame_plans=[])
    assert message in str(error.value)


def test_a_missing_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"weights\.safetensors: expected a safetensors file"):
        write_graphs(tmp_path, CONFIG, PLANS, precisions=["float32"], frame_plans=[])


def test_a_graph_with_a_wrong_shape_does_not_pass_the_check(paths: list[Path], tmp_path: Path) -> None:
    save_weights(tmp_path, CONFIG)
    model = onnx.load(paths[0].parent / "decode.onnx", load_external_data=False)
    page = next(value for value in model.graph.output if value.name == "page")
    page.type.tensor_type.shape.dim[1].dim_value += 1
    onnx.save(model, tmp_path / "decode.onnx")
    with pytest.raises(BundleError, match=r"decode\.onnx: expected a sound graph"):
        check_onnx(tmp_path / "decode.onnx")


def test_without_onnx_the_message_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['onnx'] = None\n"
        "from genie_rt.errors import UnsupportedError\n"
        "try: import genie_rt.export.onnx.write\n"
        "except UnsupportedError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert install_hint("onnx") in done.stdout


def test_a_nan_anywhere_shows_in_the_checksum(paths: list[Path]) -> None:
    """Every graph shows it: a past frame's page is the input whose number reaches least of what comes out."""
    pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")
    plans = {key: PLANS[key] for key in FRAMES}
    for name, signature in signatures(CONFIG, "float32", plans).items():
        decides = name.startswith("pass")
        tokens = make_tokens(CONFIG, undecided=0.5 if decides else 0)
        inputs = make_inputs(signature, CONFIG, num_past=1, picture_num_past=1, temperature=1, action=0,
                             last_action=0, index=[0, 3], tokens=tokens)  # fmt: skip
        assert np.isfinite(run_graph(paths[0].parent / f"{name}.onnx", inputs)["checksum"]).all()
        poisoned = [key for key in ("past_1", "picture_past_1", "around") if key in inputs]
        for key in poisoned:
            broken = inputs | {key: inputs[key].clone()}
            broken[key][-1, -1, -1, -1] = np.nan  # the last number of the last layer's values
            found = run_graph(paths[0].parent / f"{name}.onnx", broken)["checksum"]
            reaches = key != "past_1" or name not in ("commit", "pass-at")  # these ask nothing of that number
            assert np.isnan(found).all() == reaches, (name, key)


def test_no_operator_is_written_that_the_runtime_does_not_read(tmp_path: Path) -> None:
    save_weights(tmp_path, CONFIG)
    weights = WeightFile(tmp_path / "weights.safetensors", parameter_shapes(CONFIG))
    with pytest.raises(ValueError, match="found the operator Loop"):
        Builder(weights, Signature(), opset=23).node("Loop", "x")
