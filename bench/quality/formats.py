"""`bench quality --versus`: compare computations on the same plans, clips and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from genie_rt.bench.quality.computation import Computation
from genie_rt.bench.quality.format_cost import PrecisionBody, PrecisionRow, precision_columns, precision_rows
from genie_rt.bench.quality.format_table import print_precisions
from genie_rt.bench.quality.measure import Outcome, Protocol, same_function
from genie_rt.bench.quality.report import Baselines, write_csv
from genie_rt.bench.quality.setup import QualityBench, Times
from genie_rt.bench.quality.times import time_worlds
from genie_rt.bench.quality.work_folder import Work
from genie_rt.bench.record import Record, write_record
from genie_rt.errors import DeviceError, UnsupportedError
from genie_rt.runtime.config import to_dict
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clip_distance import FrameFeatures
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.definition import load_definition
from genie_rt.training.evaluation.report import device_name
from genie_rt.training.evaluation.rollout import ModelRollouts


def compare_computations(bench: QualityBench, computations: Sequence[Computation]) -> bool:
    """Measure missing figures, write CSV and record, and print the table.

    Args:
        computations: at least two; the first is the baseline.

    Returns:
        Whether all are as good as the baseline, see `PrecisionRow.passed`.

    Raises:
        DeviceError, UnsupportedError: the baseline cannot compute the plans; of others it is told in the row.
    """
    asked, console, baseline = bench.asked, bench.console, computations[0]
    world = baseline.load(asked.bundle)
    bundle, protocol = world.bundle, bench.protocol(world.bundle.config)
    plans = {name: world.plan(name, **bench.changes()) for name in asked.plan}
    model = load_definition(bundle, torch.device(baseline.device))
    clips = bench.clips(bundle, model, protocol)
    console.print(
        f"{bundle.name} on {device_name(world)}, plans {', '.join(plans)}, {plural(asked.clips, 'clip')} of "
        f"{plural(protocol.clip_length, 'frame')}\nwork folder {bench.folder}"
    )
    features = FrameFeatures(*world.output_size)
    works, stopped = dict[Computation, Work](), dict[Computation, str]()
    for computation in computations:
        console.print(computation.name)
        try:
            own = world if computation == baseline else computation.load(asked.bundle)
            works[computation] = work = _work(bench, computation, own, clips, protocol)
            rollouts = ModelRollouts(own, model)
            bench.decode(rollouts, clips, protocol, work, features, list(plans.values()))
        except (DeviceError, UnsupportedError) as error:
            if computation == baseline:
                raise
            stopped[computation] = str(error)
    work = works[baseline]
    reference = bench.reference(bundle, protocol, work, features)
    truth = bench.truth(model, clips, protocol, work, features)
    timed = [each for each in computations if not each.emulated and each not in stopped]
    times = _times(bench, timed, clips, protocol, work, plans)
    rows: list[PrecisionRow] = []
    for name, plan in plans.items():
        outcomes = {each: stopped.get(each) or _outcome(works[each], plan) for each in computations}
        own_times = {each: times.get(_player(name, each), {}) for each in timed}
        rows += precision_rows(name, outcomes, truth, reference, protocol, own_times)
    body = PrecisionBody(
        bundle=bundle.name,
        digest=bundle.digest,
        clips=clips.origin,
        reference_clips=asked.reference_clips,
        protocol=protocol,
        plans=plans,
        baselines=Baselines.of(truth, reference, protocol),
        rows=tuple(rows),
    )
    print_precisions(console, body)
    record_path = asked.out.with_suffix(".json")
    write_csv(asked.out, precision_columns(body))
    write_record(
        record_path,
        Record.take(body, command=asked.words(), device=baseline.device, warnings=body.remarks()),
    )
    console.print(f"\nwrote {asked.out}, {record_path}", soft_wrap=True)
    return body.passed


def _work(
    bench: QualityBench, computation: Computation, world: World, clips: TrueClips, protocol: Protocol
) -> Work:
    """Apart from the plans' work, whose tokens of real frames may be in another number format."""
    computed = f"{computation.name}, tokens of the definition"
    return Work.of(bench.folder, world, clips, protocol, computed)


def _outcome(work: Work, plan: Plan) -> Outcome:
    outcome = work.outcome(same_function(plan))
    assert outcome is not None  # it was decoded, or stopped
    return outcome


def _times(
    bench: QualityBench,
    computations: Sequence[Computation],
    clips: TrueClips,
    protocol: Protocol,
    work: Work,
    plans: Mapping[str, Plan],
) -> Times:
    """Milliseconds by `_player`, all in one run; none with `--times none` where none are known."""

    def take(**options: Any) -> Times:
        players = {
            each.load(bench.asked.bundle): {_player(name, each): plan for name, plan in plans.items()}
            for each in computations
        }
        return time_worlds(players, clips, protocol, **options)

    settings = {
        "plans": {name: to_dict(plan) for name, plan in plans.items()},
        "computations": [to_dict(each) for each in computations],
    }
    return bench.times(work, settings, take)


def _player(plan: str, computation: Computation) -> str:
    return f"{plan}, {computation.name}"
