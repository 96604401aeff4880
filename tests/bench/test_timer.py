"""The timer: what it counts, in which order and for how long. Its clock is a fake."""

from collections.abc import Callable

import pytest

from genie_rt.bench.timer import Candidate, Times, measure, paired_ratio, percentile
from genie_rt.errors import InputError


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 1_000
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.now

    def work(self, name: str, *durations: int) -> Callable[[], None]:
        """Takes the given durations in turn, the last one for ever."""
        left = list(durations)

        def run() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def times(*run_ns: int, after_ns: int = 0) -> Times:
    return Times(run_ns=run_ns, after_ns=(after_ns,) * len(run_ns))


# --- percentiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "expected"), [(5, 15), (20, 15), (20.01, 20), (40, 20), (50, 35), (99, 50), (100, 50)]
)
def test_percentile_is_the_nearest_rank(q: float, expected: int) -> None:
    assert percentile([50, 15, 40, 20, 35], q) == expected


def test_percentiles_of_a_hundred_and_of_one() -> None:
    assert [percentile(range(1, 101), q) for q in (1, 50, 90, 95, 99, 100)] == [1, 50, 90, 95, 99, 100]
    assert [percentile([7], q) for q in (0.1, 50, 100)] == [7, 7, 7]


@pytest.mark.parametrize("q", [0, -1, 100.1, float("nan")])
def test_a_percentile_that_cannot_be_is_refused(q: float) -> None:
    with pytest.raises(InputError, match="percentile"):
        percentile([1, 2], q)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="of 0"):
        percentile([], 50)


# --- the run ---------------------------------------------------------------------------------------------


def test_every_round_runs_each_once_and_begins_with_the_next() -> None:
    clock = Clock()
    candidates = [Candidate(name=name, run=clock.work(name, 1)) for name in "abc"]
    measure(candidates, iterations=4, clock_ns=clock)
    assert "".join(clock.log) == "abcbcacababc"


def test_times_are_of_the_round_and_exclude_warm_up_and_callbacks() -> None:
    clock = Clock()
    candidates = [
        Candidate(name="a", run=clock.work("a", 500, 600, 1, 2, 3)),
        Candidate(name="b", run=clock.work("b", 700, 800, 10, 20, 30)),
    ]
    on_round = clock.work("-", 9_999)
    found = measure(candidates, iterations=3, warm_up_s=12e-6, clock_ns=clock, on_round=on_round)
    assert found["a"].run_ns == (1, 2, 3) and found["b"].run_ns == (10, 20, 30)
    assert clock.log.count("-") == 5


def test_each_candidate_runs_untimed_before_it_is_timed() -> None:
    clock = Clock()
    candidates = [
        Candidate(name="a", run=clock.work("a", 40, 40, 40, 7)),  # 100 ns take three of them
        Candidate(name="b", run=clock.work("b", 500, 8)),
    ]
    found = measure(candidates, iterations=1, settle_s=100e-9, clock_ns=clock)
    assert "".join(clock.log) == "aaaabb"
    assert (found["a"].run_ns, found["b"].run_ns) == ((7,), (8,))


def test_one_candidate_alone_needs_no_settling() -> None:
    clock = Clock()
    found = measure([Candidate(name="a", run=clock.work("a", 7))], iterations=1, settle_s=1, clock_ns=clock)
    assert (clock.log, found["a"].run_ns) == (["a"], (7,))


def test_what_comes_after_is_timed_apart() -> None:
    clock = Clock()
    candidate = Candidate(name="a", run=clock.work("run", 3, 4), after=clock.work("after", 30, 40))
    found = measure([candidate], iterations=2, clock_ns=clock)["a"]
    assert (found.run_ns, found.after_ns) == ((3, 4), (30, 40))
    assert clock.log == ["run", "after", "run", "after"]


def test_rounds_go_on_until_there_are_enough_and_they_took_long_enough() -> None:
    def rounds(iterations: int, duration_s: float, warm_up_s: float = 0) -> tuple[int, int]:
        clock = Clock()
        candidate = Candidate(name="a", run=clock.work("a", 1_000_000))
        found = measure(
            [candidate], iterations=iterations, duration_s=duration_s, warm_up_s=warm_up_s, clock_ns=clock
        )
        return len(found["a"].run_ns), len(clock.log)

    assert rounds(5, 0) == (5, 5)
    assert rounds(5, 0.003) == (5, 5)
    assert rounds(5, 0.0075) == (8, 8)
    assert rounds(5, 0.008) == (8, 8)
    assert rounds(5, 0, warm_up_s=0.0021) == (5, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 0},
        {"duration_s": -1.0},
        {"duration_s": float("nan")},
        {"duration_s": float("inf")},
        {"warm_up_s": -0.1},
        {"warm_up_s": float("inf")},
    ],
    ids=str,
)
def test_a_run_of_nothing_or_without_end_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="iterations"):
        measure([Candidate(name="a", run=int)], **{"iterations": 1} | change)
    with pytest.raises(InputError, match="something to time"):
        measure([], iterations=1)


def test_what_a_candidate_raises_comes_through() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure([Candidate(name="a", run=fail)], iterations=1)


# --- figures ---------------------------------------------------------------------------------------------


def test_figures_of_a_series() -> None:
    ms = 1_000_000
    series = times(10 * ms, 20 * ms, 30 * ms, 40 * ms)
    assert (series.percentile_ms(50), series.percentile_ms(75), series.max_ms) == (20.0, 30.0, 40.0)
    assert series.per_second == 40.0
    assert (series.missed(30), series.missed(60), series.missed(25)) == (0.25, 0.75, 0.0)


def test_what_comes_after_counts_for_the_rate_and_the_deadline_but_not_for_the_latency() -> None:
    ms = 1_000_000
    series = times(10 * ms, 20 * ms, after_ns=20 * ms)
    assert series.max_ms == 20.0
    assert series.per_second == pytest.approx(2000 / 70)
    assert series.missed(30) == 0.5


def test_the_ratio_is_taken_within_rounds() -> None:
    fast, slow = times(1, 10, 100), times(2, 30, 400)  # the machine slowed down a hundredfold
    assert paired_ratio(slow, fast) == 3
    assert paired_ratio(fast, fast) == 1


def test_the_ratio_needs_as_many_of_both() -> None:
    with pytest.raises(ValueError):
        paired_ratio(times(1, 2), times(1))


def test_drift_is_the_later_half_by_the_earlier_one() -> None:
    assert times(100, 100, 150, 150).drift == 0.5
    assert times(100, 100, 50, 50).drift == -0.5
    assert times(100, 102, 98, 100).drift == pytest.approx(-0.02, abs=1e-3)
    assert times(5).drift == 0
