"""`genie-rt train tokenizer | lam | dynamics`. torch is imported when a command runs."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from genie_rt.environment import is_first_process
from genie_rt.errors import ConfigError, InputError
from genie_rt.parsing import shown
from genie_rt.runtime.config import ConvLamConfig, ModelConfig
from genie_rt.runtime.flags import check_folder
from genie_rt.training.loop_config import LoopConfig
from genie_rt.training.stage import Stage, clip_length, open_data, seed_weights

if TYPE_CHECKING:
    from genie_rt.training.data.store import ClipStore
    from genie_rt.training.dynamics import DynamicsObjective
    from genie_rt.training.tokenizer import TokenizerObjective
    from genie_rt.training.watch import Watch


LoopFlags: TypeAlias = tyro.conf.OmitArgPrefixes[Annotated[LoopConfig, tyro.conf.arg(name="training")]]
"""Flags of the training loop; help lists them as "training options"."""

PresetName: TypeAlias = Annotated[str, shown(metavar="NAME|FILE.json")]


def demo_loop(**changes: Any) -> LoopConfig:
    """Settings that train the preset "demo" on a laptop's CPU, changed where a component's differ.

    The paper's are in docs/training.md.
    """
    settings: dict[str, Any] = {
        "batch": 8,
        "optimizer": "muon",
        "learning_rate": 2e-3,
        "final_learning_rate": 2e-5,
        "checkpoint_every": 200,
    }
    return LoopConfig(**(settings | changes))


def lam_loop(**changes: Any) -> LoopConfig:
    """As `demo_loop`, for the latent action model: single steps in large batches."""
    settings: dict[str, Any] = {"steps": 2000, "batch": 48, "optimizer": "adamw", "log_every": 50}
    return demo_loop(**(settings | changes))


@dataclass(frozen=True, kw_only=True)
class TokenizerCommand:
    """Train the video tokenizer, which turns frames into tokens and back.

    Examples:
        genie-rt train tokenizer --data data --out tok
        genie-rt train tokenizer --data data --out tok --steps 20000 --batch 16
    """

    data: Path
    """Clip store to train on."""
    out: Path
    """Folder of the run: checkpoints and TensorBoard files. An interrupted run resumes from here."""
    preset: PresetName = "demo"
    """Model sizes: demo, coinrun, genie-500m, genie-2b, genie-10b, or a JSON file."""
    clip: Annotated[int | None, shown(default="twice the longest window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(default_factory=lambda: demo_loop(steps=3000))

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        return self.stage().run(self.loop, self.out)

    def stage(self) -> Stage:
        """What would be trained."""
        from genie_rt.training.tokenizer import TokenizerObjective

        check_folder("--out", self.out)
        store, config = open_data(self.data, self.preset)
        window = max(config.tokenizer.encoder.window, config.tokenizer.decoder.window)
        length = clip_length(self.clip, 2 * window, least=1)
        seed_weights(self.loop.seed)
        objective = TokenizerObjective(config)
        return Stage(
            kind="tokenizer",
            objective=objective,
            store=store,
            length=length,
            config=config,
            watch=_loss_watch(objective, store, length),
            next_command=self._next(config),
        )

    def _next(self, config: ModelConfig) -> str:
        if config.lam is None:
            return _command("dynamics", self, {"--tokenizer": self.out, "--actions": "logged"})
        return _command("lam", self, {"--tokenizer": self.out} if config.lam.inputs == "tokens" else {})


@dataclass(frozen=True, kw_only=True)
class LamCommand:
    """Train the latent action model (LAM), which explains each change of frame by one of a few actions.

    Every log line says what the codes are worth on held-out clips: by how much the prediction of the next
    frame suffers when another step's code is taken (Δ), how often each code is used, and how alike two of
    them are. 5 dB and more is good. A model whose decoder ignores the codes is worth nothing downstream.

    Examples:
        genie-rt train lam --data data --out lam
        genie-rt train lam --data data --out lam --num-actions 4 --steps 4000
    """

    data: Path
    """Clip store to train on."""
    out: Path
    """Folder of the run: checkpoints and TensorBoard files. An interrupted run resumes from here."""
    preset: PresetName = "demo"
    """Model sizes: demo, coinrun, genie-500m, genie-2b, genie-10b, or a JSON file."""
    num_actions: Annotated[int | None, shown(default="the preset's")] = None
    """Number of latent actions."""
    past_frames: Annotated[int | None, shown(default="the preset's")] = None
    """Frames the model sees before a step. 1: codes tell the motion; 2 and more: changes of the motion."""
    bottleneck: Annotated[Literal["fsq", "lfq", "vq"] | None, shown(default="the preset's")] = None
    """Kind of code: fsq and lfq are vectors of signs, vq a learned codebook."""
    changed_weight: float = 5.0
    """Weight of the pixels that change in the loss; 1 weighs all pixels alike, as the paper does."""
    min_delta: float = 0.5
    """Stop from half of the steps on if Δ, the cost of shuffled codes, is below this, in dB; 0: never."""
    tokenizer: Annotated[Path | None, shown(default="none")] = None
    """Run folder of the tokenizer; needed if the preset's LAM reads tokens instead of pixels."""
    clip: Annotated[int | None, shown(default="past frames + 1, or twice the window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(default_factory=lam_loop)

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        return self.stage().run(self.loop, self.out)

    def stage(self) -> Stage:
        """What would be trained."""
        from genie_rt.training.frozen import load_tokenizer
        from genie_rt.training.lam import LamObjective
        from genie_rt.training.watch import SAVE_CLIPS, LamWatch, heldout_clips

        check_folder("--out", self.out)
        store, config = open_data(self.data, self.preset)
        config = self._changed(config)
        assert config.lam is not None  # `_changed` saw to it
        tokenizer = None
        if config.lam.inputs == "tokens":
            if self.tokenizer is None:
                raise InputError("this LAM sees tokens: name the tokenizer's run folder with --tokenizer")
            tokenizer = load_tokenizer(self.tokenizer, config)
        if isinstance(config.lam, ConvLamConfig):
            length = clip_length(self.clip, config.lam.past_frames + 1)
        else:
            length = clip_length(self.clip, 2 * max(config.lam.encoder.window, config.lam.decoder.window))
        seed_weights(self.loop.seed)
        objective = LamObjective(config, tokenizer, changed_weight=self.changed_weight)
        steps = self.loop.batch * (length - 1)
        if steps < 2:
            raise InputError(f"--batch {self.loop.batch}: expected clips with 2 steps or more, found {steps}")
        held = heldout_clips(store, length, SAVE_CLIPS)
        least, batch = self.min_delta, min(64, self.loop.batch)
        watch = None
        if held is not None:
            watch = LamWatch(objective, held[0], min_delta_db=least, batch=batch)
        return Stage(
            kind="lam",
            objective=objective,
            store=store,
            length=length,
            config=config,
            watch=watch,
            recipe={"changed_weight": self.changed_weight},
            next_command=_command(
                "dynamics", self, {"--tokenizer": self._tokenizer_run(), "--lam": self.out}
            ),
        )

    def _tokenizer_run(self) -> Path | str:
        """The tokenizer's run as far as it is known."""
        if self.tokenizer is not None:
            return self.tokenizer
        beside = self.out.parent / "tokenizer"
        return beside if beside.is_dir() else "TOKENIZER_RUN"

    def _changed(self, config: ModelConfig) -> ModelConfig:
        """The config with this command's latent action model."""
        if config.lam is None:
            raise InputError(f"the preset {self.preset!r} has no latent action model")
        names = ("num_actions", "past_frames", "bottleneck")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        own = [name for name in changes if name != "num_actions"]
        if own and not isinstance(config.lam, ConvLamConfig):
            flag = own[0].replace("_", "-")
            raise InputError(f"--{flag}: expected a preset with a convolutional LAM, found {self.preset!r}")
        try:
            return with_actions(config, dataclasses.replace(config.lam, **changes))
        except ConfigError as error:
            given = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in changes.items())
            raise InputError(f"{given}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class DynamicsCommand:
    """Train the dynamics model, which predicts the next frame's tokens from past tokens and actions.

    Examples:
        genie-rt train dynamics --data data --tokenizer tok --lam lam --out dyn
        genie-rt train dynamics --data data --tokenizer tok --actions logged --out dyn
    """

    data: Path
    """Clip store to train on."""
    out: Path
    """Folder of the run: checkpoints and TensorBoard files. An interrupted run resumes from here."""
    tokenizer: Path
    """Run folder of the tokenizer."""
    preset: PresetName = "demo"
    """Model sizes: demo, coinrun, genie-500m, genie-2b, genie-10b, or a JSON file."""
    actions: Literal["latent", "logged"] = "latent"
    """latent: actions inferred by the LAM; logged: actions recorded in the clip store."""
    lam: Annotated[Path | None, shown(default="none")] = None
    """Run folder of the LAM; needed for latent actions."""
    context: Literal["clean", "masked"] = "clean"
    """Past frames during training. clean: unmasked, as at inference; masked: the paper's recipe."""
    corruption: float = 0.1
    """Largest fraction of past tokens replaced at random, which makes rollouts robust to errors."""
    own_context: float = 0.5
    """Share of clips with past frames replaced by the model's own predictions, so that it corrects itself."""
    clip: Annotated[int | None, shown(default="twice the model's window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(default_factory=lambda: demo_loop(steps=6000))

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        return self.stage().run(self.loop, self.out)

    def stage(self) -> Stage:
        """What would be trained. The stages that it stands on have to be there."""
        from genie_rt.training.dynamics import DynamicsObjective
        from genie_rt.training.frozen import lam_config, load_lam, load_tokenizer, run_summary

        check_folder("--out", self.out)
        store, config = open_data(self.data, self.preset)
        if self.actions == "logged":
            config = with_logged_actions(config, store)
        elif self.lam is None:
            raise InputError(
                "latent actions need --lam RUN; a store with recorded actions also has --actions logged"
            )
        else:
            config = with_actions(config, lam_config(self.lam))
        lam = load_lam(self.lam, config) if self.lam is not None and self.actions == "latent" else None
        seed_weights(self.loop.seed)
        objective = DynamicsObjective(
            config,
            load_tokenizer(self.tokenizer, config),
            lam,
            context=self.context,
            corruption=self.corruption,
            own_context=self.own_context,
        )
        length = clip_length(self.clip, 2 * config.dynamics.transformer.window)
        recipe: dict[str, Any] = {
            "actions": self.actions,
            "context": self.context,
            "corruption": self.corruption,
            "own_context": self.own_context,
            "tokenizer": run_summary(self.tokenizer),
        }
        if lam is not None and self.lam is not None:
            recipe["lam"] = run_summary(self.lam)
            tell_health(self.lam, recipe["lam"]["figures"])
        prompts = _quoted(self.out.parent / "prompts")
        return Stage(
            kind="dynamics",
            objective=objective,
            store=store,
            length=length,
            config=config,
            watch=_loss_watch(objective, store, length),
            recipe=recipe,
            action_names=store.action_names if self.actions == "logged" else (),
            next_command=(
                f"genie-rt data prompts {_quoted(self.data)} --out {prompts} && "
                f"genie-rt export {_quoted(self.out)} --out my-world --prompt {prompts}/*.png "
                f"--int8 --clips {_quoted(self.data)}"
            ),
        )


def tell_health(run: Path, figures: object) -> None:
    """Print, in the first process, what the codes of a LAM are worth, and a warning where that is nothing."""
    from genie_rt.runtime.action_health import ActionHealth

    if not is_first_process():
        return
    health = ActionHealth.from_figures(figures)
    if health is None:
        print(f"{run}: it is not known whether its codes mean anything: no held-out clip was measured")
        return
    print(f"latent actions of {run}: {health}")
    if (problem := health.problem()) is not None:
        print(f"warning: {problem}")


def with_actions(config: ModelConfig, lam: Any) -> ModelConfig:
    """The config with another latent action model, and as many actions of the dynamics."""
    dynamics = dataclasses.replace(config.dynamics, num_actions=lam.num_actions)
    return dataclasses.replace(config, lam=lam, dynamics=dynamics)


def with_logged_actions(config: ModelConfig, store: ClipStore) -> ModelConfig:
    """The preset with the store's actions in place of latent ones."""
    if not store.action_names:
        raise InputError(f"{store.path} holds no actions: train a LAM and use --actions latent")
    dynamics = dataclasses.replace(config.dynamics, num_actions=len(store.action_names))
    return dataclasses.replace(config, dynamics=dynamics, lam=None)


def _loss_watch(
    objective: TokenizerObjective | DynamicsObjective, store: ClipStore, length: int
) -> Watch | None:
    from genie_rt.training.watch import LossWatch, heldout_clips

    clips = heldout_clips(store, length, 8)
    return None if clips is None else LossWatch(objective, clips)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _command(stage: str, done: TokenizerCommand | LamCommand, flags: dict[str, Path | str]) -> str:
    """The command of a stage that follows on the same data and sizes, into a folder beside that of `done`."""
    words = ["genie-rt", "train", stage, "--data", str(done.data)]
    if done.preset != "demo":
        words += ["--preset", done.preset]
    for flag, value in flags.items():
        words += [flag, str(value)]
    return shlex.join([*words, "--out", str(done.out.parent / stage)])
