"""`bench quality` of decoding plans: plan against plan, all computed alike."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial

from genie_rt.bench.quality.choice import recommend
from genie_rt.bench.quality.computation import Computation
from genie_rt.bench.quality.measure import Protocol, judge, plan_grid, plan_name, same_function
from genie_rt.bench.quality.plot import draw
from genie_rt.bench.quality.report import Baselines, QualityRow, print_quality, quality_record, write_csv
from genie_rt.bench.quality.setup import QualityBench, Times
from genie_rt.bench.quality.times import time_plans
from genie_rt.bench.quality.work_folder import Work
from genie_rt.errors import InputError
from genie_rt.runtime.config import to_dict
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.units import plural
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clip_distance import FrameFeatures
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.report import device_name, write_record
from genie_rt.training.evaluation.rollout import ModelRollouts


def compare_plans(bench: QualityBench, computation: Computation) -> None:
    """Measure missing plans of the command's grid, write CSV, record and plot, and print the table."""
    asked, console = bench.asked, bench.console
    world = computation.load(asked.bundle)
    rollouts, config = ModelRollouts(world), world.bundle.config
    protocol = bench.protocol(config)
    base = world.bundle.plans["default"].replace(reuse="none", **bench.changes())
    plans = plan_grid(base, config, orders=asked.plans, passes=asked.passes, reuses=asked.reuse)
    if not plans:
        raise InputError("expected plans to measure, found none: no order goes with these passes and reuses")
    clips = bench.clips(world.bundle, rollouts.model, protocol)
    computed = "" if computation.backend == "reference" else computation.name
    work = Work.of(bench.folder, world, clips, protocol, computed)
    if asked.known_only:
        plans = [plan for plan in plans if work.outcome(same_function(plan)) is not None]
        if not plans:
            raise InputError(
                f"expected plans that are known, found none in {work.folder}; measure some first"
            )
    console.print(
        f"{world.bundle.name} on {device_name(world)}, {computation.name}: {plural(len(plans), 'plan')} on "
        f"{plural(asked.clips, 'clip')} of {plural(protocol.clip_length, 'frame')}\nwork folder {work.folder}"
    )
    features = FrameFeatures(*world.output_size)
    reference = bench.reference(world.bundle, protocol, work, features)
    truth = bench.truth(rollouts.model, clips, protocol, work, features)

    def rows(times: Mapping[str, Mapping[str, float]]) -> list[QualityRow]:
        return [
            QualityRow.of(plan, measured, judge(outcome, truth, reference, protocol), times.get(name))
            for plan, measured, name in ((p, same_function(p), plan_name(p)) for p in plans)
            if (outcome := work.outcome(measured)) is not None
        ]

    def write_rows() -> None:
        write_csv(asked.out, [row.columns(protocol) for row in rows({})])

    bench.decode(rollouts, clips, protocol, work, features, plans, write_rows)
    times = {} if computation.emulated else _times(bench, world, clips, protocol, work, plans)
    baselines = Baselines.of(truth, reference, protocol)
    _finish(bench, world, computation, clips, protocol, rows(times), baselines)


def _times(
    bench: QualityBench,
    world: World,
    clips: TrueClips,
    protocol: Protocol,
    work: Work,
    plans: Sequence[Plan],
) -> Times:
    """Milliseconds by plan; none with `--times none` where none are known."""
    settings = {"plans": [to_dict(plan) for plan in plans], "device": device_name(world)}
    return bench.times(work, settings, partial(time_plans, world, clips, protocol, plans))


def _finish(
    bench: QualityBench,
    world: World,
    computation: Computation,
    clips: TrueClips,
    protocol: Protocol,
    rows: Sequence[QualityRow],
    baselines: Baselines,
) -> None:
    """Write CSV, record and plot, and print the table."""
    out, chosen = bench.asked.out, recommend(rows, baselines)
    write_csv(out, [row.columns(protocol) for row in rows])
    rule = (inspect.getdoc(recommend) or "").partition("\n\nReturns:")[0]
    record = quality_record(
        world, computation, clips.origin, protocol, rows, baselines, chosen, rule, bench.asked.words()
    )
    write_record(out.with_suffix(".json"), record)
    where, number = device_name(world), plural(bench.asked.clips, "clip")
    title = f"{world.bundle.name}, {computation.name} on {where}, {number}"
    draw(out.with_suffix(".png"), rows, baselines, protocol, chosen, title=title)
    print_quality(bench.console, rows, baselines, protocol, chosen)
    written = ", ".join(str(out.with_suffix(suffix)) for suffix in (".csv", ".json", ".png"))
    bench.console.print(f"\nwrote {written}", soft_wrap=True)
