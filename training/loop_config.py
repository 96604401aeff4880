"""Settings of the training loop: length, learning rate schedule, optimiser, precision."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from genie_rt.errors import ConfigError

Schedule = Literal["cosine", "linear", "constant"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["auto", "fp32", "bf16"]

MAY_CHANGE_ON_RESUME = frozenset({"steps", "checkpoint_every", "keep_checkpoints", "log_every", "compile"})
"""Fields that a resumed run may set anew; any other difference is another experiment and is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Length, learning rate, optimiser, precision and checkpoints."""

    steps: int
    """Total number of optimiser steps, at which the learning rate schedule ends."""
    batch: int
    """Clips per step, summed over all processes; a multiple of the number of processes."""
    learning_rate: float = 3e-4
    """Peak learning rate, reached at the end of the warm-up."""
    final_learning_rate: float = 0.0
    """Learning rate at the last step, for the schedules cosine and linear."""
    warmup: float = 0.03
    """Share of the steps over which the learning rate rises linearly from 0."""
    schedule: Schedule = "cosine"
    """Learning rate schedule after the warm-up."""
    optimizer: Optimizer = "adamw"
    """muon: Muon for hidden matrices, AdamW for everything else."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices and convolution kernels; never of biases, norms and embeddings."""
    beta1: float = 0.9
    """AdamW's decay rate of the mean gradient."""
    beta2: float = 0.95
    """AdamW's decay rate of the mean squared gradient."""
    muon_momentum: float = 0.95
    """Muon's decay rate of the mean gradient."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    ema_decay: float = 0.0
    """Decay rate of the averaged (EMA) weights stored in checkpoints; 0 stores none."""
    seed: int = 0
    """Random seed for initial weights, clips and everything else."""
    precision: Precision = "auto"
    """auto: bf16 autocast where the device computes it natively, fp32 elsewhere."""
    compile: bool = False
    """Compile the model with torch.compile: slower to start, faster per step."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Number of recent checkpoints to keep."""
    log_every: int = 10
    """Steps between log lines and TensorBoard entries."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "keep_checkpoints", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup must be a share of the steps in [0, 1), got {self.warmup}")
        for name in ("seed", "final_learning_rate", "weight_decay", "gradient_clip"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ConfigError(f"learning_rate must be finite and above 0, got {self.learning_rate}")
        for name in ("beta1", "beta2", "muon_momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name, kind in (("schedule", Schedule), ("optimizer", Optimizer), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")


def learning_rate_at(config: LoopConfig, step: int) -> float:
    """The learning rate of optimiser step `step`, counted from 0; a pure function.

    Linear warm-up `lr (step + 1) / warmup` over `warmup = config.warmup * steps` steps, then with
    `p = (step - warmup) / (steps - warmup)`
    cosine: `final + (lr - final) (1 + cos(pi p)) / 2`; linear: `lr + (final - lr) p`; constant: `lr`.
    """
    peak, final = config.learning_rate, config.final_learning_rate
    warmup = round(config.warmup * config.steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if config.schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup) / max(1, config.steps - warmup))
    if config.schedule == "linear":
        return peak + (final - peak) * progress
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
