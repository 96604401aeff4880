"""A dead action model is told from a living one, whatever its loss and its perplexity say."""

from dataclasses import replace

import pytest

from genie_rt.runtime.action_health import ActionHealth, health_of, health_text

GOOD = ActionHealth(
    true_db=22.0, shuffled_db=16.0, none_db=18.0, copy_db=16.5, shares=(0.5, 0.25, 0.25, 0.0),
    code_cosine=0.3, effect_likeness=0.6,
)  # fmt: skip


def test_good_codes_have_no_problem() -> None:
    assert GOOD.problem() is None
    assert GOOD.delta_db == 6.0
    assert GOOD.perplexity == pytest.approx(2.0**1.5)
    assert GOOD.num_used == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shuffled_db": 21.95}, "ignores the codes"),
        ({"shares": (1.0, 0.0, 0.0, 0.0)}, "one code stands for 100%"),
        ({"code_cosine": 0.9999}, "two codes mean the same"),
        ({"effect_likeness": 0.99}, "two codes mean the same"),
        ({"true_db": float("nan")}, "not finite"),
    ],
)
def test_dead_codes_are_named(changes: dict[str, object], words: str) -> None:
    problem = replace(GOOD, **changes).problem()  # type: ignore[arg-type]
    assert problem is not None and words in problem


def test_perplexity_alone_does_not_help() -> None:
    """As it was found: codes split at random, all alike, and a decoder that draws one picture."""
    found = replace(GOOD, shares=(0.25,) * 4, shuffled_db=22.0, code_cosine=0.9999)
    assert found.perplexity == pytest.approx(4.0) and found.problem() is not None


def test_figures_come_back() -> None:
    assert ActionHealth.from_figures(GOOD.as_figures()) == GOOD
    assert health_of({"stages": {"lam": {"figures": GOOD.as_figures()}}}) == GOOD


@pytest.mark.parametrize(
    "provenance",
    [{}, {"stages": 3}, {"stages": {"lam": {}}}, {"stages": {"lam": {"figures": {"true_db": "high"}}}}],
)
def test_what_was_not_measured_is_said(provenance: dict[str, object]) -> None:
    assert health_of(provenance) is None
    assert "not known" in health_text(provenance)


def test_a_warning_stands_below_the_figures() -> None:
    dead = replace(GOOD, shuffled_db=22.0)
    text = health_text({"stages": {"lam": {"figures": dead.as_figures()}}})
    assert "Δ 0.00" in text and "\nwarning: the decoder ignores the codes" in text
