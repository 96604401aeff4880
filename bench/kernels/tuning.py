"""Choose launch configurations, and save them in `kernels/tuned/sm_<capability>.json`.

On a GPU the fastest configuration of each specialisation is chosen, over all cases that launch it. Without
one, the first of the author's order that compiles without spills and fits into shared memory.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_rt.bench.kernels.compile import Compiled, compile_one
from genie_rt.bench.kernels.times import Clock, judge_case
from genie_rt.kernels.case import Case
from genie_rt.kernels.launch import Config, Kernel, Trial, Variant, read_tuned
from genie_rt.runtime.atomic import atomic_file

Choice = dict[tuple[str, str], Config]
"""Configuration by kernel and variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Record of how a choice was made, stored in the file next to it."""

    how: str
    command: str
    date: str
    triton: str
    device: str | None = None


def choose_sound(
    kernels: Iterable[Kernel],
    capability: int,
    compile_one: Callable[[Kernel, Variant, Config, int], Compiled] = compile_one,
    on_choice: Callable[[], object] = lambda: None,
) -> Choice:
    """Choose the first configuration of each specialisation without a problem; later ones are not tried.

    Where every one has a flaw, the one with the least stack among those that fit, and none where none fits.
    """
    choice: Choice = {}
    for kernel in kernels:
        for variant in kernel.variants:
            if variant.capability > capability:
                continue
            fitting: list[Compiled] = []
            for config in kernel.space:
                row = compile_one(kernel, variant, config, capability)
                if row.failure is None and row.shared_bytes <= row.shared_limit:
                    fitting.append(row)
                if row.problem is None:
                    break
            if fitting:
                best = min(fitting, key=lambda row: row.stack_bytes)  # the first of equal ones
                choice[kernel.name, variant.name] = best.config
            on_choice()
    return choice


def choose_fastest(
    cases: Iterable[Case], clock: Clock, on_case: Callable[[Case, Choice], object] = lambda case, found: None
) -> Choice:
    """Time every configuration of the kernels that the cases launch; a wrong result disqualifies.

    A specialisation that several cases launch gets the configuration whose times, each relative to the best
    of its case, have the lowest geometric mean.
    """
    slower: dict[tuple[str, str], dict[Config, list[float]]] = {}
    for case in cases:
        found: Choice = {}
        for key, kernel in _launched(case).items():
            times = _times(case, key, kernel, found, clock)
            if not times:
                continue
            best = min(times.values())
            found[key] = min(times, key=times.__getitem__)
            for config, taken in times.items():
                slower.setdefault(key, {}).setdefault(config, []).append(taken / best)
        on_case(case, found)
    choice: Choice = {}
    for key, by_config in slower.items():
        most = max(map(len, by_config.values()))  # one that failed in a case is out
        whole = {config: ratios for config, ratios in by_config.items() if len(ratios) == most}
        choice[key] = min(whole, key=lambda config: statistics.fmean(map(math.log, whole[config])))
    return choice


def _launched(case: Case) -> dict[tuple[str, str], Kernel]:
    with Trial() as trial:
        case.run()
    return trial.asked


def _times(
    case: Case, key: tuple[str, str], kernel: Kernel, found: Choice, clock: Clock
) -> dict[Config, float]:
    """Return median microseconds of one kernel's correct configurations, the others as found so far."""
    usable: list[Config] = []
    for config in kernel.space:
        with Trial(configs={**found, key: config}):
            try:
                _, wrong = judge_case(case)
            except Exception:  # more shared memory or registers than this device has
                continue
        if wrong is None:
            usable.append(config)

    def under(config: Config) -> Callable[[], object]:
        def call() -> None:
            with Trial(configs={**found, key: config}):
                case.run()

        return call

    times = clock({str(index): under(config) for index, config in enumerate(usable)})
    return {config: statistics.median(times[str(index)]) for index, config in enumerate(usable)}


def write_choice(folder: Path, capability: int, choice: Choice, found: Found) -> Path:
    """Write the file of one architecture; its entries for other specialisations are kept."""
    path = folder / f"sm_{capability}.json"
    kernels: dict[str, dict[str, Any]] = {}
    if path.is_file():
        kernels = read_tuned(path)
    how = {name: value for name, value in _fields(found).items() if value is not None}
    for (kernel, variant), config in choice.items():
        kernels.setdefault(kernel, {})[variant] = {
            "blocks": dict(config.blocks),
            "num_warps": config.num_warps,
            "num_stages": config.num_stages,
            "found": how["how"],
        }
    ordered = {name: dict(sorted(kernels[name].items())) for name in sorted(kernels)}
    with atomic_file(path) as temporary:
        text = json.dumps({"capability": capability, "last_run": how, "kernels": ordered}, indent=1)
        temporary.write_text(text + "\n")
    return path


def _fields(found: Found) -> dict[str, str | None]:
    return {name: getattr(found, name) for name in ("how", "command", "date", "triton", "device")}
