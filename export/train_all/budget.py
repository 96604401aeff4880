"""How many steps of each stage fit into a time on this machine, measured before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.lam import build_lam
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.data.store import ClipStore
from genie_rt.training.dynamics import DynamicsObjective
from genie_rt.training.lam import LamObjective
from genie_rt.training.loop import use_bf16
from genie_rt.training.loop_config import LoopConfig
from genie_rt.training.optimizer import build_optimizers
from genie_rt.training.out_of_memory import explained_out_of_memory
from genie_rt.training.tokenizer import TokenizerObjective

STAGES = ("tokenizer", "lam", "dynamics")

SHARES: Mapping[str, float] = {"tokenizer": 0.28, "lam": 0.12, "dynamics": 0.60}
"""Parts of the training time, where there are three stages; without a LAM the others share its part."""

MOST_STEPS: Mapping[str, int] = {"tokenizer": 8000, "lam": 3000, "dynamics": 1_000_000}
"""Beyond these a stage gains little; what it leaves goes to the dynamics."""

LEAST_STEPS = 20

WARM_UP, TIMED = 1, 3
"""Steps before and within a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBudget:
    """Steps of one stage, and what each takes here."""

    steps: int
    seconds_a_step: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole stage."""
        return self.steps * self.seconds_a_step


def share_out(seconds: float, seconds_a_step: Mapping[str, float]) -> dict[str, StageBudget]:
    """Steps of each stage.

    Args:
        seconds: for all stages together.
        seconds_a_step: of the stages that there are, by name; "dynamics" is among them.
    """
    whole = sum(SHARES[name] for name in seconds_a_step)
    budgets: dict[str, StageBudget] = {}
    left = seconds
    for name in STAGES:
        if name not in seconds_a_step:
            continue
        cost = seconds_a_step[name]
        part = left if name == "dynamics" else seconds * SHARES[name] / whole
        steps = max(LEAST_STEPS, min(MOST_STEPS[name], int(part / cost)))
        budgets[name] = StageBudget(steps=steps, seconds_a_step=cost)
        left -= steps * cost
    return budgets


def measure_stages(
    config: ModelConfig, store: ClipStore, loops: Mapping[str, LoopConfig], lengths: Mapping[str, int]
) -> dict[str, float]:
    """Seconds a step of each stage, with fresh weights that are thrown away.

    Args:
        config: of the whole model; without `lam` there is no stage "lam".
        loops, lengths: settings and frames of a clip by stage.

    Raises:
        OutOfMemoryError: a step needs more memory than there is.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer(config.tokenizer).requires_grad_(False)
    lam = None if config.lam is None else build_lam(config).requires_grad_(False)
    objectives: dict[str, nn.Module] = {"tokenizer": TokenizerObjective(config)}
    if config.lam is not None:
        objectives["lam"] = LamObjective(config, tokenizer if config.lam.inputs == "tokens" else None)
    objectives["dynamics"] = DynamicsObjective(config, tokenizer, lam, own_context=0.5)
    return {
        name: _seconds_a_step(objective.to(device), store, loops[name], lengths[name], device)
        for name, objective in objectives.items()
    }


def _seconds_a_step(
    objective: nn.Module, store: ClipStore, loop: LoopConfig, length: int, device: torch.device
) -> float:
    clips = store.clips(length=length, split="train")
    optimizers = build_optimizers(objective, loop)
    objective.train()
    started = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            _wait(device)
            started = time.perf_counter()
        frames, actions = (
            torch.from_numpy(x).to(device) for x in clips.sample(loop.batch, seed=0, step=step)
        )
        with explained_out_of_memory(step + 1, loop.batch, length, device):
            with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(loop.precision, device)):
                outputs = objective(frames, actions, torch.Generator(device).manual_seed(step))
            outputs["loss"].backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    _wait(device)
    return (time.perf_counter() - started) / TIMED


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
