"""Intervals against textbook values, and the bootstrap's own contract."""

import numpy as np
import pytest

from genie_rt.training.evaluation.intervals import (
    RESAMPLES,
    bootstrap,
    clip_sums,
    mean_interval,
    ratio_interval,
    wilson,
)


def test_the_interval_of_a_mean_is_the_normal_one_where_there_are_many_clips() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    half = 1.96 * values.std(ddof=1) / 20
    low, high = mean_interval(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = sum(low <= 0 <= high for low, high in (mean_interval(random.normal(size=50)) for _ in range(300)))
    assert 0.88 < hits / 300 < 0.99


def test_resamples_draw_whole_clips_and_are_the_same_each_time() -> None:
    seen = []

    def figure(weights: np.ndarray) -> np.ndarray:
        seen.append(weights.copy())
        return weights[:, 0]

    assert bootstrap(7, figure) == bootstrap(7, figure)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert seen[0].shape == (RESAMPLES, 7) and (seen[0].sum(1) == 7).all()
    assert seen[0].min() == 0 and abs(seen[0].mean() - 1) < 1e-12


def test_equal_clips_have_an_interval_of_no_length() -> None:
    assert mean_interval(np.full(5, 2.5)) == (2.5, 2.5)
    assert ratio_interval(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == (0.5, 0.5)


def test_undefined_resamples_are_left_out() -> None:
    low, high = ratio_interval(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert (low, high) == (0.5, 0.5)  # 0 / 0 where only the second was drawn
    assert ratio_interval(np.zeros(3), np.zeros(3)) is None
    assert mean_interval(np.ones(1)) is None and mean_interval(np.ones(0)) is None


def test_sums_by_clip() -> None:
    assert clip_sums([1, 2, 4, 8], np.array([9, 2, 9, 5])).tolist() == [2.0, 8.0, 5.0]


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_s_interval_is_the_textbook_s(successes: int, total: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3, without continuity correction."""
    assert wilson(successes, total) == pytest.approx((low, high), abs=6e-5)


def test_wilson_of_nothing_and_of_nonsense() -> None:
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="expected 0 to 3 successes"):
        wilson(4, 3)
