"""LoopConfig refuses what makes no sense; the schedule has the promised values."""

from itertools import pairwise
from typing import Any

import pytest

from genie_rt.errors import ConfigError
from genie_rt.training.loop_config import LoopConfig, learning_rate_at


def config(**changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "steps": 110,
        "batch": 1,
        "learning_rate": 1.0,
        "final_learning_rate": 0.2,
        "warmup": 1 / 11,
    }
    return LoopConfig(**(defaults | changes))


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("cosine", 0.6, 0.2), ("linear", 0.6, 0.2), ("constant", 1.0, 1.0)]
)
def test_schedule_values(schedule: str, middle: float, end: float) -> None:
    rates = [learning_rate_at(config(schedule=schedule), step) for step in range(200)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(middle)
    assert rates[110:] == pytest.approx([end] * 90)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_short_run_reaches_its_peak() -> None:
    rates = [learning_rate_at(config(steps=30, warmup=0.1), step) for step in range(30)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert max(rates[:5]) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("final_learning_rate", -1.0),
        ("warmup", -0.1),
        ("warmup", 1.0),
        ("weight_decay", float("inf")),
        ("gradient_clip", float("nan")),
        ("beta1", 1.0),
        ("ema_decay", 1.0),
        ("seed", -1),
        ("keep_checkpoints", 0),
        ("schedule", "wsd"),
        ("optimizer", "sgd"),
        ("precision", "fp16"),
    ],
)
def test_bad_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        config(**{name: value})
