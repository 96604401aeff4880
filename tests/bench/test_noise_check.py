"""A disturbed machine is told from a quiet one by its counters, which here are made up."""

from dataclasses import replace
from pathlib import Path

import pytest

from genie_rt.bench.noise_check import Counters, disturbances
from genie_rt.bench.timer import Times

START = Counters(
    load_per_core=0.1,
    total_s=1000,
    busy_s=100,
    steal_s=5,
    own_s=10,
    quota_stops=3,
    throttles=7,
    clock_cap=1.0,
)
END = replace(START, total_s=1020, busy_s=110.2, own_s=20)
"""Twenty seconds of two cores, half of them at work, and nearly all of that work this process's."""

UNKNOWN = Counters(
    load_per_core=None, total_s=None, busy_s=None, steal_s=None, own_s=0, quota_stops=None, throttles=None,
    clock_cap=None,
)  # fmt: skip


def times(*run_ns: int) -> Times:
    return Times(run_ns=run_ns, after_ns=(0,) * len(run_ns))


def test_a_quiet_machine_is_not_complained_about() -> None:
    assert disturbances(START, END, {"a": times(100, 101, 99, 100), "b": times(5)}) == []


def test_a_machine_that_tells_nothing_is_not_judged() -> None:
    assert disturbances(UNKNOWN, UNKNOWN) == []
    assert disturbances(UNKNOWN, END) == []
    assert disturbances(START, UNKNOWN) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"load_per_core": 1.5}, {}, "load 1.5 per core"),
        ({}, {"steal_s": 6.0}, "other guests of this host took 5%"),
        ({}, {"busy_s": 114}, "other processes took 20%"),
        ({}, {"quota_stops": 4}, "quota"),
        ({}, {"throttles": 8}, "throttled for its heat"),
        ({}, {"clock_cap": 0.6}, "limited to 60%"),
        ({"clock_cap": 0.5}, {}, "limited to 50%"),
    ],
)
def test_each_disturbance_is_named(before: dict[str, float], after: dict[str, float], expected: str) -> None:
    (found,) = disturbances(replace(START, **before), replace(END, **after))
    assert expected in found


def test_what_was_before_the_measurement_is_no_disturbance() -> None:
    assert disturbances(replace(START, steal_s=500), replace(END, steal_s=500)) == []


def test_the_worst_drift_is_named() -> None:
    drifting = {"steady": times(100, 100, 100, 100), "a": times(100, 80), "b": times(100, 100, 150, 150)}
    (found,) = disturbances(START, END, drifting)
    assert "b +50%" in found
    assert "faster -50%" in disturbances(START, END, {"faster": times(100, 100, 50, 50)})[0]


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_counters_are_read_from_where_linux_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_CLK_TCK": 10}[name])
    write(tmp_path, "proc/stat", "cpu  10 20 30 400 50 6 7 80 999 999\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n")
    for core, limit in ((0, 3000), (1, 1500)):
        folder = f"sys/devices/system/cpu/cpu{core}"
        write(tmp_path, f"{folder}/thermal_throttle/core_throttle_count", f"{core + 1}\n")
        write(tmp_path, f"{folder}/cpufreq/scaling_max_freq", f"{limit}\n")
        write(tmp_path, f"{folder}/cpufreq/cpuinfo_max_freq", "3000\n")
    found = Counters.read(tmp_path)
    assert (found.total_s, found.busy_s, found.steal_s) == (60.3, 7.3, 8.0)
    assert (found.quota_stops, found.throttles, found.clock_cap) == (4, 3, 0.5)
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "nr_throttled 11\n")
    assert Counters.read(tmp_path).quota_stops == 11  # version 2 of control groups is looked for first


@pytest.mark.parametrize("stat", [None, "", "intr 1 2 3", "cpu 1 2 3", "cpu a b c d e f g h", "\n"])
def test_a_system_that_is_no_linux_tells_nothing(tmp_path: Path, stat: str | None) -> None:
    if stat is not None:
        write(tmp_path, "proc/stat", stat)
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "nr_throttled many\n")
    found = Counters.read(tmp_path)
    assert (found.total_s, found.busy_s, found.steal_s) == (None, None, None)
    assert (found.quota_stops, found.throttles, found.clock_cap) == (None, None, None)


def test_this_machine_can_be_read() -> None:
    before = Counters.read()
    after = Counters.read()
    assert after.own_s >= before.own_s > 0
    if before.total_s is not None and after.total_s is not None:
        assert after.total_s >= before.total_s
