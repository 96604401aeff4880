"""Each parameter goes to the optimiser and the decay that the rule says."""

from typing import Any

import torch
from torch import nn

from genie_rt.training.loop_config import LoopConfig
from genie_rt.training.optimizer import build_optimizers


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(4, 4)
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.embedding = nn.Embedding(5, 4)
        self.position = nn.Parameter(torch.zeros(3, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 7)
        self.adamw_only = ("head",)


def groups(optimizer_name: str) -> dict[str, set[str]]:
    model = Mixed()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    config = LoopConfig(steps=1, batch=1, optimizer=optimizer_name, weight_decay=0.5)  # type: ignore[arg-type]
    found: dict[str, set[str]] = {}
    for key, optimizer in build_optimizers(model, config).items():
        group: dict[str, Any]
        for group in optimizer.param_groups:
            found[f"{key} {group['weight_decay']}"] = {names[id(p)] for p in group["params"]}
    return found


PLAIN = {
    "matrix.bias",
    "convolution.bias",
    "norm.weight",
    "norm.bias",
    "embedding.weight",
    "position",
    "head.bias",
}


def test_adamw_decays_matrices_and_kernels_only() -> None:
    assert groups("adamw") == {
        "adamw 0.5": {"matrix.weight", "convolution.weight", "head.weight"},
        "adamw 0.0": PLAIN,
    }


def test_muon_takes_hidden_matrices_only() -> None:
    assert groups("muon") == {
        "muon 0.5": {"matrix.weight"},
        "adamw 0.5": {"convolution.weight", "head.weight"},
        "adamw 0.0": PLAIN,
    }
