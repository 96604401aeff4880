"""`genie-rt bench quality`. torch is imported when the command runs."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from typing import Protocol as TypingProtocol

import tyro

from genie_rt.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.bench.quality import Protocol, Truth
    from genie_rt.bench.quality_report import Baselines, QualityRow
    from genie_rt.bench.quality_work import Work
    from genie_rt.runtime.plan import Plan
    from genie_rt.runtime.world import World
    from genie_rt.training.evaluation.clip_distance import FrameFeatures, Reference
    from genie_rt.training.evaluation.clips import TrueClips
    from genie_rt.training.evaluation.rollout import ModelRollouts

OTHER_PASSES = 2
"""What a frame costs besides its passes, about: commit, decoder, features. For the progress bar alone."""

Order = Literal["maskgit", "random", "halton", "adaptive"]
Reuse = Literal["none", "passes", "frames"]


@dataclass(frozen=True, kw_only=True)
class QualityCommand:
    """Quality of decoding plans against their cost, on held-out clips: CSV, record, plot and table.

    Takes hours on a CPU. What is known of a plan is kept in OUT.work, so a stopped run goes on where it was,
    and a run with other plans adds to it. Few passes of all orders come first. With glibc the environment
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 saves the time that goes
    into giving memory back to the system and taking it again.
    """

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""
    data: Path | None = None
    """Clip store whose held-out split is the truth; the real game on held-out levels unless set."""
    out: Path = Path("out/quality.csv")
    """CSV to write; the record, the plot and the work folder lie beside it under the same name."""
    clips: int = 200
    """How many clips to measure on."""
    reference_clips: int = 400
    """How many other real clips the clip distance is measured against."""
    plans: tuple[Order, ...] = ("maskgit", "random", "halton", "adaptive")
    """Orders to measure."""
    passes: tuple[int, ...] = (1, 2, 4, 8, 16, 25)
    """Passes per frame to measure."""
    reuse: tuple[Reuse, ...] = ("none", "passes", "frames")
    """What plans may reuse: "passes" is for random and halton, "frames" for maskgit and adaptive."""
    temperature: float | None = None
    """Temperature of all plans; that of the bundle's default plan unless set."""
    noise: float | None = None
    """Confidence noise of all plans; that of the bundle's default plan unless set."""
    threshold: float | None = None
    """Threshold of the adaptive plans; that of the bundle's default plan unless set."""
    prompt_frames: int | None = None
    """Real frames before a rollout; half the dynamics' window unless set."""
    known_only: bool = False
    """Judge the plans whose clips were decoded before, and decode none."""
    times: Literal["missing", "again", "none"] = "missing"
    """Time a frame of each plan where that is not known yet, anew, or not at all."""
    iterations: int = 40
    """Frames that are timed, of each plan."""
    visuals: Literal["plain", "full"] | None = None
    """Look of the real game; what the bundle was trained on unless set."""
    lam: Path | None = None
    """Run folder of the latent action model, for a world that has latent actions."""
    seed: int = 0
    """Seed of the choice of clips, of the sampling and of the random actions."""
    batch: int = 16
    """Clips evaluated together."""
    threads: int | None = None
    """CPU threads to compute with; all unless set."""
    dtype: str = "float32"
    """Number format to compute in."""
    device: str = "cpu"
    """Device to compute on."""

    def run(self) -> None:
        """Measure what is missing, then judge, write, draw and print."""
        import torch
        from rich.console import Console

        from genie_rt.bench.quality import Protocol, judge, plan_grid, plan_name, same_function
        from genie_rt.bench.quality_report import Baselines, QualityRow, write_csv
        from genie_rt.bench.quality_work import Work
        from genie_rt.runtime.world import World
        from genie_rt.training.evaluation.clip_distance import FrameFeatures
        from genie_rt.training.evaluation.report import device_name
        from genie_rt.training.evaluation.rollout import ModelRollouts

        self._check()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        world = World.load(self.bundle, backend="reference", dtype=self.dtype, device=self.device)
        rollouts = ModelRollouts(world)
        config = world.bundle.config
        window = config.dynamics.transformer.window
        protocol = Protocol(
            window=window,
            num_actions=config.dynamics.num_actions,
            prompt_frames=max(1, window // 2) if self.prompt_frames is None else self.prompt_frames,
            seed=self.seed,
        )
        plans = plan_grid(self._base(world), config, orders=self.plans, passes=self.passes, reuses=self.reuse)
        if not plans:
            raise InputError(
                "expected plans to measure, found none: no order goes with these passes and reuses"
            )
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = 120  # a file has room for the table
        clips = self._clips(world, protocol)
        work = Work.of(self.out.with_suffix(".work"), world, clips, protocol)
        if self.known_only:
            plans = [plan for plan in plans if work.outcome(same_function(plan)) is not None]
            if not plans:
                raise InputError(
                    f"expected plans that are known, found none in {work.folder}; measure some first"
                )
        console.print(
            f"{world.bundle.name} on {device_name(world)}, {world.dtype}: {len(plans)} plans on {self.clips} "
            f"clips of {protocol.clip_length} frames\nwork folder {work.folder}"
        )
        features = FrameFeatures(*world.output_size)
        reference = self._reference(world, protocol, work, features)
        truth = self._truth(rollouts, clips, protocol, work, features)

        def rows(times: Mapping[str, Mapping[str, float]]) -> list[QualityRow]:
            return [
                QualityRow.of(plan, measured, judge(outcome, truth, reference, protocol), times.get(name))
                for plan, measured, name in ((p, same_function(p), plan_name(p)) for p in plans)
                if (outcome := work.outcome(measured)) is not None
            ]

        self._measure(
            rollouts, clips, protocol, work, features, plans, lambda: write_csv(self.out, rows({}), protocol)
        )
        known = rows(self._times(world, clips, protocol, work, plans))
        baselines = Baselines.of(truth, reference, protocol)
        self._finish(console, world, clips, protocol, known, baselines)

    def _check(self) -> None:
        for name in ("clips", "reference_clips", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"--{name.replace('_', '-')}: expected at least 1, found {getattr(self, name)}"
                )
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise InputError(f"--threads: expected a whole number from 1 to 1024, found {self.threads}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed: expected a number from 0 to 2**31 - 1, found {self.seed}")
        if self.prompt_frames is not None and self.prompt_frames < 1:
            raise InputError(f"--prompt-frames: expected at least 1, found {self.prompt_frames}")
        if self.out.suffix != ".csv":
            raise InputError(f"--out: expected a name that ends in .csv, found {self.out}")

    def _base(self, world: World) -> Plan:
        changes: dict[str, object] = {"reuse": "none"}
        for name in ("temperature", "noise", "threshold"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        return world.bundle.plans["default"].replace(**changes)

    def _clips(self, world: World, protocol: Protocol) -> TrueClips:
        """Held-out clips with the world's actions."""
        from genie_rt.training.evaluation.clips import from_game, from_store
        from genie_rt.training.evaluation.commands import game_visuals

        config, length = world.bundle.config, protocol.clip_length
        if config.lam is not None and self.lam is None:
            raise InputError(
                f"the actions of {world.bundle.name!r} are latent: name the run folder of its action model "
                "with --lam RUN, so that the true actions can be inferred from the clips"
            )
        if self.data is not None:
            size = world.output_size
            clips = from_store(self.data, num_clips=self.clips, length=length, size=size, seed=self.seed)
        else:
            visuals = self.visuals or game_visuals(world.bundle)
            clips = from_game(num_clips=self.clips, length=length, visuals=visuals, seed=self.seed)
        if config.lam is None or self.lam is None:
            return clips.renamed(world.action_names)
        from genie_rt.runtime.backends.reference import ReferenceBackend
        from genie_rt.training.evaluation.latent import with_latent_actions

        assert isinstance(world.backend, ReferenceBackend)  # ModelRollouts refused all others
        return with_latent_actions(clips, self.lam, world.backend.model, world.action_names, self.batch)

    def _reference(self, world: World, protocol: Protocol, work: Work, features: FrameFeatures) -> Reference:
        """Other real clips: of a store's training split, or of other plays of the real game."""
        from genie_rt.training.evaluation.clip_distance import Reference, describe
        from genie_rt.training.evaluation.clips import from_game, from_store
        from genie_rt.training.evaluation.commands import game_visuals

        descriptors = work.reference(self.reference_clips)
        if descriptors is None:
            num, length, size = self.reference_clips, protocol.num_steps, world.output_size
            if self.data is not None:
                clips = from_store(
                    self.data, num_clips=num, length=length, size=size, seed=self.seed, split="train"
                )
            else:
                visuals = self.visuals or game_visuals(world.bundle)
                clips = from_game(num_clips=num, length=length, visuals=visuals, seed=self.seed + 1)
            with _bar("Describing real clips", num) as advance:
                parts = []
                for begin in range(0, num, self.batch):
                    chunk = clips.frames[begin : begin + self.batch]
                    parts.append(describe(chunk, features, protocol.descriptor_window))
                    advance(len(chunk))
            import numpy as np

            descriptors = np.concatenate(parts)
            work.keep_reference(num, descriptors)
        return Reference.fit(descriptors)

    def _truth(
        self,
        rollouts: ModelRollouts,
        clips: TrueClips,
        protocol: Protocol,
        work: Work,
        features: FrameFeatures,
    ) -> Truth:
        from genie_rt.bench.quality import true_figures

        truth = work.truth()
        if truth is None:
            with _bar("Describing the truth", self.clips) as advance:
                truth = true_figures(rollouts, clips, protocol, features, batch=self.batch, advance=advance)
            work.keep_truth(truth)
        return truth

    def _measure(
        self,
        rollouts: ModelRollouts,
        clips: TrueClips,
        protocol: Protocol,
        work: Work,
        features: FrameFeatures,
        plans: Sequence[Plan],
        on_plan: Callable[[], None],
    ) -> None:
        """Decodes the clips with every plan whose outcome is not known yet."""
        from genie_rt.bench.quality import measure_plan, plan_name, prepare, same_function

        distinct = dict.fromkeys(same_function(plan) for plan in plans)
        missing = [plan for plan in distinct if work.outcome(plan) is None]
        if not missing:
            return
        with _bar("Showing the clips", self.clips) as advance:
            batches = prepare(rollouts, clips, protocol, batch=self.batch, advance=advance)
        cost = {plan: plan.passes + OTHER_PASSES for plan in missing}
        with _bar("Decoding", self.clips * sum(cost.values())) as advance:
            for plan in missing:
                advance(0, plan_name(plan))
                step = partial(_weighted, advance, cost[plan])
                if work.outcome(plan) is None:  # another process may share the work
                    work.keep(plan, measure_plan(rollouts, batches, plan, protocol, features, step))
                else:
                    step(self.clips)
                on_plan()

    def _times(
        self, world: World, clips: TrueClips, protocol: Protocol, work: Work, plans: Sequence[Plan]
    ) -> dict[str, dict[str, float]]:
        """Milliseconds by plan; none with `--times none` where none are known."""
        import torch

        from genie_rt.bench.quality_times import time_plans
        from genie_rt.runtime.config import to_dict
        from genie_rt.training.evaluation.report import device_name

        settings = {
            "plans": [to_dict(plan) for plan in plans],
            "device": device_name(world),
            "threads": torch.get_num_threads(),
            "iterations": self.iterations,
        }
        known = None if self.times == "again" else work.times(settings)
        if known is not None or self.times == "none":
            return known or {}
        with _bar("Timing", 0) as advance:
            taken = time_plans(
                world, clips, protocol, plans, iterations=self.iterations, on_round=lambda: advance(1)
            )
        work.keep_times(settings, taken)
        return taken

    def _finish(
        self,
        console: Console,
        world: World,
        clips: TrueClips,
        protocol: Protocol,
        rows: Sequence[QualityRow],
        baselines: Baselines,
    ) -> None:
        """Writes CSV, record and plot, prints the table."""
        from genie_rt.bench.quality_choice import recommend
        from genie_rt.bench.quality_plot import draw
        from genie_rt.bench.quality_report import print_quality, quality_record, write_csv
        from genie_rt.training.evaluation.report import device_name, write_record

        chosen = recommend(rows, baselines)
        write_csv(self.out, rows, protocol)
        rule = (inspect.getdoc(recommend) or "").partition("\n\nReturns:")[0]
        record = quality_record(world, clips.origin, protocol, rows, baselines, chosen, rule, self._command())
        write_record(self.out.with_suffix(".json"), record)
        draw(
            self.out.with_suffix(".png"),
            rows,
            baselines,
            protocol,
            chosen,
            title=f"{world.bundle.name}, {world.dtype} on {device_name(world)}, {self.clips} clips",
        )
        print_quality(console, rows, baselines, protocol, chosen)
        written = ", ".join(str(self.out.with_suffix(suffix)) for suffix in (".csv", ".json", ".png"))
        console.print(f"\nwrote {written}", soft_wrap=True)

    def _command(self) -> str:
        """These settings as a command line."""
        words = ["genie-rt", "bench", "quality", self.bundle]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "bundle" or value == field.default:
                continue
            flag = f"--{field.name.replace('_', '-')}"
            given = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [flag, *map(str, given)]
        return shlex.join(words)


def _weighted(advance: Callable[[int], None], weight: int, count: int) -> None:
    advance(weight * count)


class _Advance(TypingProtocol):
    def __call__(self, count: int, detail: str | None = None, /) -> None: ...


@contextmanager
def _bar(description: str, total: int) -> Iterator[_Advance]:
    """A progress bar with an estimate; total 0 for an unknown one."""
    from genie_rt.training.data.progress import progress_bar

    with progress_bar() as progress:
        task = progress.add_task(description, total=total or None)

        def advance(count: int, detail: str | None = None, /) -> None:
            text = None if detail is None else f"{description} {detail}"
            progress.update(task, advance=count, description=text)

        yield advance
