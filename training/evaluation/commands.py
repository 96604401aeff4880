"""`genie-rt evaluate`. torch is imported when the command runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file
from genie_rt.training.evaluation.game_worlds import check_game_actions, check_game_size, game_visuals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genie_rt.runtime.model.world_model import WorldModel
    from genie_rt.runtime.world import World
    from genie_rt.training.evaluation.clips import TrueClips
    from genie_rt.training.evaluation.drift import DriftSettings
    from genie_rt.training.evaluation.fvd import I3d
    from genie_rt.training.evaluation.measure import Generated, Settings
    from genie_rt.training.evaluation.sections import Section, Subject


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure a world on held-out clips: tokenizer, next frame, controllability, rollouts and baselines.

    Every figure has a 95% interval. CoinRun worlds are also played beside the real game (without --data, or
    with --game): what would have happened had the player done something else, and whether each key does what
    it does in the game. --drift plays for thousands of steps.

    Examples:
        genie-rt evaluate demo --data data/coinrun --game --drift --json all.json
        genie-rt evaluate runs/tokenizer --data data/mine
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, path of a bundle folder, or run folder of a tokenizer or LAM."""
    data: Annotated[Path | None, shown(default="record CoinRun's held-out levels")] = None
    """Clip store whose held-out split is the ground truth."""
    clips: Annotated[int | None, shown(default="200, or as many as the data has")] = None
    """Number of clips to measure on."""
    passes: Annotated[tuple[int, ...], shown(metavar="K ...")] = (1, 2, 4, 16)
    """Numbers of passes to predict the next frame with."""
    prompt_frames: Annotated[int | None, shown(default="half the model's window")] = None
    """Number of real frames before each rollout."""
    plan: str = "default"
    """Name of the bundle's decoding plan for rollouts."""
    visuals: Annotated[Literal["plain", "full"] | None, shown(default="as in the training data")] = None
    """Visual style of CoinRun, without --data and with --game."""
    lam: Annotated[Path | None, shown(default="the bundle's own")] = None
    """Run folder of the latent action model that infers the true actions of a world with latent ones."""
    game: bool = False
    """Also play beside the real CoinRun when --data is given. Without --data this is always done."""
    branch_starts: int = 32
    """Moments of the real game from which each action and random ones are played; 0 skips this."""
    key_starts: int = 100
    """Moments of the real game from which each key is held in both; 0 skips this."""
    drift: bool = False
    """Also play random actions for long and see whether the world lasts. Demo, one core: about 15 minutes."""
    drift_steps: int = 2000
    """Steps of --drift."""
    drift_sessions: int = 8
    """Sessions of --drift, played in one batch."""
    drift_picture: Annotated[Path | None, shown(default="none written")] = None
    """PNG file for one session of --drift at the steps that are measured."""
    i3d: Annotated[Path | None, shown(default="no FVD")] = None
    """TorchScript I3D (i3d_torchscript.pt) for FVD. Loading it runs the code in it: only a file you trust."""
    json: Annotated[Path | None, shown(default="none written")] = None
    """JSON file for all figures, with device, versions and settings."""
    seed: int = 0
    """Random seed for the choice of clips, sampling and random actions."""
    batch: int = 16
    """Number of clips evaluated together; larger is faster and takes more memory."""
    backend: str = "reference"
    """Back end to compute with: reference, cuda, onnx, openvino, tensorrt, tensorrt-rtx, or auto."""
    dtype: str = "float32"
    """Precision to compute in, such as float32 or bfloat16, or auto."""
    device: Annotated[str | None, shown(default="the back end's")] = None
    """Device to compute on, such as cpu or cuda."""

    def run(self) -> None:
        """Measure, print, and write the record."""
        from rich.console import Console

        from genie_rt.runtime.backends.select import Choice, Holdings
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.world import World
        from genie_rt.training.data.progress import progress_bar
        from genie_rt.training.evaluation.fvd import I3d
        from genie_rt.training.evaluation.measure import generate, judge
        from genie_rt.training.evaluation.report import device_name, print_report, record, write_record
        from genie_rt.training.evaluation.rollout import ModelRollouts
        from genie_rt.training.evaluation.runs import is_run
        from genie_rt.training.evaluation.sections import Subject

        self._check()
        if is_run(Path(self.bundle)):
            return self._judge_run()
        choice = Choice.of(self.backend, self.dtype, self.device, Holdings.of(open_bundle(self.bundle)))
        world = World.load(self.bundle, backend=choice.backend, dtype=choice.dtype, device=str(choice.device))
        rollouts = ModelRollouts(world)
        settings = self._settings(world)
        if self.game:
            check_game_size(world.bundle)
            check_game_actions(world.bundle)
        i3d = None if self.i3d is None else I3d(self.i3d)
        clips = self._clips(world, settings, rollouts.model)
        if self.drift:
            self._drift(settings).check(*clips.frames.shape[:2])
        if i3d is not None:
            i3d.check(len(clips.frames) // 2, settings.num_steps)  # half of the clips are the reference
        console = Console(highlight=False, markup=False)
        console.print(
            f"{world.bundle.name} on {device_name(world)}, {choice.backend} in {world.dtype}\n"
            f"ground truth: {_describe(clips)}"
        )
        with progress_bar() as progress:
            task = progress.add_task("measuring", total=len(clips.frames))
            made = generate(rollouts, clips, settings, lambda count: progress.advance(task, count))
        evaluation = judge(made, clips.frames, settings)
        print_report(console, evaluation, settings)
        subject = Subject(world=world, rollouts=rollouts, clips=clips, settings=settings)
        further: dict[str, Any] = {}
        for section in self._sections(subject, made, i3d):
            console.print()
            console.print(section.table)
            further |= section.as_values()
        if self.drift_picture is not None:
            console.print(f"\nwrote {self.drift_picture}")
        if self.json is not None:
            values = record(
                evaluation, settings, world, choice.backend, clips.origin, self._command(), further
            )
            write_record(self.json, values)
            console.print(f"\nwrote {self.json}")

    def _judge_run(self) -> None:
        """Judge a tokenizer or a latent action model on its own."""
        from rich.console import Console

        from genie_rt.training.evaluation.report import write_record
        from genie_rt.training.evaluation.runs import judge_run

        if self.data is None:
            raise InputError(f"{self.bundle}: expected --data beside the run of a model, found none")
        kind, table, figures = judge_run(
            Path(self.bundle), self.data, clips=self.clips, seed=self.seed, batch=self.batch
        )
        console = Console(highlight=False, markup=False)
        console.print(table)
        if self.json is not None:
            command = shlex.join(
                ["genie-rt", "evaluate", self.bundle, "--data", str(self.data), "--seed", str(self.seed)]
            )
            write_record(self.json, {"kind": kind, "command": command, "figures": figures})
            console.print(f"\nwrote {self.json}")

    def _check(self) -> None:
        """Refuse flags that cannot be right before anything is loaded."""
        if self.clips is not None and self.clips < 1:
            raise InputError(f"--clips: expected at least 1, found {self.clips}")
        for flag, count in (("branch-starts", self.branch_starts), ("key-starts", self.key_starts)):
            if count < 0:
                raise InputError(f"--{flag}: expected 0 or more, found {count}")
        if self.drift_picture is not None and not self.drift:
            raise InputError("--drift-picture: expected --drift beside it, found none")
        check_file("--json", self.json)
        check_file("--drift-picture", self.drift_picture)

    def _sections(self, subject: Subject, made: Generated, i3d: I3d | None) -> Iterator[Section]:
        """Measure what stands below the first tables, one after the other."""
        from genie_rt.training.evaluation import sections

        world, visuals = subject.world, self.visuals or game_visuals(subject.world.bundle)

        def in_world(clips: TrueClips) -> TrueClips:
            return self._with_actions(clips, world, subject.rollouts.model)

        yield sections.realism_section(subject, made, i3d)
        if world.bundle.config.lam is not None:
            yield sections.code_use_section(subject)
        yield sections.effects_section(subject)
        if self.game or self.data is None:
            if self.branch_starts:
                yield sections.true_branches_section(subject, self.branch_starts, visuals, in_world)
            if self.key_starts:
                yield sections.plays_section(subject, self.key_starts, visuals, in_world)
        if self.drift:
            yield sections.drift_section(subject, self._drift(subject.settings), self.drift_picture)

    def _drift(self, settings: Settings) -> DriftSettings:
        from genie_rt.training.evaluation.drift import DriftSettings

        return DriftSettings(
            steps=self.drift_steps,
            sessions=self.drift_sessions,
            prompt_frames=settings.prompt_frames,
            window=settings.window,
            num_actions=settings.num_actions,
            seed=self.seed,
        )

    def _settings(self, world: World) -> Settings:
        from genie_rt.training.evaluation.measure import Settings

        bundle = world.bundle
        dynamics = bundle.config.dynamics
        if self.plan not in bundle.plans:
            raise InputError(f"unknown plan {self.plan!r}: this bundle has {', '.join(bundle.plans)}")
        window = dynamics.transformer.window
        return Settings(
            window=window,
            num_actions=dynamics.num_actions,
            plan=bundle.plans[self.plan],
            passes=self.passes,
            prompt_frames=max(1, window // 2) if self.prompt_frames is None else self.prompt_frames,
            seed=self.seed,
            batch=self.batch,
        )

    def _clips(self, world: World, settings: Settings, model: WorldModel) -> TrueClips:
        from genie_rt.training.evaluation.clips import DEFAULT_CLIPS, from_game, from_store

        size = world.output_size
        if self.data is not None:
            clips = from_store(
                self.data, num_clips=self.clips, length=settings.clip_length, size=size, seed=self.seed
            )
        else:
            check_game_size(world.bundle)
            clips = from_game(
                num_clips=DEFAULT_CLIPS if self.clips is None else self.clips,
                length=settings.clip_length,
                visuals=self.visuals or game_visuals(world.bundle),
                seed=self.seed,
            )
        return self._with_actions(clips, world, model)

    def _with_actions(self, clips: TrueClips, world: World, model: WorldModel) -> TrueClips:
        """Return the clips with the world's actions."""
        if world.bundle.config.lam is None:
            return clips.renamed(world.action_names, world.bundle.action_codes)
        from genie_rt.training.evaluation.latent import with_latent_actions

        return with_latent_actions(clips, world.bundle, self.lam, model, self.batch)

    def _command(self) -> str:
        """Format these settings as a command line."""
        words = ["genie-rt", "evaluate", self.bundle]
        playing = self.game or self.data is None
        for flag, value in (
            ("data", self.data),
            ("clips", self.clips),
            ("prompt-frames", self.prompt_frames),
            ("plan", self.plan),
            ("visuals", self.visuals),
            ("lam", self.lam),
            ("seed", self.seed),
            ("batch", self.batch),
            ("backend", self.backend),
            ("dtype", self.dtype),
            ("device", self.device),
            ("branch-starts", self.branch_starts if playing else None),
            ("key-starts", self.key_starts if playing else None),
            ("drift-steps", self.drift_steps if self.drift else None),
            ("drift-sessions", self.drift_sessions if self.drift else None),
            ("i3d", self.i3d),
        ):
            if value is not None:
                words += [f"--{flag}", str(value)]
        words += [f"--{flag}" for flag, given in (("game", self.game), ("drift", self.drift)) if given]
        return shlex.join([*words, "--passes", *map(str, self.passes)])


def _describe(clips: TrueClips) -> str:
    from genie_rt.runtime.units import plural

    num, length = clips.frames.shape[:2]
    origin = clips.origin
    if origin["kind"] == "game":
        return (
            f"{plural(num, 'clip')} of {plural(length, 'frame')} of {origin['env']} "
            f"({origin['visuals']} visuals), {plural(origin['levels'], 'held-out level')}"
        )
    return (
        f"{plural(num, 'held-out clip')} of {plural(length, 'frame')} of {origin['source']}, "
        f"{plural(origin['episodes'], 'episode')}"
    )
