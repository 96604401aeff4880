"""Training objective of the latent action model: predict the next picture through one code per step."""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import lookup_code
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.lam import Lam
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.quantiser import CosineQuantiser
from genie_rt.training.tokenizer import psnr_db, target_frames


class LamObjective(nn.Module):
    """Squared error of the predicted next frame plus the commitment loss.

    Args:
        tokenizer: frozen; only where the LAM sees tokens.
    """

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer | None) -> None:
        super().__init__()
        if config.lam is None:
            raise ValueError("the config has no latent action model")
        self.model = Lam(config.lam, config.tokenizer)
        self.quantiser = CosineQuantiser(self.model.codebook)
        self.tokenizer = tokenizer

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of a batch of clips.

        Args:
            frames: `[B, T, H, W, 3]` uint8. actions: `[B, T]`, not used. generator: not used.

        Returns:
            Scalars: loss, psnr_db of the next frame, commitment, perplexity of the actions in the batch.
        """
        codes = None
        if self.tokenizer is not None:
            with torch.no_grad():
                codes = code_vectors(self.tokenizer, frames)
        inputs = self.model.inputs_of(frames, codes)
        quantised, indices, commitment = self.quantiser(self.model.action_vectors(inputs))
        predicted = self.model.predict(inputs[:, :-1], quantised)
        error = mse_loss(predicted.float(), target_frames(frames[:, 1:], self.model.size))
        share = torch.bincount(indices.flatten(), minlength=self.model.config.num_actions) / indices.numel()
        return {
            "loss": error + commitment,
            "psnr_db": psnr_db(error.detach()),
            "commitment": commitment.detach(),
            "perplexity": torch.special.entr(share).sum().exp(),
        }

    def weights(self) -> dict[str, Tensor]:
        """The trained model's state, codebook included."""
        return self.model.state_dict() | {"codebook": self.quantiser.codebook()}


def code_vectors(tokenizer: Tokenizer, frames: Tensor) -> Tensor:
    """Unit code vectors `[B, T, N, d]` of uint8 frames."""
    tokens, _ = tokenizer.encode(
        frames, causal_ages(frames.shape[1], tokenizer.config.encoder.window, frames.device)
    )
    return lookup_code(tokens, tokenizer.codebook)
