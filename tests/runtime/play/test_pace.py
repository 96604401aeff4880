"""Steps come at the target rate, never in a burst; percentiles are what they say."""

import pytest

from genie_rt.runtime.play.pace import Pacer, StepTimes, percentile


def starts(durations_s, clock, fps=10.0):
    """When steps that take this long begin."""
    pacer = Pacer(fps, clock)
    result = []
    for duration_s in durations_s:
        clock.now += pacer.wait_s()
        result.append(round(clock.now - 100, 3))
        pacer.start_step()
        clock.now += duration_s
    return result


def test_fast_steps_come_at_the_target_rate(clock) -> None:
    assert starts([0.01, 0.09, 0.02, 0.05], clock) == [0.0, 0.1, 0.2, 0.3]


def test_slow_steps_follow_each_other_without_waiting(clock) -> None:
    assert starts([0.25, 0.25, 0.25], clock) == [0.0, 0.25, 0.5]


def test_one_late_step_is_not_made_up_for_in_a_burst(clock) -> None:
    assert starts([0.0, 1.0, 0.0, 0.0, 0.0], clock) == [0.0, 0.1, 1.1, 1.15, 1.25]


def test_small_delays_do_not_lower_the_rate(clock) -> None:
    pacer = Pacer(10, clock)
    for _ in range(100):
        clock.now += pacer.wait_s() + 0.003  # a timer that always comes 3 ms late
        pacer.start_step()
    assert clock.now - 100 == pytest.approx(9.9, abs=0.01)


def test_step_times(clock) -> None:
    times = StepTimes(clock)
    assert times.percentile_ms(50) is None and times.fps is None
    for step_ms in range(1, 101):
        clock.now += 0.1
        times.add(step_ms)
    assert (times.percentile_ms(50), times.percentile_ms(95)) == (50, 95)
    assert times.fps == pytest.approx(10)
    for _ in range(1000):
        times.add(7.0)
    assert times.percentile_ms(100) == 7.0  # old ones are forgotten


def test_a_pause_is_no_slow_frame(clock) -> None:
    times = StepTimes(clock)
    for wait_s in (0.1, 0.1, 60.0, 0.1, 0.1):
        clock.now += wait_s
        times.add(1.0)
    assert times.fps == pytest.approx(10)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3.0], 95, 3.0), ([4, 1, 3, 2], 50, 2), ([4, 1, 3, 2], 75, 3), ([4, 1, 3, 2], 76, 4), ([1, 2], 0, 1)],
)
def test_percentile_is_the_nearest_rank(values, percent, expected) -> None:
    assert percentile(values, percent) == expected
