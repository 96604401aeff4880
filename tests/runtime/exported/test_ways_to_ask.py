"""Frames of exported graphs do not depend on how they are asked for; nor do those of the native engine.

An engine rounds otherwise in a frame graph than in the graphs that it stands for, so what is asked of a plan
that has one goes through that: after an idle commit, of several actions, without pictures.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import make_config, make_model, make_pictures, make_world, need

from genie_rt.cli import main
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

BY_PASSES = Plan(order="random", passes=2)
"""A plan without a graph of the whole frame: a commit is one call, and each pass one."""

ACTIONS = np.random.default_rng(0).integers(0, 6, 8).tolist()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], World]:
    """The demo, or a small model where the demo has no graphs of a format; each world is loaded once."""

    @cache
    def loaded(backend: str, dtype: str) -> World:
        path = half_bundle(tmp_path_factory.mktemp("half")) if dtype == "float16" else "demo"
        return World.load(path, backend=backend, dtype=dtype)

    return loaded


def half_bundle(folder: Path) -> Path:
    """A bundle with graphs in float16, of the plan "fast" as well."""
    pytest.importorskip("onnx")
    config = make_config()
    write_bundle(
        folder / "plain", name="tiny", preset="demo", config=config, weights=make_model(config).state_dict(),
        action_names=make_world(config).action_names, default_action="stay",
        plans={"default": Plan(passes=2), "fast": Plan(passes=2)}, prompts=list(make_pictures(config, 1)),
        provenance={}, model_card="# tiny\n",
    )  # fmt: skip
    words = ["export", str(folder / "plain"), "--out", str(folder / "half"), "--onnx", "--fp16"]
    assert main([*words, "--plan", "fast"]) == 0
    return folder / "half"


def started(world: World, plan: str | Plan) -> Session:
    session = world.session(seed=3, plan=plan)
    session.reset(world.prompt(0))
    return session


@pytest.mark.parametrize(
    ("backend", "dtype", "plan"),
    [
        ("native", "float32", "default"),
        ("native", "float32", BY_PASSES),
        ("native", "int8", "fast"),
        ("native", "int8", BY_PASSES),
        ("onnx", "float32", "fast"),
        ("onnx", "int8", "fast"),
        ("onnx", "int8", BY_PASSES),
        ("onnx", "float16", "fast"),
        ("onnx", "float16", BY_PASSES),
        ("openvino", "float32", "fast"),
        ("openvino", "bfloat16", "fast"),
        ("openvino", "bfloat16", BY_PASSES),
        ("openvino", "int8", "default"),
        ("openvino", "int8", "fast"),
    ],
)
def test_frames_do_not_depend_on_commits_peeks_and_pictures(
    backend: str, dtype: str, plan: str | Plan, load: Callable[[str, str], World]
) -> None:
    need(backend)
    world = load(backend, dtype)
    assert world.backend.batch_invariant
    ahead = world.backend.commits_ahead(started(world, plan).plan)
    assert ahead == (plan == BY_PASSES or backend == "native")
    fused, idle, peeking = (started(world, plan) for _ in range(3))
    num_actions = len(world.action_names)
    led_by = [action % num_actions for action in ACTIONS]
    planned = fused.rollout([led_by], frames=False).tokens[0]
    for t, action in enumerate(led_by):
        idle.commit()
        moment = idle.snapshot()
        idle.step((action + 1) % num_actions)
        idle.restore(moment)
        name = world.action_names[action]
        seen = peeking.peek([action, (action + 1) % num_actions])[name]
        expected = fused.fork().step(action)
        assert np.array_equal(seen, expected), f"frame {t}, peeked at"
        assert np.array_equal(idle.step(action), expected), f"frame {t}, committed and gone back to"
        for session in (fused, peeking):
            assert np.array_equal(session.step(action), expected), f"frame {t}"
        assert np.array_equal(planned[t], fused.row.tokens), f"frame {t}, planned"
        kept = [world.backend.save_row(session.row)["dynamics"][0] for session in (fused, idle)]
        assert torch.equal(*kept), f"frame {t}, last bits"
