"""Frames of the demo's graphs do not depend on how they are asked for.

An engine rounds otherwise in a frame graph than in the graphs that it stands for, so what is asked of a plan
that has one goes through that: after an idle commit, of several actions, without pictures.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
ACTIONS = np.random.default_rng(0).integers(0, 6, 8).tolist()


@pytest.fixture(scope="module")
def load() -> Callable[[str, str], World]:
    """The demo; each world is loaded once."""
    return cache(lambda backend, dtype: World.load("demo", backend=backend, dtype=dtype))


def started(world: World, plan: str) -> Session:
    session = world.session(seed=3, plan=plan)
    session.reset(world.prompt(0))
    return session


@pytest.mark.parametrize(
    ("backend", "dtype", "plan"),
    [
        ("onnx", "float32", "fast"),
        ("onnx", "int8", "fast"),
        ("openvino", "float32", "fast"),
        ("openvino", "bfloat16", "fast"),
        ("openvino", "int8", "default"),
        ("openvino", "int8", "fast"),
    ],
)
def test_frames_do_not_depend_on_commits_peeks_and_pictures(
    backend: str, dtype: str, plan: str, load: Callable[[str, str], World]
) -> None:
    pytest.importorskip(MODULES[backend])
    world = load(backend, dtype)
    fused, idle, peeking = (started(world, plan) for _ in range(3))
    planned = fused.rollout([ACTIONS], frames=False).tokens[0]
    for t, action in enumerate(ACTIONS):
        idle.commit()
        name = world.action_names[action]
        seen = peeking.peek([action, (action + 1) % 6])[name]
        expected = fused.fork().step(action)
        assert np.array_equal(seen, expected), f"frame {t}, peeked at"
        assert np.array_equal(idle.step(action), expected), f"frame {t}, committed"
        for session in (fused, peeking):
            assert np.array_equal(session.step(action), expected), f"frame {t}"
        assert np.array_equal(planned[t], fused.row.tokens), f"frame {t}, planned"
        pages = [session.row.dynamics[0] for session in (fused, idle)]
        assert torch.equal(*(page.pool.view(page) for page in pages)), f"frame {t}, last bits"
