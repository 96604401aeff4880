"""What is printed of worlds, sessions and moments is one line, and of tensors there is none in it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from makers import make_config, make_model, make_pictures, make_world
from torch.utils._python_dispatch import TorchDispatchMode

from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.world import World

CONFIG = make_config()
PICTURE = make_pictures(CONFIG, 1)[0]


class NoTensorWork(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, *_: Any) -> Any:
        raise AssertionError(f"{function} ran")


def shown(value: object) -> str:
    """Its `repr`, which may not touch a tensor."""
    with NoTensorWork():
        return repr(value)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(CONFIG)


def test_a_world_says_its_name_and_what_computes_it(world: World) -> None:
    assert shown(world) == f"World({world.bundle.name!r}, reference float64 on cpu)"


def test_a_session_says_where_it_is_and_how_it_decodes(world: World) -> None:
    session = world.session(seed=7, passes=2)
    tail = "plan='maskgit, 2 passes')"
    assert shown(session) == f"Session({world!r}, seed=7, frame_index=None, {tail}"
    session.reset(PICTURE)
    session.step(0)
    assert shown(session) == f"Session({world!r}, seed=7, frame_index=1, {tail}"


def test_moments_say_which_they_are_and_not_what_they_hold(world: World) -> None:
    session = world.session(seed=2**64 - 1, passes=2)
    session.reset(PICTURE)
    session.step(1)
    where = f"seed={2**64 - 1}, frame_index=1"
    assert shown(session.snapshot()) == f"Snapshot({world!r}, {where})"
    assert shown(session.row) == f"Row({where}, action=1, pending=True, device='cpu')"
    rollout = session.rollout([[0, 1], [1, 1], [1, 0]])
    height, width = world.output_size
    count = CONFIG.tokenizer.num_tokens
    assert shown(rollout) == f"Rollout(tokens=[3, 2, {count}], frames=[3, 2, {height}, {width}, 3], ends=3)"
    assert (
        shown(session.rollout([[0]], frames=False)) == f"Rollout(tokens=[1, 1, {count}], frames=None, ends=0)"
    )


def test_a_row_of_the_cuda_back_end_says_no_more_than_any_other(world: World) -> None:
    backend = CudaBackend(make_model(CONFIG), Precision.of("float32"), torch.device("cpu"))
    cuda = World(world.bundle, backend, "float32")
    session = cuda.session(seed=3, passes=2)
    session.reset(PICTURE)
    assert shown(cuda) == f"World({world.bundle.name!r}, cuda float32 on cpu)"
    assert shown(session.row).startswith("CudaRow(seed=3, frame_index=0, action=-1, ")
    assert "tensor" not in shown(replace(session.row, seed=4))
