"""Graphs in half precision and in 8 bits: as close to the definition as their rounding lets them be."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_runs import committed, decoded, encoded, make_inputs, make_tokens, passed, run_graph, save_weights
from makers import make_config
from torch import Tensor

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")

import genie_rt.runtime.model.transformer as definition
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.write import write_graphs
from genie_rt.runtime.backends.exported.signature import signatures
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.manifest import graph_file
from genie_rt.runtime.model.world_model import WorldModel

CONFIG = make_config()
DEFINITIONS = {"encode": encoded, "commit": committed, "pass": passed, "decode": decoded}


def inputs_of(graph: str, precision: str, **changes: Any) -> dict[str, Tensor]:
    tokens = make_tokens(CONFIG, 1, 0.5 if graph == "pass" else 0.0)
    signature = signatures(CONFIG, precision, {})[graph]
    given = {"tokens": tokens, "action": 1, "num_past": 2, "temperature": 1.0}
    return make_inputs(signature, CONFIG, **given | changes)


def relative_error(found: Any, expected: Tensor) -> float:
    """In the norm, over all numbers."""
    return float(np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()))


def errors_of(
    folder: Path, graph: str, precision: str, model: WorldModel, **changes: Any
) -> dict[str, float]:
    inputs = inputs_of(graph, precision, **changes)
    found = run_graph(folder / graph_file(graph, precision), inputs)
    expected = DEFINITIONS[graph](model, inputs)
    return {
        name: relative_error(found[name], expected[name]) for name in ("logits", "page") if name in expected
    }


@pytest.mark.parametrize("opset", [20, 23])
def test_half_precision_is_the_definition_rounded(opset: int, tmp_path: Path) -> None:
    sound = save_weights(tmp_path, CONFIG)
    write_graphs(tmp_path, CONFIG, {}, precisions=["float16"], frame_plans=[], opset=opset)
    for graph in DEFINITIONS:
        for name, error in errors_of(tmp_path, graph, "float16", sound).items():
            assert error < 4e-3, (graph, name)  # 2**-11 a rounding, of some forty one after the other


KEPT = frozenset({"dynamics.transformer.blocks.1.up", "tokenizer.decoder.blocks.0.spatial.qkv"})
QUANTISATION = Quantisation(
    amax={name: 3 + 0.05 * index for index, name in enumerate(linear_names(CONFIG))}, kept_float=KEPT
)
"""Each linear has an `amax` of its own, so that a mix-up shows; some inputs are larger and are clipped."""


def rounded(x: Tensor, scale: Tensor | float) -> Tensor:
    return (x / scale).round().clamp(-128, 127) * scale


@contextmanager
def in_8_bits(model: WorldModel, quantisation: Quantisation) -> Iterator[None]:
    """The definition with numbers that are rounded where an int8 graph rounds them."""
    handles, names, before = [], {}, definition.mlp
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name in set(linear_names(model.config)) - quantisation.kept_float:
        module: Any = model.get_submodule(name)
        weight = (
            module.weight.float()
        )  # a weight half as large as the largest one is a tie, by a float32 scale
        module.weight.copy_(rounded(weight, weight.abs().amax(1, keepdim=True) / 127))
        names[id(module.weight)] = name
        hook = partial(_round_input, quantisation.amax[name] / 127)
        handles.append(module.register_forward_pre_hook(hook))

    def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        def linear(y: Tensor, weight: Tensor) -> Tensor:
            name = names.get(id(weight))
            return (y if name is None else rounded(y, quantisation.amax[name] / 127)) @ weight.mT

        return linear(torch.nn.functional.gelu(linear(x, up), approximate="tanh"), down)

    definition.mlp = mlp
    try:
        yield
    finally:
        definition.mlp = before
        model.load_state_dict(state)
        for handle in handles:
            handle.remove()


def _round_input(scale: float, module: Any, arguments: tuple[Tensor]) -> Tensor:
    return rounded(arguments[0], scale)


@pytest.mark.parametrize("opset", [20, 23])
def test_8_bits_are_the_definition_with_rounded_numbers(opset: int, tmp_path: Path) -> None:
    """Not exactly: a number at the edge between two integers may become the other, and what follows moves.

    With a wrong scale anywhere the two would be as far apart as either is from the definition itself.
    """
    sound = save_weights(tmp_path, CONFIG)
    write_graphs(
        tmp_path, CONFIG, {}, precisions=["int8"], frame_plans=[], opset=opset, quantisation=QUANTISATION
    )
    for graph in DEFINITIONS:
        with in_8_bits(sound, QUANTISATION):
            exact = errors_of(tmp_path, graph, "int8", sound)
        for name, error in errors_of(tmp_path, graph, "int8", sound).items():
            assert 10 * exact[name] < error < 0.1, (graph, name, exact[name], error)


@pytest.mark.parametrize("mutation", ["ages", "keys and values", "one past frame more", "layers"])
@pytest.mark.parametrize("graph", DEFINITIONS)
def test_the_comparison_notices_a_past_that_is_read_wrongly(
    graph: str, mutation: str, tmp_path: Path
) -> None:
    sound = save_weights(tmp_path, CONFIG)
    write_graphs(tmp_path, CONFIG, {}, precisions=["int8"], frame_plans=[], quantisation=QUANTISATION)
    inputs = inputs_of(graph, "int8")
    with in_8_bits(sound, QUANTISATION):
        expected = DEFINITIONS[graph](sound, inputs)["page"]
    path = tmp_path / graph_file(graph, "int8")
    first, second = inputs["past_1"], inputs["past_2"]
    broken = (
        inputs
        | {
            "ages": {"past_1": second, "past_2": first},
            "keys and values": {"past_1": first.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)},
            "one past frame more": {"num_past": inputs["num_past"] + 1},
            "layers": {"past_1": first.unflatten(0, (-1, 2)).roll(1, 0).flatten(0, 1)},
        }[mutation]
    )
    right, wrong = (relative_error(run_graph(path, given)["page"], expected) for given in (inputs, broken))
    assert right < 1e-3 < 2e-2 < wrong
