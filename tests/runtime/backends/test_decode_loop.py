"""The decode loop decides every token once, in the plan's number of passes, whatever an engine samples."""

import pytest
import torch
from makers import make_config, make_tensor
from torch import Tensor

from genie_rt.errors import ConfigError, UnsupportedError
from genie_rt.runtime.backends.decode_loop import EagerLoop, ProbedPasses, Schedule
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.orders import ORDERS, position_tokens
from genie_rt.runtime.plan import Plan

CONFIG = make_config(grid=(4, 6), merge=2)
N, V, ROWS = 24, CONFIG.tokenizer.codebook_size, 3
KEYS = torch.tensor([1, 2, 3]), torch.tensor([4, 4, 5])


def loop_of(plan: Plan) -> EagerLoop[Tensor]:
    passes = ProbedPasses(plan, CONFIG, *KEYS, lambda tokens, k: make_tensor(ROWS, N, V, seed=k))
    return EagerLoop(passes, plan, CONFIG, *KEYS)


@pytest.mark.parametrize("passes", [1, 2, 5, N])
@pytest.mark.parametrize("order", ORDERS)
def test_every_pass_decides_what_the_plan_says_and_changes_nothing_decided(order: str, passes: int) -> None:
    plan = Plan(order=order, passes=passes, threshold=0.2)
    loop = loop_of(plan)
    loop.first()
    took = loop.passes.schedule.passes
    assert all(count == passes or plan.adapts for count in took)
    for k in range(loop.num_passes):
        if k:
            before = loop.tokens
            loop.later(k)
            known = before != UNDECIDED
            assert torch.equal(loop.tokens[known], before[known])
        decided = (loop.tokens != UNDECIDED).sum(1).tolist()
        assert decided == [plan.replace(passes=count).decided_after(k, N) for count in took]
    assert ((loop.tokens >= 0) & (loop.tokens < V)).all()


def test_under_reuse_of_passes_the_tokens_of_a_position_are_decided_together() -> None:
    plan = Plan(order="halton", passes=3, reuse="passes")
    loop = loop_of(plan)
    loop.first()
    whole = (loop.tokens != UNDECIDED)[:, position_tokens(CONFIG)]
    assert torch.equal(whole.any(2), whole.all(2))
    assert whole.all(2).sum(1).tolist() == [plan.decided_after(0, 6)] * ROWS


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_the_last_pass_decides_all_that_is_left_whatever_its_confidence(value: float) -> None:
    """An int8 graph may give a probability of 0, whose logarithm is that of a decided token."""
    schedule = Schedule.of(Plan(passes=2), 1, N, torch.device("cpu"))
    decided = torch.arange(N)[None] % 2 == 0
    p = torch.full((1, N), 0.5)
    p[0, 5] = value
    chosen = schedule.select(1, p, decided, torch.rand(1, N, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(chosen, ~decided)


def test_logits_from_elsewhere_have_no_reuse_to_offer() -> None:
    loop = loop_of(Plan(order="halton", passes=3, reuse="passes"))
    loop.first()
    with pytest.raises(UnsupportedError, match="reuses nothing"):
        loop.later(1)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(ORDERS)}, found 'spiral'"):
        Plan(order="spiral")
