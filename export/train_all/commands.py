"""`genie-rt train all`. torch is imported when the command runs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from genie_rt.errors import DeviceError, InputError, UnsupportedError
from genie_rt.export.train_all.plan import Asked, TrainingPlan, read_plan
from genie_rt.parsing import shown
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.config import ModelConfig, TransformerConfig, to_dict
from genie_rt.runtime.flags import check_folder
from genie_rt.runtime.presets import preset
from genie_rt.training.commands import (
    DynamicsCommand,
    LamCommand,
    TokenizerCommand,
    demo_loop,
    lam_loop,
)
from genie_rt.training.loop_config import LoopConfig
from genie_rt.training.stage import open_data

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.training.data.store import ClipStore

HALF = "demo-half"
"""Name of the demo's sizes with half of the layers."""

AUTO_SIZES = ("demo", HALF)
"""Sizes of `--preset auto`, the largest first."""

PRESET_FILE = "preset.json"

ENOUGH_STEPS = 400
"""Steps of the dynamics that sizes have to get in the time, to be taken by `--preset auto`."""

RESERVE = 0.08, 60.0
"""Part of the time that export and judgement get, and the least of it in seconds."""

CHECKPOINTS = 10
"""Checkpoints of a stage, at least: what a kill loses is a tenth of it at most, or 200 steps."""

JUDGED_CLIPS = 32

PASSES, TEMPERATURE = 2, 0.5
"""Decoding plan of the bundle: few passes and a low temperature suit a world that has trained for an hour."""


