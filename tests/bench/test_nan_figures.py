"""A figure that is NaN is never taken for a good one, though `max(0.0, nan)` is 0.0."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from genie_rt.bench.parity.bounds import BOUNDS
from genie_rt.bench.parity.tally import Tally
from genie_rt.bench.parity.verify import _judge
from genie_rt.errors import DeviceError
from genie_rt.export.calibrate import _error, _finite
from genie_rt.runtime.backends.protocol import Probe
from genie_rt.training.evaluation.clip_distance import frechet

NAN = float("nan")


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
@pytest.mark.parametrize("index", range(4))
def test_a_clip_distance_of_nan_is_not_the_best_one(index: int, bad: float) -> None:
    given = [np.zeros(3), np.eye(3), np.ones(3), np.eye(3)]
    assert frechet(*given) == pytest.approx(3.0)
    given[index] = np.full_like(given[index], bad)
    with pytest.raises(DeviceError, match="expected finite descriptors"):
        frechet(*given)


@pytest.mark.parametrize("whose", ["yardstick", "candidate"])
def test_logits_that_are_nan_do_not_compare(whose: str) -> None:
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    good = Probe(logits=torch.zeros(1, 2, 4), candidates=tokens)
    bad = dataclasses.replace(good, logits=torch.full((1, 2, 4), NAN))
    pair = (bad, good) if whose == "yardstick" else (good, bad)
    with pytest.raises(DeviceError, match="logits are NaN or Inf"):
        Tally(1.0).add_pass(*pair, torch.full((1, 2), 0.5))


def test_a_bound_or_a_distance_of_nan_lets_nothing_pass() -> None:
    tally = Tally(1.0)
    cdf = torch.tensor([[[0.25, 0.5, 0.75, 1.0]] * 2], dtype=torch.float64)
    tokens = torch.tensor([[1, 1]])
    tally.add_tokens(cdf, tokens, tokens + 1, torch.tensor([[0.4999999, 0.4999999]]))
    assert _judge(tally, 1e-3, "float32", BOUNDS["float32"]) is None
    assert "2 mismatches" in str(_judge(tally, NAN, "float32", BOUNDS["float32"]))
    tally.add_tokens(cdf * NAN, tokens, tokens + 1, torch.tensor([[0.5, 0.5]]))
    assert "2 mismatches" in str(_judge(tally, 1e-3, "float32", BOUNDS["float32"]))


def test_int8_is_not_calibrated_by_nan() -> None:
    a = [torch.ones(2, 3)]
    assert _error("pixels", a, [2 * a[0]]) == 1.0
    with pytest.raises(DeviceError, match="expected finite pixels, found nan"):
        _error("pixels", a, [a[0] * NAN])
    with pytest.raises(DeviceError, match="expected finite logits, found inf"):
        _finite(math.inf, "logits")
