"""Training loop, shared by tokenizer, lam and dynamics.

Everything random at a step is a function of (seed, step, rank) alone: the clips, the generator handed to the
objective, and the global generators that libraries draw from. So a run that was killed and resumed goes
through the same numbers as one that was not.
"""

import atexit
import contextlib
import hashlib
import math
import platform
import random
import signal
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import genie_rt
from genie_rt.errors import BundleError, ConfigError, DeviceError, StateError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.interrupt import StopRequest
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.folder_lock import sole_writer
from genie_rt.runtime.units import plural
from genie_rt.runtime.untrusted import brief
from genie_rt.training.checkpoint import Checkpoint, resumed_checkpoint, save_checkpoint
from genie_rt.training.checkpoint_state import as_json, checkpoint_folder, write_state
from genie_rt.training.loop_config import MAY_CHANGE_ON_RESUME, LoopConfig, learning_rate_at
from genie_rt.training.optimizer import WeightAverage, build_optimizers
from genie_rt.training.out_of_memory import explained_out_of_memory
from genie_rt.training.progress import Reporter
from genie_rt.training.watch import Watch

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

__all__ = ["ClipSampler", "LoopConfig", "Objective", "TrainResult", "learning_rate_at", "step_seed", "train"]


class ClipSampler(Protocol):
    """Source of training clips."""

    def sample(
        self, batch: int, *, seed: int, step: int, rank: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Frames [B, T, H, W, 3] uint8 and actions [B, T] int64; a pure function of its arguments."""
        ...


class Objective(Protocol):
    """An `nn.Module` that turns clips into a loss; its state is its parameters and persistent buffers."""

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars by name: "loss" is minimised, the others are reported.

        Args:
            frames: [B, T, H, W, 3] uint8, on the training device.
            actions: [B, T] int64, on the training device.
            generator: on the same device as `frames`, seeded for this step and rank.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Outcome of a run.

    `step` finished steps in all; `losses` one per step of this call, mean over processes; `checkpoint` the
    newest one; `interrupted` the signal's number if one stopped the run (exit code: 128 + it), else None.
    """

    step: int
    losses: list[float]
    checkpoint: Path
    interrupted: int | None = None


def train(
    objective: nn.Module,
    clips: ClipSampler,
    config: LoopConfig,
    out: Path,
    *,
    describe: dict[str, Any],
    watch: Watch | None = None,
) -> TrainResult:
    """Train `objective` up to `config.steps`, from the newest checkpoint in `out` where there is one.

    Mutates the objective (moved to the device, left in training mode) and the global generators of torch,
    NumPy and `random`. Runs as one process or as one of several under `accelerate launch` or `torchrun`.

    Args:
        objective: see `Objective`. An attribute `adamw_only` keeps parameters from Muon.
        clips: where batches come from; sampled one step ahead in a thread.
        out: the run's folder: config.json, checkpoints, tensorboard/.
        describe: what else makes this run what it is (kind, model config, data), in JSON types; a resumed
            run must have the same.
        watch: measures held-out figures for log lines, TensorBoard and checkpoints, in the first process.

    Raises:
        ConfigError: `out` holds a checkpoint of another config or `describe`; or the batch does not divide.
        BundleError: no checkpoint in `out` can be read, or the newest whole one does not fit the objective;
            or the disk cannot be written.
        StateError: another process trains into `out`, or the watch stopped the run, after a checkpoint.
        DeviceError: the loss or the gradient is NaN or Inf, or a step needs more memory than there is.
        UnsupportedError: the extra `train` is not installed.
    """
    accelerator = _accelerator()
    describe = as_json(describe)
    if config.batch % accelerator.num_processes:
        raise ConfigError(
            f"batch {config.batch} does not divide over {accelerator.num_processes} processes: use a multiple"
        )
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(sole_writer(out / ".lock", out, "training into it"))
        return _train_alone(objective, clips, config, out, describe, watch, accelerator)


def _train_alone(
    objective: nn.Module,
    clips: ClipSampler,
    config: LoopConfig,
    out: Path,
    describe: dict[str, Any],
    watch: Watch | None,
    accelerator: "Accelerator",
) -> TrainResult:
    found = resumed_checkpoint(out)
    checkpoint_path, checkpoint = (None, None) if found is None else found
    if checkpoint is not None:
        _refuse_other_run(checkpoint, config, describe, out)
        before = checkpoint.state.get("processes", accelerator.num_processes)
        if before != accelerator.num_processes:
            warnings.warn(
                f"{out} was trained by {before} processes, now "
                f"{accelerator.num_processes}: the clips come in another order",
                stacklevel=2,
            )
        _restore(lambda: objective.load_state_dict(checkpoint.model), out)
    accelerator.wait_for_everyone()  # all have read `out` before the first process writes there

    run = _Run(objective, clips, config, out, describe, watch, accelerator)
    if checkpoint is not None:
        _restore(lambda: run.restore(checkpoint), out)
        run.last_checkpoint = checkpoint_path
    return run.train()


def _refuse_other_run(
    checkpoint: Checkpoint, config: LoopConfig, describe: dict[str, Any], out: Path
) -> None:
    """Raise ConfigError, naming the differences, if the checkpoint is of another experiment."""
    kept = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE_ON_RESUME}
    loop = checkpoint.state.get("loop") or {}
    saved = {n: v for n, v in loop.items() if n not in MAY_CHANGE_ON_RESUME}
    was = _flat({"loop": saved, "describe": checkpoint.state["describe"]})
    now = _flat({"loop": as_json(kept), "describe": describe})
    missing = "nothing"
    changes = [
        f"{name} was {brief(repr(was.get(name, missing)))}, is now {now.get(name, missing)!r}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name, missing) != now.get(name, missing)
    ]
    if changes:
        raise ConfigError(
            f"{out} holds a checkpoint of another run: {'; '.join(changes)}. "
            f"Use another folder, or the old values"
        )
    if config.steps < checkpoint.step:
        raise ConfigError(
            f"{out} is already at step {checkpoint.step}, beyond steps {config.steps}: raise steps"
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self,
        objective: nn.Module,
        clips: ClipSampler,
        config: LoopConfig,
        out: Path,
        describe: dict[str, Any],
        watch: Watch | None,
        accelerator: "Accelerator",
    ) -> None:
        self.objective, self.clips, self.config, self.out = objective, clips, config, out
        self.describe, self.accelerator = describe, accelerator
        self.watch = watch if accelerator.is_main_process else None
        self.device = accelerator.device
        self.bf16 = use_bf16(config.precision, self.device)
        objective.train()
        module = torch.compile(objective) if config.compile else objective
        self.model: Callable[..., dict[str, Tensor]] = accelerator.prepare_model(module)
        self.optimizers = build_optimizers(objective, config)
        self.trained = [p for p in objective.parameters() if p.requires_grad]
        self.average = WeightAverage(objective, config.ema_decay) if config.ema_decay else None
        self.step = 0
        self.losses: list[float] = []
        self.pending: list[dict[str, Tensor]] = []
        self.unlogged: list[dict[str, float]] = []
        self.last_checkpoint: Path | None = None
        self.figures: dict[str, float] = {}
        self.warned_at = -1
        self.started = time.monotonic()
        self.seconds_before: float | None = 0.0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take back optimisers, average and step; the objective's own state was loaded before."""
        self.step = checkpoint.step
        self.seconds_before = checkpoint.state.get("seconds")
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(checkpoint.optimizer[name])
        if self.average is not None and checkpoint.ema is not None:
            self.average.load_state_dict(checkpoint.ema)

    def train(self) -> TrainResult:
        """Run to the end or to the first signal."""
        config, main = self.config, self.accelerator.is_main_process
        if main:
            self.out.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.out / "config.json") as temporary:
                write_state(temporary, {"describe": self.describe, "loop": asdict(config)})
        reporter = Reporter(self.out, start=self.step, steps=config.steps, active=main)
        # A GPU is read only when something is logged or saved; reading it at each step would stall it.
        read_every = 1 if self.device.type == "cpu" else config.log_every
        interrupted: int | None = None
        with StopRequest() as stop, ThreadPoolExecutor(1) as ahead, reporter:
            if self.last_checkpoint is not None:
                reporter.say(f"resuming from {self.last_checkpoint}")
            batch = ahead.submit(self._sample, self.step)
            while self.step < config.steps and interrupted is None:
                frames, actions = batch.result()
                if self.step + 1 < config.steps:
                    batch = ahead.submit(self._sample, self.step + 1)
                with explained_out_of_memory(self.step + 1, config.batch, frames.shape[1], self.device):
                    self._one_step(frames, actions)
                reporter.advance(self.step)
                save = self.step % config.checkpoint_every == 0 or self.step == config.steps
                log = self.step % config.log_every == 0 or self.step == config.steps
                if self.accelerator.num_processes == 1:
                    interrupted = stop.signum
                if save or log or interrupted or self.step % read_every == 0:
                    # Several processes agree here whether to stop, so that none waits for one that left.
                    interrupted = self._read(stop.signum)
                # Who was told to end has seconds: the last figures have to do for that checkpoint.
                if self.watch is not None and (log or save) and interrupted is None:
                    self.figures = self.watch.figures(saving=save)
                if log:
                    line = "" if self.watch is None else self.watch.line(self.figures)
                    reporter.log(self.step, self._averages(), self.figures, line)
                reason = self._refusal(reporter) if (log or save) and interrupted is None else None
                refused = (log or save) and self._any(reason is not None)
                if save or interrupted or refused:
                    self._save()
                if save and interrupted is None and self.watch is not None:
                    reporter.draw(self.step, self.watch.pictures())
                if refused:
                    raise StateError(
                        f"{reason or 'the first process stopped'} (saved {self.last_checkpoint})"
                    )
            if interrupted is not None:
                reporter.say(
                    f"stopped by {signal.Signals(interrupted).name} after step {self.step}; saved "
                    f"{self.last_checkpoint}; the same command goes on from there"
                )
        return TrainResult(
            step=self.step,
            losses=self.losses,
            checkpoint=checkpoint_folder(self.out, self.step),
            interrupted=interrupted,
        )

    def _sample(self, step: int) -> tuple[Tensor, Tensor]:
        """Sample this process's clips of `step`, on the CPU; pinned for a GPU. Runs in the thread."""
        share = self.config.batch // self.accelerator.num_processes
        arrays = self.clips.sample(
            share, seed=self.config.seed, step=step, rank=self.accelerator.process_index
        )
        frames, actions = (torch.from_numpy(array) for array in arrays)
        if self.device.type == "cuda":
            frames, actions = frames.pin_memory(), actions.pin_memory()
        return frames, actions

    def _one_step(self, frames: Tensor, actions: Tensor) -> None:
        """Forward, backward, update; on a GPU without a sync. Leaves the metrics in `pending`."""
        config, step = self.config, self.step
        seed = step_seed(config.seed, step, self.accelerator.process_index)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from the global one)
        random.seed(seed)
        generator = torch.Generator(self.device).manual_seed(seed)
        frames = frames.to(self.device, non_blocking=True)
        actions = actions.to(self.device, non_blocking=True)

        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs = self.model(frames, actions, generator)
        loss = outputs["loss"].float()
        self.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.trained, config.gradient_clip or math.inf)
        rate = learning_rate_at(config, step)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)

        self.pending.append({name: value.detach().float() for name, value in outputs.items()})
        self.pending[-1]["grad_norm"] = norm.detach().float()
        self.step += 1

    def _read(self, signum: int | None) -> int | None:
        """Bring the pending metrics to the host, averaged over processes; check them; agree on a signal.

        Synchronises with the device and, by a collective, with the other processes.
        """
        names = sorted(self.pending[0])
        table = torch.stack([row[name] for row in self.pending for name in names])
        flags = torch.tensor([float(signum or 0)], device=self.device)
        values = torch.cat([table.reshape(-1), flags])
        if self.accelerator.num_processes > 1:
            reduced: Any = self.accelerator.reduce(values, reduction="mean")
            values = reduced
        numbers = values.tolist()
        first = self.step - len(self.pending)
        for index in range(len(self.pending)):
            row = dict(zip(names, numbers[index * len(names) : (index + 1) * len(names)], strict=True))
            for name in ("loss", "grad_norm"):
                if not math.isfinite(row[name]):
                    raise DeviceError(
                        f"step {first + index + 1}: {name} is {row[name]}, expected a finite number; the "
                        f"last good checkpoint is {self.last_checkpoint or 'none'}. Lower the learning rate "
                        f"or the gradient clip, or use precision fp32, and start anew in another folder"
                    )
            self.losses.append(row["loss"])
            self.unlogged.append(row)
        self.pending.clear()
        if not numbers[-1]:
            return None
        return signum or int(signal.SIGTERM)

    def _averages(self) -> dict[str, float]:
        """Means of all metrics since the last call, loss first, with the current learning rate."""
        rows = self.unlogged
        names = sorted(rows[0], key=lambda name: (name != "loss", name == "grad_norm"))
        means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
        rows.clear()
        return {**means, "learning_rate": learning_rate_at(self.config, self.step - 1)}

    def _refusal(self, reporter: Reporter) -> str | None:
        """Let the watch warn, at most once in a tenth of the steps; why it stops the run, if it does."""
        if self.watch is None:
            return None
        try:
            warning = self.watch.check(self.figures, self.step / self.config.steps)
        except StateError as error:
            return str(error)
        tenth = 10 * self.step // self.config.steps
        if warning is not None and tenth > self.warned_at:
            self.warned_at = tenth
            reporter.say(warning)
        return None

    def _any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; a collective."""
        if self.accelerator.num_processes == 1:
            return flag
        total: Any = self.accelerator.reduce(torch.tensor([float(flag)], device=self.device), reduction="sum")
        return bool(total.item())

    def _save(self) -> None:
        """Write a checkpoint (first process) and wait for it (the others)."""
        if self.accelerator.is_main_process:
            seconds = time.monotonic() - self.started
            save_checkpoint(
                self.out,
                step=self.step,
                model=self.objective.state_dict(),
                ema=None if self.average is None else self.average.state_dict(),
                optimizer={name: o.state_dict() for name, o in self.optimizers.items()},
                state={
                    "describe": self.describe,
                    "loop": asdict(self.config),
                    "processes": self.accelerator.num_processes,
                    "precision": "bf16" if self.bf16 else "fp32",
                    "versions": {"genie-rt": genie_rt.__version__, "torch": torch.__version__},
                    "device": _device_name(self.device),
                    "figures": self.figures,
                    "seconds": None if self.seconds_before is None else self.seconds_before + seconds,
                },
                keep=self.config.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()
        self.last_checkpoint = checkpoint_folder(self.out, self.step)


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed, a hash of its arguments: neighbouring steps and ranks share nothing."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _accelerator() -> "Accelerator":
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise UnsupportedError(f"training needs accelerate: {install_hint('train')}") from error
    # Accelerate's precision is fixed for the life of the process; ours is chosen per run, by autocast.
    accelerator = Accelerator(mixed_precision="no")
    if accelerator.num_processes > 1:
        # a group that is still open when Python ends can abort the process: its threads are running
        atexit.register(accelerator.end_training)
    return accelerator


def _device_name(device: torch.device) -> str:
    """Describe the device for a run's record: the GPU's name, or the CPU and torch's thread count."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {plural(torch.get_num_threads(), 'thread')}"


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether a precision means bf16 autocast on this device."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _restore(load: Callable[[], object], out: Path) -> None:
    try:
        load()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(f"the checkpoint in {out} does not fit this objective: {error}") from error