@dataclass(frozen=True, kw_only=True)
class TrainAllCommand:
    """Train a world from clips in a given time: tokenizer, latent actions, dynamics, export, judgement.

    Step counts follow from how fast this machine is, which is measured first. A stopped run goes on with the
    same command. At the end there is a bundle that plays, and a table of what is good, what is not, and what
    would help.

    Examples:
        genie-rt train all --data data/mine --out runs/mine
        genie-rt train all --data data/mine --out runs/mine --minutes 600
    """

    data: Path
    """Clip store to train on, from `genie-rt data`."""
    out: Path
    """Folder of the run; the world will be in its folder "world"."""
    minutes: float = 60.0
    """Time to train, in minutes; export and judgement are part of it."""
    preset: Annotated[str, shown(metavar="auto|NAME|FILE.json")] = "auto"
    """Model sizes; auto takes the demo's, with half of the layers where the time is short."""
    actions: Literal["latent", "logged"] = "latent"
    """latent: actions learned from pictures alone; logged: actions recorded in the clip store."""
    num_actions: Annotated[int | None, shown(default="the preset's")] = None
    """Number of latent actions; 2, 4, 8, ... unless the codes are learned vectors."""
    name: Annotated[str | None, shown(default="the folder's name")] = None
    """Name of the bundle."""
    seed: int = 0
    """Random seed."""

    def run(self) -> int:
        """Train, export and judge."""
        from genie_rt.training.out_of_memory import OutOfMemoryError

        check_folder("--out", self.out)
        if not 0.1 <= self.minutes <= 1e6:
            raise InputError(f"--minutes: expected a number from 0.1 to 1000000, found {self.minutes}")
        try:
            return self._run()
        except OutOfMemoryError as error:
            raise DeviceError(
                f"{error.needed}; try a --preset file with fewer or narrower layers, or import the data "
                f"again with a smaller --height and --width"
            ) from error

    def _run(self) -> int:
        from rich.console import Console

        console = Console(highlight=False, markup=False)
        asked = Asked(
            data=str(self.data.resolve()),
            minutes=self.minutes,
            preset=self.preset,
            actions=self.actions,
            num_actions=self.num_actions,
            seed=self.seed,
        )
        plan = read_plan(self.out, asked)
        if plan is None:
            console.print("measuring how long steps take on this machine ...")
            plan = self._plan(asked)
            plan.write(self.out)
        self._print_plan(console, plan)
        for stage in self._stages(plan):
            console.print()
            if code := stage.run():
                return code
        self._export()
        self._judge(console)
        return 0

    def _plan(self, asked: Asked) -> TrainingPlan:
        """Measure and decide."""
        from genie_rt.export.train_all.budget import measure_stages, share_out
        from genie_rt.training.out_of_memory import OutOfMemoryError

        part, least = RESERVE
        whole = 60 * self.minutes
        seconds = whole - min(max(part * whole, least), whole / 2)
        names = AUTO_SIZES if self.preset == "auto" else (self.preset,)
        for name in names:
            store, config = self._opened(name)
            lengths = {
                "tokenizer": 2 * max(config.tokenizer.encoder.window, config.tokenizer.decoder.window),
                "lam": self._lam_length(config),
                "dynamics": 2 * config.dynamics.transformer.window,
            }
            try:
                cost = measure_stages(config, store, self._loops({}), lengths)
            except OutOfMemoryError:
                if name == names[-1]:
                    raise
                continue
            budgets = share_out(seconds, cost)
            if budgets["dynamics"].steps >= ENOUGH_STEPS:
                break
        return TrainingPlan(
            asked=asked,
            preset=name,
            steps={stage: budget.steps for stage, budget in budgets.items()},
            seconds_a_step={stage: budget.seconds_a_step for stage, budget in budgets.items()},
        )

    def _opened(self, name: str) -> tuple[ClipStore, ModelConfig]:
        """Open the data, and give a preset the actions that were asked for."""
        from genie_rt.training.commands import with_actions, with_logged_actions

        store, config = open_data(self.data, self._preset(name))
        if self.actions == "logged":
            return store, with_logged_actions(config, store)
        if config.lam is None:
            raise InputError(f"--preset {name}: expected one with a latent action model, found none in it")
        if self.num_actions is None:
            return store, config
        return store, with_actions(config, dataclasses.replace(config.lam, num_actions=self.num_actions))

    def _preset(self, name: str) -> str:
        """What the stages are given as their preset; writes the file of sizes that no preset has."""
        if name != HALF:
            return name
        path = self.out / PRESET_FILE
        if not path.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary:
                temporary.write_text(json.dumps(to_dict(halved(preset("demo"))), indent=2) + "\n")
        return str(path)

    @staticmethod
    def _lam_length(config: ModelConfig) -> int:
        from genie_rt.runtime.config import ConvLamConfig

        if isinstance(config.lam, ConvLamConfig):
            return config.lam.past_frames + 1
        return 0 if config.lam is None else 2 * max(config.lam.encoder.window, config.lam.decoder.window)

    def _loops(self, steps: Mapping[str, int]) -> dict[str, LoopConfig]:
        """Settings of each stage's loop."""

        def settings(stage: str) -> dict[str, int]:
            count = steps.get(stage, 1000)
            every = max(1, min(200, count // CHECKPOINTS))
            return {"steps": count, "seed": self.seed, "checkpoint_every": every}

        return {
            "tokenizer": demo_loop(log_every=20, **settings("tokenizer")),
            "lam": lam_loop(**settings("lam")),
            "dynamics": demo_loop(log_every=20, **settings("dynamics")),
        }

    def _stages(self, plan: TrainingPlan) -> list[TokenizerCommand | LamCommand | DynamicsCommand]:
        loops, sizes = self._loops(plan.steps), self._preset(plan.preset)
        tokenizer, lam = self.out / "tokenizer", self.out / "lam"
        stages: list[TokenizerCommand | LamCommand | DynamicsCommand] = [
            TokenizerCommand(data=self.data, out=tokenizer, preset=sizes, loop=loops["tokenizer"])
        ]
        if self.actions == "latent":
            stages.append(
                LamCommand(
                    data=self.data,
                    out=lam,
                    preset=sizes,
                    num_actions=self.num_actions,
                    min_delta=0.0,  # the table at the end says so, and what would help
                    tokenizer=tokenizer,
                    loop=loops["lam"],
                )
            )
        stages.append(
            DynamicsCommand(
                data=self.data,
                out=self.out / "dynamics",
                tokenizer=tokenizer,
                preset=sizes,
                actions=self.actions,
                lam=lam if self.actions == "latent" else None,
                loop=loops["dynamics"],
            )
        )
        return stages

    def _print_plan(self, console: Console, plan: TrainingPlan) -> None:
        from rich.table import Table

        table = Table(title=f"preset {plan.preset}, seed {self.seed}", title_justify="left")
        table.add_column("stage")
        for name in ("steps", "s a step", "minutes", "done at about"):
            table.add_column(name, justify="right")
        at = time.time()
        for stage, steps in plan.steps.items():
            seconds = steps * plan.seconds_a_step[stage]
            at += seconds
            clock = datetime.datetime.fromtimestamp(at).strftime("%H:%M")
            table.add_row(
                stage, str(steps), f"{plan.seconds_a_step[stage]:.2f}", f"{seconds / 60:.0f}", clock
            )
        console.print(table)
        console.print("a stopped run goes on with the same command")

    def _export(self) -> None:
        from genie_rt.export.actions.rename import rename_actions
        from genie_rt.export.commands import ExportCommand
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.manifest import MANIFEST
        from genie_rt.training.data.prompts import write_prompts
        from genie_rt.training.data.store import ClipStore

        print()
        world = self.out / "world"
        before = open_bundle(world) if (world / MANIFEST).is_file() else None
        prompts = write_prompts(ClipStore.open(self.data), self.out / "prompts")
        command = ExportCommand(
            source=str(self.out / "dynamics"),
            out=world,
            name=self.name or self.out.resolve().name,
            prompt=tuple(prompts),
            passes=PASSES,
            temperature=TEMPERATURE,
            plan=("default",),
            int8=True,
            clips=self.data,
            overwrite=True,
        )
        try:
            command.run()
        except UnsupportedError as error:
            print(f"no ONNX graphs: {error}")
            dataclasses.replace(command, int8=False, clips=None, plan=()).run()
        made = open_bundle(world)
        if before is not None and before.named_codes and before.config == made.config:
            rename_actions(made, world, before.action_names, before.named_codes)  # which somebody gave it

    def _judge(self, console: Console) -> None:
        from rich.table import Table

        from genie_rt.export.train_all.judge import judge
        from genie_rt.export.train_all.measured import measured
        from genie_rt.runtime.action_health import health_of, health_text
        from genie_rt.runtime.bundle import open_bundle

        world = self.out / "world"
        bundle = open_bundle(world)
        evaluation = measured(bundle, self.data, JUDGED_CLIPS)
        console.print()
        if evaluation is None:
            console.print("not judged: the held-out clips are too short to measure rollouts on")
            if self.actions == "latent":
                print(health_text(bundle.provenance))
        else:
            table = Table(
                title=f"{bundle.name} on {evaluation.num_clips} held-out clips", title_justify="left"
            )
            for name in ("", "figure", "verdict", "what helps"):
                table.add_column(name)
            for line in judge(evaluation, health_of(bundle.provenance)):
                table.add_row(line.what, line.figure, line.mark, line.advice)
            console.print(table)
        console.print(f"next: genie-rt play {shlex.quote(_path_of_bundle(world))}")
        if self.actions == "latent":
            console.print(f"name the actions: genie-rt actions {shlex.quote(_path_of_bundle(world))}")


def halved(config: ModelConfig) -> ModelConfig:
    """The config with half of the layers, rounded up, of tokenizer and dynamics."""

    def half(side: TransformerConfig) -> TransformerConfig:
        return dataclasses.replace(side, num_layers=(side.num_layers + 1) // 2)

    tokenizer = dataclasses.replace(
        config.tokenizer, encoder=half(config.tokenizer.encoder), decoder=half(config.tokenizer.decoder)
    )
    dynamics = dataclasses.replace(config.dynamics, transformer=half(config.dynamics.transformer))
    return dataclasses.replace(config, tokenizer=tokenizer, dynamics=dynamics)


def _path_of_bundle(folder: Path) -> str:
    """The folder as a command takes it: never mistaken for the name of a shipped bundle."""
    return str(folder) if folder.is_absolute() or len(folder.parts) > 1 else f"./{folder}"
