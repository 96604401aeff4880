"""A given time is shared out over the stages by what their steps cost here."""

import pytest

from genie_rt.export.train_all.budget import LEAST_STEPS, MOST_STEPS, share_out


def test_each_stage_gets_its_part() -> None:
    budgets = share_out(1000.0, {"tokenizer": 1.0, "lam": 0.5, "dynamics": 2.0})
    assert {name: budget.steps for name, budget in budgets.items()} == {
        "tokenizer": 280, "lam": 240, "dynamics": 300,
    }  # fmt: skip
    assert sum(budget.seconds for budget in budgets.values()) == pytest.approx(1000.0)


def test_what_a_stage_cannot_use_goes_to_the_dynamics() -> None:
    budgets = share_out(100_000.0, {"tokenizer": 0.5, "lam": 0.1, "dynamics": 1.0})
    assert budgets["tokenizer"].steps == MOST_STEPS["tokenizer"]
    assert budgets["lam"].steps == MOST_STEPS["lam"]
    assert budgets["dynamics"].seconds == pytest.approx(100_000 - 8000 * 0.5 - 3000 * 0.1, abs=1)


def test_without_a_lam_the_others_share_its_part() -> None:
    budgets = share_out(880.0, {"tokenizer": 1.0, "dynamics": 1.0})
    assert budgets["tokenizer"].steps == 280 and budgets["dynamics"].steps == 600


def test_there_are_always_some_steps() -> None:
    budgets = share_out(1.0, {"tokenizer": 10.0, "lam": 10.0, "dynamics": 10.0})
    assert {budget.steps for budget in budgets.values()} == {LEAST_STEPS}
