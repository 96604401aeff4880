"""Graphs that `genie-rt export` writes, run by real engines: each computes the model.

The bounds are `verify`'s. What the back end does with the graphs is proven in `test_backend.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_model, make_pictures, make_world
from safetensors.torch import save_file
from torch_engine import with_graphs

from genie_rt.bench.parity.verify import Variant, compare
from genie_rt.errors import DeviceError
from genie_rt.runtime.backends.exported.backend import ExportedBackend
from genie_rt.runtime.backends.exported.engine import Engine
from genie_rt.runtime.backends.exported.onnx import OnnxEngine
from genie_rt.runtime.backends.exported.openvino import OpenVinoEngine, OpenVinoGraph
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.kept import Kept
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

pytest.importorskip("onnx")

ENGINES: dict[str, Callable[[], Engine]] = {"onnxruntime": OnnxEngine, "openvino": OpenVinoEngine}
CONFIGS = {
    "plain": make_config(),
    "merged": make_config(grid=(4, 6), merge=2, window=3, decoder_window=2),
    "without a past": make_config(window=1),
}
PLANS = {
    "quick": Plan(order="adaptive", passes=3, threshold=0.3),
    "chance": Plan(order="random", passes=2),
}
"""That there are frame graphs of."""


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    pytest.importorskip(request.param)
    return ENGINES[request.param]()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the weights and graphs of a config, once."""
    from genie_rt.export.onnx.write import write_graphs

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            path = tmp_path_factory.mktemp("graphs")
            model = make_model(CONFIGS[name], dtype=torch.float32)
            save_file(
                {key: value.contiguous() for key, value in model.state_dict().items()},
                path / "weights.safetensors",
            )
            write_graphs(path, CONFIGS[name], PLANS, precisions=("float32",), frame_plans=tuple(PLANS))
            made[name] = path
        return made[name]

    return folder


def make_worlds(config: ModelConfig, folder: Path, engine: Engine, **options: Any) -> tuple[World, World]:
    """The yardstick, and the same world with graphs."""
    yardstick = make_world(config)
    names = {path.name.split(".")[0] for path in folder.glob("*.onnx")}
    bundle = with_graphs(yardstick.bundle, "float32", *names, folder=folder)
    bundle = replace(bundle, plans={**bundle.plans, **PLANS})
    return yardstick, World(bundle, ExportedBackend(bundle, "float32", engine, **options), "float32")


@pytest.fixture(scope="module")
def worlds(engine: Engine, folders: Callable[[str], Path]) -> Callable[..., tuple[World, World]]:
    """`make_worlds` of a config, made once: nothing that is done in a world changes it."""
    return cache(lambda name, **options: make_worlds(CONFIGS[name], folders(name), engine, **options))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_pass_commit_and_picture_is_the_yardsticks(
    name: str, worlds: Callable[..., tuple[World, World]]
) -> None:
    yardstick, world = worlds(name, whole_frames=False)
    variant = Variant(backend="onnx", dtype="float32", device="cpu")
    found = compare(yardstick, world, variant, plan=Plan(passes=3), frames=6)
    assert found.failure is None and found.tokens == 6 * 4 * CONFIGS[name].tokenizer.num_tokens


@pytest.mark.parametrize(
    ("plan", "whole_frames"),
    [
        *((plan, whole_frames) for plan in PLANS.values() for whole_frames in (False, True)),
        (Plan(order="halton", passes=3), False),
        (Plan(order="halton", passes=3, reuse="passes"), False),
        (Plan(passes=3, reuse="frames", fresh=0.5), False),
    ],
    ids=lambda value: f"{value.order} {value.reuse}" if isinstance(value, Plan) else str(value),
)
def test_free_rollouts_are_the_yardsticks(
    plan: Plan, whole_frames: bool, worlds: Callable[..., tuple[World, World]]
) -> None:
    """Few tokens in float32: none of them lies so close to a boundary that rounding moves it."""
    config = CONFIGS["merged"]
    found = []
    for world in worlds("merged", whole_frames=whole_frames):
        session = world.session(seed=3, plan=plan)
        session.reset(make_pictures(config, 2), [0])
        seen = [
            (session.step(action), session.row.tokens.tolist(), session.stats) for action in make_actions(6)
        ]
        found.append(seen)
    for t, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert ours[1:] == theirs[1:], f"frame {t}"
        # a pixel may lie on the other side of a rounding to 8 bits
        assert np.abs(ours[0].astype(int) - theirs[0].astype(int)).max() <= 1


def test_nan_in_the_weights_is_an_error_with_the_layer(
    engine: Engine, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    config = CONFIGS["plain"]
    model = make_model(config, dtype=torch.float32)
    model.get_parameter("dynamics.transformer.blocks.1.temporal.k_norm").fill_(torch.nan)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        tmp_path / "weights.safetensors",
    )
    for path in folders("plain").glob("*.onnx"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    _, world = make_worlds(config, tmp_path, engine)
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(config, 1)[0])
    with pytest.raises(DeviceError, match=r"the dynamics of 3 layers .* between layer 0 and layer 1"):
        session.step(0)


@pytest.mark.parametrize("plan", [PLANS["quick"], Plan(order="halton", passes=3, reuse="passes")])
def test_nothing_is_compiled_after_a_warm_up_and_kept_graphs_give_the_same_frames(
    plan: Plan, folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    name, compiled = "merged", []
    compile_now = OpenVinoGraph._compile_now

    def counted(graph: OpenVinoGraph, wanted: frozenset[str], shapes: Any) -> Any:
        compiled.append(wanted)
        return compile_now(graph, wanted, shapes)

    monkeypatch.setattr(OpenVinoGraph, "_compile_now", counted)
    seen, counts = [], []
    for kept in (Kept(None), Kept(tmp_path / "kept"), Kept(tmp_path / "kept")):
        _, world = make_worlds(CONFIGS[name], folders(name), OpenVinoEngine("float32", kept))
        compiled.clear()
        if kept.is_on:
            world.warm_up(plan, prompt_frames=2, peek=2)
        counts.append(len(compiled))
        session = world.session(seed=3, plan=plan)
        session.reset(make_pictures(CONFIGS[name], 2), [0])
        played = [(session.peek([1])["stay"].tobytes(), session.step(a).tobytes()) for a in make_actions(4)]
        seen.append((played, [page.pool.view(page) for page in session.row.dynamics]))
        if kept.is_on:
            assert len(compiled) == counts[-1]
    (frames, pages), *others = seen
    assert counts[1] > 0 and counts[2] == 0
    for other_frames, other_pages in others:
        assert other_frames == frames
        assert all(torch.equal(*pair) for pair in zip(other_pages, pages, strict=True))
