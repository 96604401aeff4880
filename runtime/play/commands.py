"""`genie-rt play`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file, set_threads

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt import World
    from genie_rt.runtime.plan import Plan
    from genie_rt.runtime.play.action_log import ActionLog, Trail
    from genie_rt.runtime.play.game import Game
    from genie_rt.runtime.play.headless import Played
    from genie_rt.runtime.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayCommand:
    """Play a world in a window. Arrow keys or WASD and space move; H shows all keys.

    With --headless no window opens: the actions of --actions are played and frame times are printed.

    Examples:
        genie-rt play
        genie-rt play --headless --actions "right*20 right+jump*8" --out run.gif
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""

    headless: bool = False
    """Play --actions without opening a window."""

    steps: Annotated[int | None, shown(default='length of --actions, or 64 if it ends in "..."')] = None
    """Number of steps to play from --actions, which repeats if it is shorter."""

    actions: Annotated[str | None, shown(default="the keyboard; with --headless a built-in script")] = None
    """Actions to play: a script such as "right*20 jump ...", a file or @FILE with one, or a --log file."""

    out: Annotated[Path | None, shown(default="none written")] = None
    """Clip to write: .gif, .mp4, or .png with all frames side by side."""

    log: Annotated[Path | None, shown(default="none written")] = None
    """Action log to write. Playing it with --actions reproduces the session bit for bit."""

    prompt: Annotated[int | Path | None, shown(default="0, or the log's", metavar="INDEX|FILE")] = None
    """Image to start from: an index into the bundle's prompt images, or an image file."""

    seed: Annotated[int | None, shown(default="0, or the log's")] = None
    """Random seed."""

    plan: Annotated[str | None, shown(default='"default", or the log\'s')] = None
    """Name of the bundle's decoding plan to use."""

    passes: Annotated[int | None, shown(default="the plan's")] = None
    """MaskGIT passes per frame. Fewer passes are faster."""

    temperature: Annotated[float | None, shown(default="the plan's")] = None
    """Sampling temperature."""

    target_ms: Annotated[float | None, shown(default="no limit", metavar="MS")] = None
    """Time budget per frame in milliseconds. Each frame gets as many passes as fit, up to the plan's."""

    fps: float = 15.0
    """Frame rate of the window and of clips."""

    scale: Annotated[int | None, shown(default="what fits")] = None
    """Integer factor by which the window and clips are enlarged."""

    backend: Annotated[str | None, shown(default="the fastest, or the log's")] = None
    """Back end to compute with: reference, cuda, onnx, openvino, tensorrt, tensorrt-rtx, or auto."""

    dtype: Annotated[str | None, shown(default="the fastest, or the log's")] = None
    """Precision to compute in, such as float32 or bfloat16, or auto."""

    device: Annotated[str | None, shown(default="the back end's")] = None
    """Device to compute on, such as cpu or cuda."""

    rebuild: bool = False
    """Rebuild TensorRT engines instead of loading cached ones."""

    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""

    def run(self) -> int:
        from rich.console import Console

        from genie_rt.runtime.play.clip import MAX_FPS, check_clip_path

        if not 0 < self.fps <= MAX_FPS:
            raise InputError(f"--fps: expected a number above 0 and up to {MAX_FPS}, found {self.fps}")
        if self.scale is not None and not 1 <= self.scale <= 64:
            raise InputError(f"--scale: expected a whole number from 1 to 64, found {self.scale}")
        if self.out is not None:
            check_clip_path(self.out)
        check_file("--out", self.out)
        check_file("--log", self.log)
        console = Console(highlight=False, soft_wrap=True, markup=False)
        actions = self._read_actions()
        log = None if actions is None or isinstance(actions, str) else actions
        game = self._open(log, console)
        script = self._script(game, actions)
        if self.headless:
            self._play_headless(game, script, log, console)
            return 0
        signum = self._play_in_window(game, script, console)
        return 0 if signum is None else 128 + signum

    @property
    def _overrides_log(self) -> bool:
        flags = (self.prompt, self.seed, self.plan, self.passes, self.temperature)
        return any(flag is not None for flag in flags)

    def _read_actions(self) -> ActionLog | str | None:
        """Read --actions: a log or a script; None if it is not given."""
        from genie_rt.runtime.play.action_log import read_actions
        from genie_rt.runtime.play.script import script_path

        path = script_path(self.actions) if self.actions is not None else None
        return self.actions if path is None else read_actions(path)

    def _log_folder(self) -> Path:
        """Return the folder of the log that --actions names."""
        from genie_rt.runtime.play.script import script_path

        path = script_path(self.actions or "")
        return Path() if path is None else path.parent

    def _load(self, log: ActionLog | None, console: Console) -> World:
        """Load the world with the back end that was asked for, else the log's, else the fastest."""
        from genie_rt import World

        def load(backend: str | None, dtype: str | None) -> World:
            return World.load(
                self.bundle,
                backend=backend or "auto", dtype=dtype or "auto", device=self.device, rebuild=self.rebuild,
            )  # fmt: skip

        was_chosen = self.backend is not None or self.dtype is not None
        if was_chosen or log is None or log.computed_by is None:
            return load(self.backend, self.dtype)
        try:
            return load(log.backend, log.dtype)
        except (UnsupportedError, BundleError) as error:  # not here, or no such graphs
            world = load(None, None)
            console.print(
                f"the log was played with {log.computed_by}, which is not available ({error}); "
                f"using {world.backend.name} {world.dtype}"
            )
            return world

    def _open(self, log: ActionLog | None, console: Console) -> Game:
        from genie_rt.runtime.play.game import Game, undo_steps
        from genie_rt.runtime.play.prompt import find_prompt, load_prompts, prompt_of_log
        from genie_rt.runtime.processor import processor_name

        set_threads(self.threads)
        world = self._load(log, console)
        bundle = world.bundle
        tokenizer = bundle.config.tokenizer
        wanted: int | str | Path = 0 if self.prompt is None else self.prompt
        own_prompts = load_prompts(world.prompts)
        if log is not None and self.prompt is None:
            wanted = prompt_of_log(own_prompts, log.prompt, self._log_folder())
            if isinstance(wanted, Path):
                console.print(f"the log begins with the picture {log.prompt}, taken from {wanted.absolute()}")
        prompts, prompt_index = find_prompt(own_prompts, wanted, (tokenizer.height, tokenizer.width))
        seed = self.seed if self.seed is not None else log.seed if log else 0
        plan = self.plan if self.plan is not None else log.plan if log else "default"
        changes = {
            "passes": self.passes, "temperature": self.temperature, "target_ms": self.target_ms
        }  # fmt: skip
        given = {name: value for name, value in changes.items() if value is not None}
        if self.target_ms is not None and log is not None:
            raise InputError(
                "expected --target-ms or an action log, found both: a log fixes the number of passes per step"
            )
        session = world.session(seed=seed, plan=plan, **given)
        _warm_up(world, self._plans(session, log), console)
        game = Game(
            bundle=self.bundle,
            bundle_sha256=bundle.digest,
            backend=world.backend.name,
            dtype=world.dtype,
            computed_on=f"{world.backend.name} {world.dtype} on {processor_name(world.backend.device)}",
            action_names=world.action_names,
            default_action=bundle.default_action,
            session=session,
            seed=seed,
            prompts=prompts,
            prompt_index=prompt_index,
            undo_steps=undo_steps(bundle.config),
        )
        if log is not None and self.prompt is None:
            game.check_prompt(log)
        return game

    def _plans(self, session: Session, log: ActionLog | None) -> list[Plan]:
        """List the plans that the game needs from its first step on."""
        plan, passes = session.plan, {session.plan.passes}
        if log is not None and self.plan is None and self.passes is None:
            passes.update(log.passes)
        if self.target_ms is not None:
            passes.add(session.passes_range[0])
        return [plan.replace(passes=each) for each in sorted(passes, reverse=True)]

    def _script(self, game: Game, actions: ActionLog | str | None) -> tuple[int, ...]:
        """List the actions to play before keys are read, or without any."""
        from genie_rt.runtime.play.script import action_index, default_script, expand

        if actions is None:
            if not self.headless:
                return ()
            actions = default_script(game.action_names)
        if isinstance(actions, str):
            return expand(actions, self.steps, game.action_names)
        names = actions.actions
        if self.steps is not None and not 1 <= self.steps <= len(names):
            raise InputError(f"--steps: expected 1 to the log's {len(names)}, found {self.steps}")
        return tuple(action_index(name, game.action_names) for name in names[: self.steps])

    def _play_headless(
        self, game: Game, actions: Sequence[int], log: ActionLog | None, console: Console
    ) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from genie_rt.runtime.play.action_log import write_log
        from genie_rt.runtime.play.clip import write_clip
        from genie_rt.runtime.play.headless import play_headless
        from genie_rt.runtime.units import plural

        plan = game.session.plan
        console.print(
            f"{game.bundle}: {plural(len(actions), 'step')} from {game.prompt.name}, "
            f"{plural(plan.passes, 'pass', 'passes')}, "
            f"temperature {plan.temperature:g}, seed {game.seed}; {game.computed_on}"
        )
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("playing", total=len(actions))
            rollout = play_headless(
                game.session,
                game.prompt.image,
                actions,
                passes=log.passes if log and self.plan is None and self.passes is None else None,
                keep_frames=self.out is not None,
                on_step=lambda: progress.advance(task),
            )
        console.print(_times(rollout))
        self._print_passes(rollout.trail, console)
        if log is not None and not self._overrides_log:
            console.print(_replay_verdict(log, rollout.trail, game))
        if self.out is not None:
            captions = ["", *(game.action_names[index] for index in actions)]
            write_clip(self.out, rollout.frames, fps=self.fps, scale=self.scale, captions=captions)
            console.print(f"wrote {self.out}: {plural(len(rollout.frames), 'frame')}")
        if self.log is not None:
            write_log(self.log, game.log(rollout.trail, plan, game.prompt))
            console.print(f"wrote {self.log}")

    def _play_in_window(self, game: Game, script: Sequence[int], console: Console) -> int | None:
        from genie_rt.runtime.play.action_log import write_log
        from genie_rt.runtime.play.loop import PlayLoop
        from genie_rt.runtime.play.player import Player
        from genie_rt.runtime.play.recorder import Recorder
        from genie_rt.runtime.play.window import run_window

        console.print(f"{game.bundle}: {game.computed_on}")
        loop = PlayLoop(
            game.session, game.prompts, prompt_index=game.prompt_index, undo_steps=game.undo_steps
        )

        def make_log() -> ActionLog:
            return game.log(loop.trail, loop.first_plan, loop.prompts[loop.prompt_index])

        player = Player(
            loop,
            game.action_names,
            Recorder(fps=self.fps, scale=self.scale),
            default_action=game.default_action,
            script=script,
            make_log=make_log,
        )
        if self.out is not None:
            player.start_recording(self.out)
        signum = run_window(player, title=f"genie-rt: {game.bundle}", fps=self.fps, scale=self.scale)
        self._print_passes(loop.trail, console)
        for news in player.recorder.news():
            console.print(news)
        if self.log is not None:
            write_log(self.log, make_log())
            console.print(f"wrote {self.log}")
        return signum

    def _print_passes(self, trail: Trail, console: Console) -> None:
        """Print how many passes fitted into --target-ms."""
        from genie_rt.runtime.play.pace import percentile

        passes = trail.passes
        if self.target_ms is not None and passes:
            console.print(
                f"passes per frame within {self.target_ms:g} ms: {min(passes)} min, "
                f"{percentile(passes, 50)} median, {max(passes)} max"
            )


