"""The rule by which plans are recommended, on rows made by hand."""

from quality_rows import make_baselines, make_row

from genie_rt.bench.quality.choice import recommend
from genie_rt.bench.quality.measure import Decibels
from genie_rt.runtime.plan import Plan

ONE, TWO, FOUR, EIGHT = (Plan(passes=K) for K in (1, 2, 4, 8))
BASELINES = make_baselines(floor=4.0, frozen=60.0)  # copying: 14 dB at step 4


def test_quality_is_the_cheapest_of_those_that_noise_cannot_tell_from_the_best() -> None:
    rows = [
        make_row(FOUR, ms=20, distance=9.4, distance_noise=0.1),
        make_row(EIGHT, ms=40, distance=9.0, distance_noise=0.5),
        make_row(TWO, ms=10, distance=9.6, distance_noise=9.0),  # its own noise buys nothing
    ]
    assert recommend(rows, BASELINES)["quality"] == FOUR


def test_balanced_is_the_cheapest_that_is_nearly_as_good() -> None:
    best = make_row(EIGHT, ms=40, distance=8.0, distance_noise=0.1, psnr=20.0)
    near = make_row(FOUR, ms=20, distance=8.9, psnr=19.9)  # excess 4.9, at most 1.25 * 4
    far = make_row(TWO, ms=10, distance=9.1, psnr=20.0)
    dull = make_row(ONE, ms=5, distance=8.9, psnr=19.7)  # 0.3 dB less
    assert recommend([best, near, far, dull], BASELINES)["balanced"] == FOUR
    assert recommend([best, far, dull], BASELINES)["balanced"] == EIGHT


def test_near_the_floor_noise_is_near_enough() -> None:
    best = make_row(EIGHT, ms=40, distance=4.1, distance_noise=0.1)
    also = make_row(FOUR, ms=20, distance=4.15, distance_noise=0.1)
    chosen = recommend([best, also], BASELINES)
    assert chosen["quality"] == FOUR and chosen["balanced"] == FOUR


def test_fast_is_the_cheapest_that_beats_copying_and_heeds_actions() -> None:
    best = make_row(EIGHT, ms=40, distance=8.0)
    plain = make_row(FOUR, ms=20, distance=50.0, psnr=15.0)
    frozen = make_row(TWO, ms=10, distance=61.0)
    blurred = make_row(ONE, ms=5, distance=30.0, psnr=13.9)
    delta = Decibels(t=4, pooled=1.0, mean=0.4)
    deaf = make_row(Plan(passes=3), ms=4, distance=20.0, delta=delta, delta_error=0.25)
    chosen = recommend([best, plain, frozen, blurred, deaf], BASELINES)
    assert chosen == {"quality": EIGHT, "balanced": EIGHT, "fast": FOUR}
    assert recommend([frozen], BASELINES) == {"quality": TWO, "balanced": TWO, "fast": TWO}


def test_without_times_passes_are_the_cost() -> None:
    slow = make_row(TWO, ms=None, distance=9.0, passes=2.0)
    quick = make_row(Plan(order="adaptive", passes=8), ms=3.0, distance=9.0, passes=2.6)
    assert recommend([quick, slow], BASELINES)["fast"] == TWO


def test_rows_that_stand_for_another_are_not_recommended() -> None:
    twin = make_row(Plan(order="halton", passes=1), ms=4.0, same_as="maskgit-k1")
    assert recommend([twin, make_row(ONE, ms=5.0)], BASELINES)["fast"] == ONE
    assert recommend([], BASELINES) == {}


def test_a_distance_that_is_no_number_is_never_the_smallest() -> None:
    for order in (1, -1):
        rows = [
            make_row(EIGHT, ms=40, distance=9.0),
            make_row(ONE, ms=5, distance=float("nan")),
            make_row(TWO, ms=5, distance=9.0, distance_noise=float("nan")),
        ][::order]
        assert recommend(rows, BASELINES)["quality"] == EIGHT
    assert recommend([make_row(ONE, ms=5, distance=float("nan"))], BASELINES) == {}
