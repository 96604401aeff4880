"""The model that a bundle holds: tokenizer and dynamics, and the LAM's codebook where one was used."""

import torch
from torch import Tensor, nn

from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import Dynamics
from genie_rt.runtime.model.tokenizer import Tokenizer


class WorldModel(nn.Module):
    """Everything that play needs. `lam_codebook` is kept for provenance: play needs the index alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.tokenizer)
        self.dynamics = Dynamics(config)
        if config.lam is not None:
            self.lam_codebook = nn.Parameter(torch.zeros(config.lam.num_actions, config.lam.codebook_dim))

    def token_table(self) -> Tensor:
        """`Dynamics.token_table` of this model's codebook, `[V, E]`."""
        return self.dynamics.token_table(self.tokenizer.codebook)


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, without allocating any."""
    with torch.device("meta"):
        model = WorldModel(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
