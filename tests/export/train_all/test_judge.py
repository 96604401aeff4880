"""The verdict on latent actions."""

from dataclasses import replace

import pytest

from genie_rt.export.train_all.judge import BAD, FAIR, GOOD, _latent_actions
from genie_rt.runtime.action_health import ActionHealth

HEALTHY = ActionHealth(
    true_db=30.0,
    shuffled_db=24.0,
    none_db=26.0,
    copy_db=22.0,
    shares=(0.25,) * 4,
    code_cosine=0.3,
    effect_likeness=0.5,
)


@pytest.mark.parametrize(
    ("changes", "mark", "advice"),
    [
        ({}, GOOD, ""),
        ({"effect_likeness": 0.98}, FAIR, "--num-actions"),  # more codes than the game has moves
        ({"shuffled_db": 28.0}, FAIR, "codes tell little"),
        ({"shuffled_db": 29.9}, BAD, "codes tell little"),
        ({"shuffled_db": 29.9, "effect_likeness": 1.0}, BAD, "codes tell little"),
        ({"true_db": float("nan")}, BAD, "codes tell little"),
    ],
)
def test_latent_actions_are_judged(changes: dict[str, float], mark: str, advice: str) -> None:
    verdict = _latent_actions(replace(HEALTHY, **changes))  # type: ignore[arg-type]
    assert verdict.mark == mark
    assert (advice in verdict.advice) if advice else verdict.advice == ""
