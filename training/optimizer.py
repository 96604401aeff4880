"""Choice of optimisers: AdamW for all parameters, or Muon for hidden matrices and AdamW for the rest."""

from typing import Any

import torch
from torch import nn

from genie_rt.training.loop_config import LoopConfig

TABLE_NAMES = ("embed", "codebook", "position")
"""A parameter whose name holds one of these is a table of rows looked up, not a matrix multiplied with."""


def build_optimizers(objective: nn.Module, config: LoopConfig) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of all parameters that require a gradient, by name: "adamw" and perhaps "muon".

    AdamW decays parameters of two or more dimensions except tables (`TABLE_NAMES`) and norms. Muon takes
    the 2D ones among those; "match_rms_adamw" scales its update so that AdamW's learning rate holds for
    both (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2). An objective keeps further
    parameters from Muon, such as an output head, by an attribute `adamw_only`: a tuple of name parts.
    """
    adamw_only: tuple[str, ...] = getattr(objective, "adamw_only", ())
    hidden: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or any(part in name.lower() for part in (*TABLE_NAMES, "norm", "bias")):
            plain.append(parameter)
        elif config.optimizer == "muon" and parameter.ndim == 2 and not any(p in name for p in adamw_only):
            hidden.append(parameter)
        else:
            decayed.append(parameter)

    optimizers: dict[str, torch.optim.Optimizer] = {}
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (plain, 0.0))
        if parameters
    ]
    if groups:
        optimizers["adamw"] = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
        )
    if hidden:
        optimizers["muon"] = torch.optim.Muon(
            hidden,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.muon_momentum,
            adjust_lr_fn="match_rms_adamw",
        )
    return optimizers


class WeightAverage:
    """Exponential moving average of the parameters: `a <- d a + (1 - d) w`, `d = min(decay, (1+s)/(10+s))`.

    The rising decay keeps the random start out of the average. Tensors: fp32 or the parameters' own dtype,
    on the parameters' device.
    """

    def __init__(self, objective: nn.Module, decay: float) -> None:
        self.decay = decay
        self.objective = objective
        self.parameters = dict(objective.named_parameters())
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (counted from 0). Mutates the averages, no sync."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.averages.values()), list(self.parameters.values()), 1 - decay)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The objective's state dict with averaged parameters and the buffers as they are."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        state = self.objective.state_dict(keep_vars=True)
        return {
            key: self.averages[names[id(value)]] if id(value) in names else value.detach()
            for key, value in state.items()
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take the averages back from what `state_dict` gave."""
        for name, average in self.averages.items():
            average.copy_(state[name])
