"""`genie-rt evaluate` and `genie-rt compare`. torch is imported when a command runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.model.world_model import WorldModel
    from genie_rt.runtime.world import World
    from genie_rt.training.data.game import Visuals
    from genie_rt.training.evaluation.clips import TrueClips
    from genie_rt.training.evaluation.drift import DriftSettings
    from genie_rt.training.evaluation.fvd import I3d
    from genie_rt.training.evaluation.measure import Generated, Settings
    from genie_rt.training.evaluation.sections import Section, Subject


DEFAULT_SCRIPT = "right+jump*8 right*8 left*8 right+jump*8"
"""Script that `compare` plays by default: CoinRun's levels begin with flat ground and then need a jump."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure a world on held-out clips: tokenizer, next frame, controllability, rollouts and baselines.

    Every figure has a 95% interval. CoinRun worlds are also played beside the real game (without --data, or
    with --game): what would have happened had the player done something else, and whether each key does what
    it does in the game. --drift plays for thousands of steps.

    Examples:
        genie-rt evaluate demo --data data/coinrun --json evaluation.json
        genie-rt evaluate demo --data data/coinrun --game --drift --drift-picture drift.png
        genie-rt evaluate ./my-world --data data/mine --clips 50
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

        from genie_rt.runtime.backends.select import Choice
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
        choice = Choice.of(self.backend, self.dtype, self.device, open_bundle(self.bundle).graphs)
        world = World.load(self.bundle, backend=choice.backend, dtype=choice.dtype, device=str(choice.device))
        rollouts = ModelRollouts(world)
        settings = self._settings(world)
        if self.game:
            _check_game_size(world.bundle)
            _check_game_actions(world.bundle)
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
            _check_game_size(world.bundle)
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


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Play the same actions in CoinRun and in the world, side by side. Writes a PNG strip and a GIF.

    With --branches, several scripts are played from the same start to show what each key does.

    Examples:
        genie-rt compare demo --actions "right*16 right+jump*8" --out compare.png
        genie-rt compare demo --branches "right*12" "left*12" "right+jump*12"
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""
    actions: Annotated[str | None, shown(default=DEFAULT_SCRIPT)] = None
    """Actions to play: a script such as "right*20 jump ...", or a file as in `genie-rt play --actions`."""
    branches: Annotated[tuple[str, ...], shown(default="none", metavar="SCRIPT ...")] = ()
    """Several scripts to play from the same start, instead of --actions."""
    steps: Annotated[int | None, shown(default='length of the script, or 64 if it ends in "..."')] = None
    """Number of steps to play."""
    out: Path = Path("out/compare")
    """Output name: c, c.png and c.gif all write c.png and c.gif; in a folder, compare.png and compare.gif."""
    level: int = 10_001
    """CoinRun level; 10000 to 10999 are held out. A note is printed if the world may have seen it."""
    visuals: Annotated[Literal["plain", "full"] | None, shown(default="as in the training data")] = None
    """Visual style of CoinRun."""
    skip: int = 8
    """Number of game steps to play before the comparison."""
    skip_actions: str = "right"
    """Script for those steps, repeated if it is shorter."""
    prompt_frames: Annotated[int | None, shown(default="half the model's window")] = None
    """Number of real frames given to the world first."""
    seed: int = 0
    """Random seed for the world's sampling."""
    passes: Annotated[int | None, shown(default="that of the bundle's default plan")] = None
    """MaskGIT passes per frame."""
    columns: int = 12
    """Maximum number of frames per row of the strip. Longer rollouts show every second, third, ... frame."""
    fps: float = 8.0
    """Frames per second of the GIF."""
    dtype: str = "float32"
    """Precision to compute in, such as float32 or bfloat16."""
    device: str = "cpu"
    """Device to compute on, such as cpu or cuda."""

    def run(self) -> None:
        """Play, draw, and print PSNR per step."""
        from rich.console import Console

        from genie_rt.runtime.play.clip import write_clip
        from genie_rt.runtime.world import World
        from genie_rt.training.data.levels import copies
        from genie_rt.training.evaluation.branches import play_branches
        from genie_rt.training.evaluation.strip import draw_gif_frames, draw_strip, print_steps, write_png

        if self.actions is not None and self.branches:
            raise InputError("expected --actions or --branches, found both")
        if not 2 <= self.columns <= 64:
            raise InputError(f"--columns: expected a number from 2 to 64, found {self.columns}")
        strip, gif = self._outputs()
        world = World.load(self.bundle, dtype=self.dtype, device=self.device)
        _check_game_size(world.bundle)
        window = world.bundle.config.dynamics.transformer.window
        visuals = self.visuals or game_visuals(world.bundle)
        branches = play_branches(
            world,
            self._scripts(world.action_names),
            level=self.level,
            visuals=visuals,
            warm_up=self._expand(self.skip_actions, self.skip, world.action_names) if self.skip else (),
            prompt_frames=max(1, window // 2) if self.prompt_frames is None else self.prompt_frames,
            seed=self.seed,
            passes=self.passes,
        )
        console = Console(highlight=False, markup=False)
        if not copies("coinrun", visuals).unseen([self.level])[0]:
            console.print(
                f"note: level {self.level} is not held out, or looks like a training level: "
                "the world may have been trained on it"
            )
        print_steps(console, branches)
        write_png(strip, draw_strip(branches, self.columns))
        write_clip(gif, draw_gif_frames(branches), fps=self.fps, scale=1)
        console.print(f"wrote {strip} and {gif}")

    def _outputs(self) -> tuple[Path, Path]:
        """Paths of the strip and the GIF."""
        prefix = self.out / "compare" if self.out.is_dir() else self.out
        if prefix.suffix.lower() in (".png", ".gif"):
            prefix = prefix.with_suffix("")
        strip, gif = (prefix.with_name(prefix.name + ending) for ending in (".png", ".gif"))
        check_file("--out", strip)
        check_file("--out", gif)
        return strip, gif

    def _scripts(self, action_names: tuple[str, ...]) -> list[list[str]]:
        """List the actions of every branch."""
        scripts = self.branches or (self.actions or DEFAULT_SCRIPT,)
        return [self._expand(script, self.steps, action_names) for script in scripts]

    @staticmethod
    def _expand(text: str, steps: int | None, action_names: tuple[str, ...]) -> list[str]:
        from genie_rt.runtime.play.action_log import ActionLog, read_actions
        from genie_rt.runtime.play.script import expand, script_path

        path = script_path(text)
        script = text if path is None else read_actions(path)
        if isinstance(script, ActionLog):
            script = " ".join(script.actions)
        return [action_names[index] for index in expand(script, steps, action_names)]


def game_visuals(bundle: Bundle) -> Visuals:
    """Return the visual style that a bundle was trained on; "plain" if its provenance does not say."""
    data = bundle.provenance.get("data")
    return "full" if isinstance(data, dict) and data.get("visuals") == "full" else "plain"


def _check_game_size(bundle: Bundle) -> None:
    config = bundle.config.tokenizer
    if (config.height, config.width) != (64, 64):
        raise InputError(
            f"expected a world of 64x64 pictures, as the game's are, found {config.height}x{config.width}; "
            "`genie-rt evaluate --data STORE` measures other worlds"
        )


def _check_game_actions(bundle: Bundle) -> None:
    """Refuse a world of logged actions that cannot be told what the game's prompts were played with."""
    from genie_rt.training.data.game import COINRUN_KEYS, action_name

    names = [action_name("coinrun", keys) for keys in COINRUN_KEYS]
    missing = [name for name in names if name not in bundle.action_names]
    if bundle.config.lam is None and missing:
        raise InputError(
            f"--game: expected a world with the game's actions ({', '.join(names)}), found one without "
            f"{', '.join(missing)}; leave --game out"
        )


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
