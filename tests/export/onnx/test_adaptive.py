"""The whole-frame graph of an "adaptive" plan decides, in every engine, what its passes decide one by one."""

from pathlib import Path

import pytest
from graph_runs import save_weights
from makers import ACTIONS, make_config, make_model, make_pictures, make_world

pytest.importorskip("onnx", reason="the extra onnx is not installed")

import onnx

from genie_rt.export.bundle import write_bundle
from genie_rt.export.graph_writer import NewGraphs
from genie_rt.export.onnx.linears import Quantisation
from genie_rt.export.onnx.write import check_onnx, write_graphs
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CONFIG = make_config(grid=(3, 5), window=2, num_layers=1)
PLANS = {
    "default": Plan(order="adaptive", passes=7, threshold=1.0),
    "between": Plan(order="adaptive", passes=7, threshold=0.1),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graphs = NewGraphs(config=CONFIG, plans=PLANS, precisions=("float32",), frame_plans=tuple(PLANS))
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "tiny", name="tiny", config=CONFIG,
        weights=make_model(CONFIG).state_dict(), action_names=ACTIONS, default_action="stay", plans=PLANS,
        prompts=[], provenance={}, model_card="# tiny\n", dtype="fp32", graphs=graphs,
    ).path  # fmt: skip


@pytest.mark.parametrize(("backend", "module"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_tokens_and_the_number_of_passes_are_those_of_single_passes(
    bundle: Path, backend: str, module: str
) -> None:
    """Few tokens in float32: none of them lies so close to a boundary that rounding moves it."""
    pytest.importorskip(module)
    worlds = World.load(bundle, backend=backend, dtype="float32"), make_world(CONFIG)
    num_passes: dict[str, set[int]] = {name: set() for name in PLANS}
    for name, plan in PLANS.items():
        for seed in range(4):
            sessions = [world.session(seed=seed, plan=plan) for world in worlds]
            for session in sessions:
                session.reset(make_pictures(CONFIG, 1)[0])
            for action in (0, 1):
                for session in sessions:
                    session.step(action)
                found, expected = ((each.row.tokens.tolist(), each.stats.passes) for each in sessions)
                assert found == expected
                num_passes[name].add(found[1])
    assert num_passes["default"] == {7} and len(num_passes["between"] - {1, 7}) > 1


def test_no_graph_divides_integers(tmp_path: Path) -> None:
    """OpenVINO's CPU does so in floating point, and rounds where ONNX truncates."""
    save_weights(tmp_path, CONFIG)
    quantisation = Quantisation(amax=dict.fromkeys(linear_names(CONFIG), 4.0))
    plans = {**PLANS, **{order: Plan(order=order, passes=2) for order in ORDERS}}
    paths = write_graphs(
        tmp_path, CONFIG, plans, precisions=list(PAGE_DTYPES), frame_plans=list(plans),
        quantisation=quantisation,
    )  # fmt: skip
    real, divided = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}, set()
    for path in paths:
        graph = check_onnx(path).graph
        types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        divided |= {types[node.output[0]] for node in graph.node if node.op_type in ("Div", "Mod")}
    assert divided and divided <= real
