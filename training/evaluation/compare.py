"""`genie-rt compare`. torch is imported when the command runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file
from genie_rt.training.evaluation.game_worlds import check_game_size, game_visuals

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.runtime.world import World
    from genie_rt.training.evaluation.branches import Branch

DEFAULT_SCRIPT = "right+jump*8 right*8 left*8 right+jump*8"
"""Script that `compare` plays by default: CoinRun's levels begin with flat ground and then need a jump."""

CLIP_STEPS = 32
"""Steps that the world follows a clip for, where no other number is given."""


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Play the same actions in CoinRun and in the world, side by side. Writes a PNG strip and a GIF.

    With --branches, several scripts are played from the same start to show what each key does. With --data
    the world follows held-out clips of any data in place of the game, by the actions that were recorded or
    that its action model sees in them.

    Examples:
        genie-rt compare demo --branches "right*12" "left*12" "right+jump*12"
        genie-rt compare ./my-world --data data/mine --clips 3 --steps 24
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""
    data: Annotated[Path | None, shown(default="play the real CoinRun")] = None
    """Clip store whose held-out clips the world follows."""
    clips: int = 2
    """Number of clips, with --data."""
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
        from genie_rt.training.evaluation.strip import draw_gif_frames, draw_strip, print_steps, write_png

        given = [flag for flag in ("data", "actions", "branches") if getattr(self, flag)]
        if len(given) > 1:
            raise InputError(f"expected one of {', '.join(f'--{flag}' for flag in given)}, found all of them")
        if not 2 <= self.columns <= 64:
            raise InputError(f"--columns: expected a number from 2 to 64, found {self.columns}")
        strip, gif = self._outputs()
        world = World.load(self.bundle, dtype=self.dtype, device=self.device)
        console = Console(highlight=False, markup=False)
        branches = self._beside_the_game(world, console) if self.data is None else self._beside_clips(world)
        print_steps(console, branches)
        write_png(strip, draw_strip(branches, self.columns))
        write_clip(gif, draw_gif_frames(branches), fps=self.fps, scale=1)
        console.print(f"wrote {strip} and {gif}")

    def _prompt_frames(self, world: World) -> int:
        window = world.bundle.config.dynamics.transformer.window
        return max(1, window // 2) if self.prompt_frames is None else self.prompt_frames

    def _beside_the_game(self, world: World, console: Console) -> list[Branch]:
        from genie_rt.training.data.levels import copies
        from genie_rt.training.evaluation.branches import play_branches

        check_game_size(world.bundle)
        visuals = self.visuals or game_visuals(world.bundle)
        branches = play_branches(
            world,
            self._scripts(world.action_names),
            level=self.level,
            visuals=visuals,
            warm_up=self._expand(self.skip_actions, self.skip, world.action_names) if self.skip else (),
            prompt_frames=self._prompt_frames(world),
            seed=self.seed,
            passes=self.passes,
        )
        if not copies("coinrun", visuals).unseen([self.level])[0]:
            console.print(
                f"note: level {self.level} is not held out, or looks like a training level: "
                "the world may have been trained on it"
            )
        return branches

    def _beside_clips(self, world: World) -> list[Branch]:
        from genie_rt.training.evaluation.branches import follow_clips
        from genie_rt.training.evaluation.clips import from_store
        from genie_rt.training.evaluation.definition import definition_of
        from genie_rt.training.evaluation.latent import with_latent_actions

        assert self.data is not None
        prompt, steps = self._prompt_frames(world), CLIP_STEPS if self.steps is None else self.steps
        if not 1 <= self.clips <= 16 or steps < 1:
            raise InputError(
                f"expected --clips from 1 to 16 and --steps of at least 1, found {self.clips} and {steps}"
            )
        config = world.bundle.config.tokenizer
        clips = from_store(
            self.data,
            num_clips=self.clips,
            length=prompt + steps,
            size=(config.height, config.width),
            seed=self.seed,
        )
        if world.bundle.config.lam is None:
            clips = clips.renamed(world.action_names, world.bundle.action_codes)
        else:
            clips = with_latent_actions(clips, world.bundle, None, definition_of(world), self.clips)
        return follow_clips(world, clips, prompt_frames=prompt, seed=self.seed, passes=self.passes)

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
