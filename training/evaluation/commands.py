"""`genie-rt evaluate` and `genie-rt compare`. torch is imported when a command runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from genie_rt.errors import InputError
from genie_rt.runtime.flags import check_file

if TYPE_CHECKING:
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.model.world_model import WorldModel
    from genie_rt.runtime.world import World
    from genie_rt.training.data.game import Visuals
    from genie_rt.training.evaluation.clips import TrueClips
    from genie_rt.training.evaluation.measure import Settings


DEFAULT_SCRIPT = "right+jump*8 right*8 left*8 right+jump*8"
"""What `compare` plays: CoinRun's levels begin with flat ground that ends where one has to jump."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure a world on held-out clips: tokenizer, next frame, controllability, rollouts, and baselines."""

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""
    data: Path | None = None
    """Clip store whose held-out split is the truth; the real game on held-out levels unless set."""
    clips: int = 200
    """How many clips to measure on."""
    passes: tuple[int, ...] = (1, 2, 4, 16)
    """Passes to predict the next frame with."""
    prompt_frames: int | None = None
    """Real frames before a rollout; half the dynamics' window unless set."""
    plan: str = "default"
    """Plan of the rollouts, by name."""
    visuals: Literal["plain", "full"] | None = None
    """Look of the real game; what the bundle was trained on unless set."""
    lam: Path | None = None
    """Run folder of the latent action model, for a world that has latent actions."""
    json: Path | None = None
    """File to write all figures to, with device, versions and settings."""
    seed: int = 0
    """Seed of the choice of clips, of the sampling and of the random actions."""
    batch: int = 16
    """Clips evaluated together: more is faster until memory runs out."""
    backend: str = "reference"
    """Back end that computes the frames; "reference" is the definition, "auto" the fastest."""
    dtype: str = "float32"
    """Number format that the back end computes in."""
    device: str | None = None
    """Device that the back end computes on; its own unless set."""

    def run(self) -> None:
        """Measure, print, and write the record."""
        from rich.console import Console

        from genie_rt.runtime.backends.select import Choice
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.world import World
        from genie_rt.training.data.progress import progress_bar
        from genie_rt.training.evaluation.measure import evaluate
        from genie_rt.training.evaluation.report import device_name, print_report, record, write_record
        from genie_rt.training.evaluation.rollout import ModelRollouts

        if self.clips < 1:
            raise InputError(f"--clips: expected at least 1, found {self.clips}")
        check_file("--json", self.json)
        choice = Choice.of(self.backend, self.dtype, self.device, open_bundle(self.bundle).graphs)
        world = World.load(self.bundle, backend=choice.backend, dtype=choice.dtype, device=str(choice.device))
        rollouts = ModelRollouts(world)
        settings = self._settings(world)
        clips = self._clips(world, settings, rollouts.model)
        console = Console(highlight=False, markup=False)
        console.print(
            f"{world.bundle.name} on {device_name(world)}, {choice.backend} in {world.dtype}\n"
            f"Truth: {_describe(clips)}"
        )
        with progress_bar() as progress:
            task = progress.add_task("Measuring", total=self.clips)
            evaluation = evaluate(rollouts, clips, settings, lambda count: progress.advance(task, count))
        print_report(console, evaluation, settings)
        if self.json is not None:
            values = record(evaluation, settings, world, choice.backend, clips.origin, self._command())
            write_record(self.json, values)
            console.print(f"\nwrote {self.json}")

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
        from genie_rt.training.evaluation.clips import from_game, from_store

        config, size = world.bundle.config, world.output_size
        if config.lam is not None and self.lam is None:
            raise InputError(
                f"the actions of {world.bundle.name!r} are latent: name the run folder of its action model "
                "with --lam RUN, so that the true actions can be inferred from the clips"
            )
        if self.data is not None:
            clips = from_store(
                self.data, num_clips=self.clips, length=settings.clip_length, size=size, seed=self.seed
            )
        else:
            _check_game_size(world.bundle)
            clips = from_game(
                num_clips=self.clips,
                length=settings.clip_length,
                visuals=self.visuals or game_visuals(world.bundle),
                seed=self.seed,
            )
        if config.lam is None or self.lam is None:
            return clips.renamed(world.action_names)
        from genie_rt.training.evaluation.latent import with_latent_actions

        return with_latent_actions(clips, self.lam, model, world.action_names, self.batch)

    def _command(self) -> str:
        """These settings as a command line."""
        words = ["genie-rt", "evaluate", self.bundle]
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
        ):
            if value is not None:
                words += [f"--{flag}", str(value)]
        return shlex.join([*words, "--passes", *map(str, self.passes)])


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Play the same actions in the real game and in the world, side by side: a picture strip and a GIF.

    With --branches both are played several times from the same moment, so that one sees what the keys do.
    """

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""
    actions: str | None = None
    """Script such as "right*20 jump ...", or .txt file of actions; some running and jumping unless set."""
    branches: tuple[str, ...] = ()
    """Several scripts, each played from the same start, in place of --actions."""
    steps: int | None = None
    """Steps to play; as many as each script has unless set."""
    out: Path = Path("out/compare")
    """Where to: --out c.png writes c.png and c.gif, and so do c and c.gif; in a folder that is there they are
    compare.png and compare.gif."""
    level: int = 10_001
    """Level of the game to play. Levels 10000 to 10999 are held out; a note says so if this one looks like a
    training level all the same."""
    visuals: Literal["plain", "full"] | None = None
    """Look of the game; what the bundle was trained on unless set."""
    skip: int = 8
    """Steps in the real game before the comparison begins."""
    skip_actions: str = "right"
    """Script of those steps, begun anew where it is shorter."""
    prompt_frames: int | None = None
    """Real frames that the world sees first; half the dynamics' window unless set."""
    seed: int = 0
    """Seed of the world's chance."""
    passes: int | None = None
    """Passes per frame; those of the bundle's default plan unless set."""
    columns: int = 12
    """Most frames in a row of the strip; of longer rollouts every second, third, ... is shown."""
    fps: float = 8.0
    """Frames per second of the GIF."""
    dtype: str = "float32"
    """Number format to compute in."""
    device: str = "cpu"
    """Device to compute on."""

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
        """The strip and the GIF."""
        prefix = self.out / "compare" if self.out.is_dir() else self.out
        if prefix.suffix.lower() in (".png", ".gif"):
            prefix = prefix.with_suffix("")
        strip, gif = (prefix.with_name(prefix.name + ending) for ending in (".png", ".gif"))
        check_file("--out", strip)
        check_file("--out", gif)
        return strip, gif

    def _scripts(self, action_names: tuple[str, ...]) -> list[list[str]]:
        """The actions of every branch."""
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
    """The look of the game that a bundle was trained on; "plain" where its provenance is silent."""
    data = bundle.provenance.get("data")
    return "full" if isinstance(data, dict) and data.get("visuals") == "full" else "plain"


def _check_game_size(bundle: Bundle) -> None:
    config = bundle.config.tokenizer
    if (config.height, config.width) != (64, 64):
        raise InputError(
            f"expected a world of 64x64 pictures, as the game's are, found {config.height}x{config.width}; "
            "`genie-rt evaluate --data STORE` measures other worlds"
        )


def _describe(clips: TrueClips) -> str:
    num, length = clips.frames.shape[:2]
    origin = clips.origin
    if origin["kind"] == "game":
        return (
            f"{num} clips of {length} frames of {origin['env']} ({origin['visuals']} visuals), "
            f"{origin['levels']} different held-out levels"
        )
    return f"{num} held-out clips of {length} frames of {origin['source']}, {origin['episodes']} episodes"
