"""A graph that keeps weights where no hash of the bundle covers them is refused before an engine reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.exported.header import INSIDE, MAX_DEPTH, check_header
from genie_rt.runtime.manifest import WEIGHTS

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def stored(location: str = WEIGHTS, **more: object) -> Any:
    """A tensor of 16 bytes in another file."""
    external = onnx.TensorProto.EXTERNAL
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4], data_location=external)
    for key, value in {"location": location, "offset": 0, "length": 16, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def sparse(tensor: Any) -> Any:
    return onnx.SparseTensorProto(values=tensor, dims=[4])


def model_of(*nodes: Any, **parts: Any) -> Any:
    graph = onnx.GraphProto(name="g", node=nodes, **parts)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])


def save(folder: Path, model: Any) -> Path:
    (folder / WEIGHTS).write_bytes(bytes(32))
    path = folder / "tiny.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def constant(tensor: Any) -> Any:
    return onnx.NodeProto(
        op_type="Constant", output=["c"], attribute=[helper.make_attribute("value", tensor)]
    )


def nested(inner: Any) -> Any:
    graph = onnx.GraphProto(name="inner", node=[inner])
    return onnx.NodeProto(op_type="If", attribute=[helper.make_attribute("then_branch", graph)])


def function_model(tensor: Any) -> Any:
    model = model_of()
    model.functions.add(name="f", node=[constant(tensor)])
    return model


def training_model(tensor: Any) -> Any:
    model = model_of()
    model.training_info.add(algorithm=onnx.GraphProto(initializer=[tensor]))
    return model


def test_weights_among_the_initialisers_are_what_a_graph_may_have(tmp_path: Path) -> None:
    inline = onnx.TensorProto(name="one", data_type=onnx.TensorProto.FLOAT, dims=[1], float_data=[1.0])
    model = model_of(constant(inline), nested(constant(inline)), initializer=[stored(offset=16), stored()])
    header = check_header(save(tmp_path, model))
    assert (header.ir_version, header.opset, header.weight_bytes) == (9, 20, 32)


@pytest.mark.parametrize(
    "hide",
    [
        lambda tensor: model_of(constant(tensor)),
        lambda tensor: model_of(nested(constant(tensor))),
        lambda tensor: model_of(nested(nested(constant(tensor)))),
        lambda tensor: model_of(sparse_initializer=[sparse(tensor)]),
        lambda tensor: model_of(
            onnx.NodeProto(attribute=[helper.make_attribute("x", [sparse(tensor)])]),
        ),
        function_model,
        training_model,
    ],
    ids=["attribute", "subgraph", "deeper", "sparse", "sparse attribute", "function", "training"],
)
@pytest.mark.parametrize("location", [WEIGHTS, "evil.bin"])
def test_weights_of_a_file_anywhere_else_are_refused(
    hide: Callable[[Any], Any], location: str, tmp_path: Path
) -> None:
    (tmp_path / "evil.bin").write_bytes(bytes(32))
    with pytest.raises(BundleError, match=rf"tiny\.onnx: .* the file '{location}' and below a node"):
        check_header(save(tmp_path, hide(stored(location))))


def test_of_two_places_of_one_tensor_neither_may_be_another_file(tmp_path: Path) -> None:
    """Which of them counts, engines need not agree on."""
    tensor = stored("evil.bin")
    tensor.external_data.add(key="location", value=WEIGHTS)
    with pytest.raises(BundleError, match=r"'evil\.bin', not in 'weights\.safetensors' alone"):
        check_header(save(tmp_path, model_of(initializer=[tensor])))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, model_of(initializer=[stored()]))
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=r"16 bytes or more of weights in .*, found no such file"):
        check_header(path)


def test_graphs_in_graphs_without_an_end_are_refused(tmp_path: Path) -> None:
    node = constant(stored())
    for _ in range(MAX_DEPTH // 3 + 1):
        node = nested(node)
    with pytest.raises(BundleError, match=f"messages more than {MAX_DEPTH} deep"):
        check_header(save(tmp_path, model_of(node)))


@pytest.mark.parametrize("number", [7, 1 << 34, 1 << 62])
def test_a_number_in_place_of_a_name_is_refused_and_allocates_nothing(number: int, tmp_path: Path) -> None:
    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    opset = b"\x08" + varint(number) + b"\x10\x14"  # OperatorSetIdProto.domain, version
    with pytest.raises(BundleError, match="a number where text belongs"):
        check_header(save(tmp_path, b"\x08\x09\x42" + varint(len(opset)) + opset))


def test_every_way_to_a_tensor_that_onnx_knows_is_walked() -> None:
    """A newer ONNX may add one."""

    def fields(message: Any) -> dict[int, str]:
        nested = [field for field in message.fields if field.message_type is not None]
        return {field.number: field.message_type.name for field in nested}

    found, messages = {"TensorProto"}, onnx.ModelProto.DESCRIPTOR.file.message_types_by_name
    while more := {
        name
        for name, message in messages.items()
        if name not in found and found & set(fields(message).values())
    }:
        found |= more
    assert found - {"TensorProto"} == set(INSIDE)
    for name, inside in INSIDE.items():
        leads = {number: kind for number, kind in fields(messages[name]).items() if kind in found}
        assert inside == leads, name
