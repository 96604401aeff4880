"""A graph that reads, takes or does what no exported one does is refused before an engine sees it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hostile_graphs import (
    HOSTILE_ATTRIBUTES,
    HOSTILE_BYTES,
    LIMITS,
    MODEL,
    OTHER_OPERATORS,
    OTHER_SIGNATURES,
    OTHER_WEIGHTS,
    SHAPES,
    SIGNATURE,
    STORED,
    ints,
    message,
    node,
    scalar,
    squared,
    within,
)

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.exported.checked import MAX_IDENTITIES, CheckedGraph, check_graph
from genie_rt.runtime.backends.exported.limits import limits_of
from genie_rt.runtime.backends.exported.onnx_model import Model, Node, Port, Tensor, read_model
from genie_rt.runtime.backends.exported.onnx_model import write_model as write
from genie_rt.runtime.backends.exported.signature import signatures
from genie_rt.runtime.backends.exported.wire import block
from genie_rt.runtime.bundle import open_bundle, read_file, read_weights
from genie_rt.runtime.manifest import WEIGHTS, graph_file


def check(model: Model | bytes) -> CheckedGraph:
    data = model if isinstance(model, bytes) else write(model)
    return check_graph(Path("tiny.onnx"), data, STORED, SIGNATURE, LIMITS)


def refused(model: Model | bytes, *parts: str) -> None:
    with pytest.raises(BundleError) as caught:
        check(model)
    for part in ("tiny.onnx: expected a graph as genie-rt export writes it, found", *parts, "export again"):
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1000


# --- what is read and what runs ----------------------------------------------------------------------------


def test_a_graph_that_was_checked_is_written_again_as_it_was() -> None:
    checked = check(MODEL)
    assert checked.model == MODEL
    assert checked.to_bytes() == write(MODEL)


def test_every_graph_of_the_demo_is_read_and_written_to_the_byte() -> None:
    bundle = open_bundle("demo")
    weights, count = read_weights(bundle), 0
    for precision in ("float32", "int8"):
        for name, signature in signatures(bundle.config, precision, dict(bundle.plans)).items():
            file = graph_file(name, precision)
            if file in bundle.files:
                data = read_file(bundle, file).tobytes()
                limits = limits_of(bundle.config, name, bundle.plans, weights.data.nbytes)
                assert check_graph(bundle.path / file, data, weights, signature, limits).to_bytes() == data
                count += 1
    assert count == len([file for file in bundle.files if file.endswith(".onnx")])


@pytest.mark.parametrize(("data", "says"), HOSTILE_BYTES)
def test_bytes_that_hold_anything_else(data: bytes, says: str) -> None:
    refused(data, says)


@pytest.mark.parametrize(("data", "says"), HOSTILE_ATTRIBUTES)
def test_attributes_that_hold_anything_else(data: bytes, says: str) -> None:
    refused(data, says)


def test_the_other_fields_of_a_node() -> None:
    names = block(1, "x") + block(2, "y") + block(4, "Add")
    for field in (7, 6, 8, 9):  # domain, doc_string, overload, metadata
        refused(
            message(graph=block(2, "g") + block(1, names + block(field, "x"))),
            f"the field {field} of NodeProto",
        )


@pytest.mark.parametrize("changed", OTHER_WEIGHTS)
def test_weights_are_those_of_the_file_under_their_own_names(changed: Tensor) -> None:
    """So that its header cannot be computed with, nor one weight in place of another."""
    model = replace(MODEL, initializers=(changed,))
    refused(model, f"the weight {changed.name!r}", f"at byte {changed.offset}")


@pytest.mark.parametrize(("model", "says"), OTHER_SIGNATURES)
def test_a_graph_of_another_signature(model: Model, says: str) -> None:
    with pytest.raises(BundleError) as caught:
        check(model)
    assert says in str(caught.value)


# --- what is computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OTHER_OPERATORS)
def test_operators_that_no_exported_graph_has(op: str) -> None:
    refused(within(node(op, "x")), f"the operator '{op}', which no exported graph has")


@pytest.mark.parametrize(("extra", "constants", "says"), SHAPES, ids=lambda value: getattr(value, "op", ""))
def test_sizes_that_do_not_fit_or_are_not_known(
    extra: Node, constants: tuple[Tensor, ...], says: str
) -> None:
    refused(within(extra, constants=constants), says)


def test_a_shape_that_follows_from_another_is_no_list_of_numbers_to_cut_by() -> None:
    """Cut by a length that may be smaller at play, more would be left than was counted."""
    length = node("Shape", "u", to="q")
    refused(within(length, node("Slice", "w", "q", "e"), constants=(ints("e", 2),)), "'q' decides")
    check(within(length, node("Squeeze", "q", to="l"), node("Range", "0", "l", "1"),
                 constants=(scalar("0", 0), scalar("1", 1))))  # fmt: skip


def test_much_that_is_made_of_little_is_refused_by_its_size() -> None:
    check(squared(2))
    refused(squared(3), "values that take", "MiB at 'MatMul here'", "MiB at most")


def test_operations_are_counted() -> None:
    times = [node("MatMul", f"m{turn}", "s", to=f"m{turn + 1}") for turn in range(30)]
    square = Tensor(name="s", dtype="float32", shape=(64, 64), data=bytes(4 * 64 * 64))
    first = Tensor(name="m0", dtype="float32", shape=(1, 64), data=bytes(256))
    check(within(*times[:8], constants=(square, first)))
    refused(within(*times, constants=(square, first)), "more than 1.0e+05 operations")


@pytest.mark.parametrize("op", ["Identity", "Sqrt"])
def test_thousands_of_nodes_are_refused_before_they_are_read(op: str) -> None:
    names = ["x", *map(str, range(20_000))]
    chain = [node(op, name, to=after) for name, after in pairwise(names)]
    refused(within(*chain), "more than 8400 fields")
    refused(within(*chain[:40]), "41 nodes, and 40 at most for the model of this bundle")
    if op == "Identity":
        refused(within(*chain[: MAX_IDENTITIES + 1]), f"more than {MAX_IDENTITIES} nodes that do nothing")
    check(within(*chain[:MAX_IDENTITIES]))


@pytest.mark.parametrize(
    "grow",
    [
        lambda: node("Concat", *["x"] * 100_000, axis=0),
        lambda: node("Transpose", "x", perm=tuple(range(100_000))),
        lambda: node("Split", "x", count=100_000, axis=0, num_outputs=100_000),
    ],
)
def test_nodes_of_too_many_parts_are_refused_before_they_are_read(grow: Callable[[], Node]) -> None:
    refused(within(grow()), "more than 8400 fields")


def test_the_limits_of_a_graph_follow_from_its_model() -> None:
    bundle = open_bundle("demo")
    found: dict[str, Any] = {
        name: limits_of(bundle.config, name, bundle.plans, bundle.files[WEIGHTS].size)
        for name in ("commit", "pass", "frame-fast", "frame-quality")
    }
    assert found["commit"].nodes == found["pass"].nodes < found["frame-fast"].nodes
    assert found["frame-fast"].nodes < found["frame-quality"].nodes < 20_000
    assert found["pass"].operations < found["frame-quality"].operations
    assert {limits.memory_bytes for limits in found.values()} == {found["pass"].memory_bytes}
    assert found["pass"].memory_bytes < 700 * 2**20
    assert (found["pass"].size("Q"), found["pass"].subset) == (bundle.config.num_positions,) * 2
    with pytest.raises(ValueError, match="a side called 'N'"):
        found["pass"].size("N")


def test_what_is_read_is_what_was_written() -> None:
    model = within(node("Softmax", "x", axis=-1), node("RMSNormalization", "x", "v", to="r", epsilon=1e-6))
    found = read_model(write(model), 10)
    assert found.nodes[0] == model.nodes[0]
    assert found.nodes[1].attributes["epsilon"] == pytest.approx(1e-6)
    assert found.with_weights_as_inputs().inputs[-1] == Port(name="w", dtype="float32", shape=(2, 3))
