"""Check whether the machine was quiet during a measurement; report disturbances in sentences.

A shared machine gives wrong times and says so in its own counters: processor time that the hypervisor gave to
other guests (steal), processor time of other processes, a quota that stopped this one, a clock that was
throttled. They are read before and after. What a system does not tell is not judged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from genie_rt.bench.timer import Times

MAX_LOAD = 1.0
"""Processes per core that wanted to run in the minute before; a machine at rest has far less."""

MAX_STEAL = 0.01
"""Share of the processor time that other guests may have taken."""

MAX_OTHERS = 0.05
"""Share of the processor time that other processes may have taken; a system's own chores take 1% to 2%."""

MAX_DRIFT = 0.1
"""Largest relative difference between the medians of a run's halves that passes for a quiet machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """System counters, mostly of Linux; None where the system does not have them.

    Attributes:
        load_per_core: processes that ran or wanted to in the last minute, per core.
        total_s, busy_s, steal_s: processor time of the whole machine, since its start: in all, at work, and
            given to other guests.
        own_s: processor time of this process.
        quota_stops: how often the control group's quota stopped its processes.
        throttles: how often a core was slowed down for its heat.
        clock_cap: the lowest clock limit of a core by what it could do, such as 0.8.
    """

    load_per_core: float | None
    total_s: float | None
    busy_s: float | None
    steal_s: float | None
    own_s: float
    quota_stops: int | None
    throttles: int | None
    clock_cap: float | None

    @classmethod
    def read(cls, root: Path = Path("/")) -> Counters:
        """Read the counters now.

        Args:
            root: where `proc` and `sys` are.
        """
        total, busy, steal = _processor_time(root / "proc/stat")
        cores = root / "sys/devices/system/cpu"
        throttles = _numbers(cores.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        allowed = _numbers(cores.glob("cpu[0-9]*/cpufreq/scaling_max_freq"))
        possible = _numbers(cores.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"))
        return cls(
            load_per_core=_load_per_core(),
            total_s=total,
            busy_s=busy,
            steal_s=steal,
            own_s=time.process_time(),
            quota_stops=_quota_stops(root / "sys/fs/cgroup"),
            throttles=sum(throttles) if throttles else None,
            clock_cap=min(allowed) / max(*possible, 1) if allowed and possible else None,
        )


def disturbances(before: Counters, after: Counters, times: Mapping[str, Times] | None = None) -> list[str]:
    """List disturbances between two readings, one sentence each; none on a quiet machine.

    Args:
        before: read before the measurement, which is itself a load.
        times: what was timed, by name.
    """
    found = []
    if before.load_per_core is not None and before.load_per_core > MAX_LOAD:
        found.append(
            f"the machine was busy before the measurement (load {before.load_per_core:.1f} per core): times "
            "are too long, ratios still hold"
        )
    found += _shared(before, after)
    if _grew(before.quota_stops, after.quota_stops):
        found.append("a processor quota stopped this process during the measurement: times are too long")
    if _grew(before.throttles, after.throttles):
        found.append("the processor was throttled for its heat during the measurement: times are too long")
    caps = [cap for cap in (before.clock_cap, after.clock_cap) if cap is not None]
    if caps and min(caps) < 1:
        found.append(f"the processor's clock is limited to {min(caps):.0%} of what it can do")
    return found + _drift(times or {})


def _shared(before: Counters, after: Counters) -> list[str]:
    """Describe processor time that other guests and processes took."""
    if before.total_s is None or after.total_s is None or after.total_s <= before.total_s:
        return []
    found, total = [], after.total_s - before.total_s
    if before.steal_s is not None and after.steal_s is not None:
        steal = (after.steal_s - before.steal_s) / total
        if steal > MAX_STEAL:
            found.append(f"other guests of this host took {steal:.0%} of the processor time: measure again")
    if before.busy_s is not None and after.busy_s is not None:
        others = (after.busy_s - before.busy_s - (after.own_s - before.own_s)) / total
        if others > MAX_OTHERS:
            found.append(
                f"other processes took {others:.0%} of the processor time during the measurement: times are "
                "too long, ratios still hold"
            )
    return found


def _drift(times: Mapping[str, Times]) -> list[str]:
    drifted = {name: series.drift for name, series in times.items() if abs(series.drift) > MAX_DRIFT}
    if not drifted:
        return []
    name = max(drifted, key=lambda key: abs(drifted[key]))
    return [
        f"times drifted: {name} {drifted[name]:+.0%} from the first half of the run to the second; measure "
        "again"
    ]


def _grew(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _processor_time(path: Path) -> tuple[float | None, float | None, float | None]:
    """Seconds in all, at work and stolen, from the first line of `/proc/stat`."""
    try:
        name, *fields = path.read_text().splitlines()[0].split()
        ticks = [int(field) for field in fields[:8]]  # the guests' time that follows is in these already
        if name != "cpu" or len(ticks) < 8:
            raise ValueError
    except (OSError, ValueError, IndexError):
        return None, None, None
    user, nice, system, idle, io_wait, interrupts, soft_interrupts, steal = ticks
    busy = user + nice + system + interrupts + soft_interrupts
    per_second = os.sysconf("SC_CLK_TCK")
    return (busy + idle + io_wait + steal) / per_second, busy / per_second, steal / per_second


def _load_per_core() -> float | None:
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None


def _quota_stops(folder: Path) -> int | None:
    """`nr_throttled` of the control group, of version 2 or 1."""
    for path in (folder / "cpu.stat", folder / "cpu/cpu.stat"):
        try:
            lines = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
            return int(lines["nr_throttled"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def _numbers(paths: Iterable[Path]) -> list[int]:
    """The whole number in each file that has one."""
    found = []
    for path in paths:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return found
