"""What a frame may allocate once a session is warm: what torch's operators return, and nothing else."""

import gc
from typing import Any

import pytest
import torch
from makers import make_config, make_pictures, make_world
from torch.utils._python_dispatch import TorchDispatchMode

from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session

FACTORIES = {
    "arange", "empty", "empty_like", "empty_strided", "eye", "full", "full_like", "linspace", "new_empty",
    "new_full", "new_ones", "new_zeros", "ones", "ones_like", "rand", "randn", "scalar_tensor", "zeros",
    "zeros_like",
}  # fmt: skip
"""Operators that make a tensor out of nothing."""

INPUTS = 3
"""Numbers a row brings from the host: seed, frame index and action."""

PLANS = [
    Plan(passes=3),
    Plan(order="adaptive", passes=5, threshold=0.2),
    Plan(order="random", passes=3),
    Plan(order="halton", passes=3),
    Plan(order="random", passes=3, reuse="passes"),
    Plan(order="halton", passes=3, reuse="passes"),
    Plan(passes=3, reuse="frames"),
]


class Allocations(TorchDispatchMode):
    """Counts, within its `with` block, tensors made of nothing and numbers copied in from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.factories: list[str] = []
        self.inputs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in FACTORIES:
            self.factories.append(name)
        elif name == "lift_fresh":
            self.inputs += args[0].numel()
        return func(*args, **(kwargs or {}))


def warm_session(plan: Plan) -> Session:
    config = make_config(grid=(4, 6), merge=2)
    session = make_world(config).session(plan=plan)
    session.reset(make_pictures(config, 1)[0])
    for action in range(2 * config.dynamics.transformer.window):
        session.step(action % 3)
    return session


def idle_step(session: Session, action: int) -> None:
    session.commit()
    session.step(action)


def fused_step(session: Session, action: int) -> None:
    session.step(action)


def peek_and_step(session: Session, action: int) -> None:
    session.peek()
    session.step(action)


@pytest.mark.parametrize(("run", "rows"), [(fused_step, 1), (idle_step, 1), (peek_and_step, 3)])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.order}-{plan.reuse}")
def test_a_warm_frame_makes_no_tensor_of_nothing(plan: Plan, run: Any, rows: int) -> None:
    session = warm_session(plan)
    for action in range(3):
        run(session, action)
    with Allocations() as seen:
        run(session, 1)
    assert seen.factories == []
    assert seen.inputs == rows * INPUTS + 1  # the commit brings the last action, once


def test_the_counter_sees_what_it_should() -> None:
    with Allocations() as seen:
        torch.zeros(3), torch.arange(4), torch.tensor([1, 2]), torch.full_like(torch.ones(2), 7)
    assert sorted(seen.factories) == ["arange", "full_like", "ones", "zeros"]
    assert seen.inputs == 2


@pytest.mark.parametrize("run", [fused_step, idle_step, peek_and_step])
def test_a_warm_session_takes_no_more_pages(run: Any) -> None:
    session = warm_session(PLANS[0])
    pools = [session.world.backend.dynamics_pages, session.world.backend.decoder_pages]  # type: ignore[attr-defined]
    for action in range(3):
        run(session, action)
    gc.collect()
    before = [(pool.num_pages, pool.num_used) for pool in pools]
    chunks = [[chunk.data_ptr() for chunk in pool._chunks] for pool in pools]
    for action in range(50):
        run(session, action % 3)
    assert [(pool.num_pages, pool.num_used) for pool in pools] == before
    assert [[chunk.data_ptr() for chunk in pool._chunks] for pool in pools] == chunks
