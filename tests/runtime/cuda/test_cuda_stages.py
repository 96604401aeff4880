"""What a captured stage may do: nothing that asks the device or copies from the host."""

from typing import Any

import pytest
import torch
from makers import make_config, make_model, make_pictures, make_world
from torch.utils._python_dispatch import TorchDispatchMode

from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.frame import Frame
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.decode_loop import DecodeLoop
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "item"}
"""Operators whose result has to come to the host, or decides a size."""

FROM_HOST = {"lift_fresh", "arange", "tensor", "scalar_tensor"}
"""Operators that bring a value along."""

PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=3, threshold=0.3),
    "random": Plan(order="random", passes=3),
    "halton": Plan(order="halton", passes=3),
    "random, reuse": Plan(order="random", passes=3, reuse="passes"),
    "halton, reuse": Plan(order="halton", passes=3, reuse="passes"),
    "frames": Plan(passes=3, reuse="frames"),
}


class Operators(TorchDispatchMode):
    """Notes the operators that are called within, those inside of this package's operators left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The operators of every stage that runs, by stage."""
    seen: list[tuple[str, list[str]]] = []
    for owner, name in ((Frame, "first"), (DecodeLoop, "later"), (Frame, "finish"), (Frame, "commit_pages")):
        stage = getattr(owner, name)

        def noted(self: Any, *arguments: Any, stage: Any = stage, name: str = name) -> None:
            with Operators() as operators:
                stage(self, *arguments)
            seen.append((name, operators.names))

        monkeypatch.setattr(owner, name, noted)
    return seen


def play(plan: Plan, frames: int, *, idle: bool = False) -> World:
    config = make_config(grid=(4, 6), merge=2)
    world = World(
        make_world(config).bundle,
        CudaBackend(make_model(config), Precision.of("fp32"), torch.device("cpu")),
        "float32",
    )
    session = world.session(plan=plan)
    session.reset(make_pictures(config, 1)[0])
    for action in range(frames):
        session.step(action % 3)
        if idle:
            session.commit()
    return world


@pytest.mark.parametrize("name", PLANS)
def test_no_stage_asks_the_device_or_the_host(name: str, stages: list[tuple[str, list[str]]]) -> None:
    play(PLANS[name], 8, idle=True)
    play(PLANS[name], 8)
    stages = stages[-8:]  # warm: what depends on the plan alone is there
    assert {stage for stage, _ in stages} >= {"first", "later", "finish"}
    for stage, operators in stages:
        assert "norm_qkv" in operators
        assert not (ASKS | FROM_HOST) & set(operators), stage


def test_a_stage_that_asks_is_seen(
    stages: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Frame.keep

    def asking(frame: Frame) -> None:
        keep(frame)
        assert int(frame.tokens.min()) >= 0

    monkeypatch.setattr(Frame, "keep", asking)
    play(PLANS["maskgit"], 1)
    assert ASKS & set(stages[-1][1])


def test_a_frame_is_few_launches(stages: list[tuple[str, list[str]]]) -> None:
    """Twelve a block, and in all passes the same: a launch costs some 2 microseconds even in a graph."""
    config = make_config(grid=(4, 6), merge=2)
    play(PLANS["maskgit"], 4)
    blocks = 3 * config.dynamics.transformer.num_layers + config.tokenizer.decoder.num_layers
    frame = [name for _, operators in stages[-4:] for name in operators]
    ours = [name for name in frame if name in OURS]
    assert len(ours) == 6 * blocks + 3 + 1 + 4 + 3 + 1  # norms, embeddings, samples and pixels between them
    views = {"view", "t", "slice", "select", "unsqueeze", "expand", "_unsafe_view", "transpose", "alias"}
    library = [name for name in frame if name not in OURS | views | {"mm", "detach", "unbind"}]
    assert len(library) < 100, library


OURS = {
    "norm_qkv", "mlp_gelu", "spatial_attention", "temporal_attention", "embed_tokens", "maskgit_sample",
    "unpatchify",
}  # fmt: skip