def _warm_up(world: World, plans: Sequence[Plan], console: Console) -> None:
    """Prepare the plans, and print how long that took."""
    start = time.perf_counter()
    console.print(f"preparing {world.backend.name} {world.dtype} ...", end=" ")
    try:
        for plan in plans:
            world.warm_up(plan)
    except BaseException:
        console.print()  # the error message starts on its own line
        raise
    console.print(f"{time.perf_counter() - start:.1f} s")


def _times(played: Played) -> str:
    """Format step times, the first step apart."""
    from genie_rt.runtime.units import plural

    p50, p95, fps = played.percentile_ms(50), played.percentile_ms(95), played.fps
    told = f"first frame {played.first_ms:.1f} ms"
    if p50 is not None and p95 is not None and fps is not None:
        told += f"; the others {p50:.1f} ms p50, {p95:.1f} ms p95 from action to frame, "
        told += f"{fps:.1f} FPS with commits"
    if played.num_cold:
        told += f"; {plural(played.num_cold, 'step')} with one-time preparation not counted"
    return told


def _replay_verdict(log: ActionLog, trail: Trail, game: Game) -> str:
    from genie_rt.runtime.play.game import compare

    different = compare(log, trail)
    if different is None:
        return f"replay: all {len(trail) + 1} frames match the log bit for bit"
    if None not in (log.bundle_sha256, game.bundle_sha256) and log.bundle_sha256 != game.bundle_sha256:
        return "replay: the log was recorded with another bundle, so the frames differ"
    return (
        f"replay: frames differ from the log from step {different} on; the log was played with "
        f"{log.computed_by or 'an unknown back end'}, this with {game.backend} {game.dtype}; back ends, "
        "number formats, machines, thread counts and versions round differently"
    )
