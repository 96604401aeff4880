"""`genie-rt train tokenizer | lam | dynamics`. torch is imported when a command runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.config import ModelConfig, to_dict
from genie_rt.runtime.flags import check_folder
from genie_rt.runtime.presets import preset
from genie_rt.training.loop_config import LoopConfig

if TYPE_CHECKING:
    from torch import nn

    from genie_rt.training.data.store import ClipStore


LoopFlags: TypeAlias = tyro.conf.OmitArgPrefixes[Annotated[LoopConfig, tyro.conf.arg(name="training")]]
"""Flags of the training loop; help lists them as "training options"."""


def _loop(**changes: Any) -> LoopConfig:
    """The paper's optimiser settings (Bruce et al. 2024, appendix C), changed where a component's differ."""
    paper: dict[str, Any] = {
        "steps": 300_000,
        "batch": 64,
        "learning_rate": 3e-4,
        "final_learning_rate": 3e-4,
    }
    paper |= {"warmup_steps": 10_000, "weight_decay": 1e-4, "beta1": 0.9, "beta2": 0.9}
    return LoopConfig(**(paper | changes))


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
    preset: str = "demo"
    """Preset with the model sizes: demo, coinrun, genie-500m, genie-2b or genie-10b."""
    clip: Annotated[int | None, shown(default="twice the longest window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(default_factory=_loop)

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        from genie_rt.training.tokenizer import TokenizerObjective

        check_folder("--out", self.out)
        config = preset(self.preset)
        store = open_matching(self.data, config)
        window = max(config.tokenizer.encoder.window, config.tokenizer.decoder.window)
        length = clip_length(self.clip, window, least=1)
        _seed(self.loop.seed)
        return run_loop("tokenizer", TokenizerObjective(config), store, length, self.loop, self.out, config)


@dataclass(frozen=True, kw_only=True)
class LamCommand:
    """Train the latent action model (LAM), which explains each change of frame by one of a few actions.

    Examples:
        genie-rt train lam --data data --out lam
        genie-rt train lam --data data --out lam --preset coinrun
    """

    data: Path
    """Clip store to train on."""
    out: Path
    """Folder of the run: checkpoints and TensorBoard files. An interrupted run resumes from here."""
    preset: str = "demo"
    """Preset with the model sizes: demo, coinrun, genie-500m, genie-2b or genie-10b."""
    tokenizer: Annotated[Path | None, shown(default="none")] = None
    """Run folder of the tokenizer; needed if the preset's LAM reads tokens instead of pixels."""
    clip: Annotated[int | None, shown(default="twice the longest window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(default_factory=lambda: _loop(learning_rate=3e-5, final_learning_rate=3e-6))

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        from genie_rt.training.frozen import load_tokenizer
        from genie_rt.training.lam import LamObjective

        check_folder("--out", self.out)
        config = preset(self.preset)
        if config.lam is None:
            raise InputError(f"the preset {self.preset!r} has no latent action model")
        tokenizer = None
        if config.lam.inputs == "tokens":
            if self.tokenizer is None:
                raise InputError("this LAM sees tokens: name the tokenizer's run folder with --tokenizer")
            tokenizer = load_tokenizer(self.tokenizer, config)
        store = open_matching(self.data, config)
        length = clip_length(self.clip, max(config.lam.encoder.window, config.lam.decoder.window))
        _seed(self.loop.seed)
        return run_loop("lam", LamObjective(config, tokenizer), store, length, self.loop, self.out, config)


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
    preset: str = "demo"
    """Preset with the model sizes: demo, coinrun, genie-500m, genie-2b or genie-10b."""
    actions: Literal["latent", "logged"] = "latent"
    """latent: actions inferred by the LAM; logged: actions recorded in the clip store."""
    lam: Annotated[Path | None, shown(default="none")] = None
    """Run folder of the LAM; needed for latent actions."""
    context: Literal["clean", "masked"] = "clean"
    """Past frames during training. clean: unmasked, as at inference; masked: the paper's recipe."""
    corruption: float = 0.1
    """Largest fraction of past tokens replaced at random, which makes rollouts robust to errors."""
    clip: Annotated[int | None, shown(default="twice the model's window")] = None
    """Frames per training clip."""
    loop: LoopFlags = field(
        default_factory=lambda: _loop(
            steps=125_000, batch=512, learning_rate=3e-5, final_learning_rate=3e-6, warmup_steps=5_000
        )
    )

    def run(self) -> int:
        """Train, and print where the checkpoint is."""
        from genie_rt.training.dynamics import DynamicsObjective
        from genie_rt.training.frozen import load_lam, load_tokenizer, run_summary

        check_folder("--out", self.out)
        config = preset(self.preset)
        store = open_matching(self.data, config)
        if self.actions == "logged":
            config = _with_logged_actions(config, store)
        elif self.lam is None:
            raise InputError(
                "latent actions need --lam RUN; a store with recorded actions also has --actions logged"
            )
        lam = load_lam(self.lam, config) if self.lam is not None and self.actions == "latent" else None
        _seed(self.loop.seed)
        objective = DynamicsObjective(
            config,
            load_tokenizer(self.tokenizer, config),
            lam,
            context=self.context,
            corruption=self.corruption,
        )
        length = clip_length(self.clip, config.dynamics.transformer.window)
        names = store.action_names if self.actions == "logged" else ()
        recipe = {
            "actions": self.actions,
            "context": self.context,
            "corruption": self.corruption,
            "tokenizer": run_summary(self.tokenizer),
        }
        if lam is not None and self.lam is not None:
            recipe["lam"] = run_summary(self.lam)
        return run_loop("dynamics", objective, store, length, self.loop, self.out, config, names, recipe)


def _with_logged_actions(config: ModelConfig, store: ClipStore) -> ModelConfig:
    """The preset with the store's actions in place of latent ones."""
    import dataclasses

    if not store.action_names:
        raise InputError(f"{store.path} holds no actions: train a LAM and use --actions latent")
    dynamics = dataclasses.replace(config.dynamics, num_actions=len(store.action_names))
    return dataclasses.replace(config, dynamics=dynamics, lam=None)


def _seed(seed: int) -> None:
    """Seed torch, so that initial weights depend on the seed alone."""
    import torch

    torch.manual_seed(seed)


def clip_length(asked: int | None, window: int, *, least: int = 2) -> int:
    """Return the frames per clip: as asked, or twice the window, so that every age has a history.

    Raises:
        InputError: that is less than the model learns from.
    """
    if asked is not None and asked < least:
        raise InputError(f"--clip: expected {least} frames or more, found {asked}")
    return 2 * window if asked is None else asked


def open_matching(data: Path, config: ModelConfig) -> ClipStore:
    """Open a clip store whose pictures have the model's size.

    Raises:
        InputError: they have another.
    """
    from genie_rt.training.data.store import ClipStore

    store = ClipStore.open(data)
    size = (config.tokenizer.height, config.tokenizer.width)
    if (store.height, store.width) != size:
        raise InputError(
            f"{data}: expected frames of {size[1]}x{size[0]} pixels for this preset, found "
            f"{store.width}x{store.height}; record or import the data again at that size"
        )
    return store


def run_loop(
    kind: str,
    objective: nn.Module,
    store: ClipStore,
    length: int,
    loop: LoopConfig,
    out: Path,
    config: ModelConfig,
    action_names: tuple[str, ...] = (),
    recipe: dict[str, Any] | None = None,
) -> int:
    """Train and report the result; the exit code is 128 + signal if a signal stopped the run.

    Kind, config, data and `recipe` are recorded in each checkpoint for `genie-rt export`; a run is resumed
    only with the same.
    """
    from genie_rt.runtime.units import plural
    from genie_rt.training.loop import train

    describe = {
        "kind": kind,
        "config": to_dict(config),
        "clip": length,
        "data": {"source": store.source, "frames": store.num_frames, "provenance": store.provenance},
        "action_names": list(action_names),
        **(recipe or {}),
    }
    result = train(objective, store.clips(length=length, split="train"), loop, out, describe=describe)
    if result.interrupted is not None:
        print(f"stopped at step {result.step}; the same command resumes from {result.checkpoint}")
        return 128 + result.interrupted
    print(f"{kind}: {plural(result.step, 'step')} done, weights in {result.checkpoint}")
    return 0
