"""Training objective of the tokenizer: reconstruct its input through a codebook."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.quantiser import CosineQuantiser
from genie_rt.training.sheet import sheet


class TokenizerObjective(nn.Module):
    """Squared error of the pixels plus the commitment loss of the quantiser."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = Tokenizer(config.tokenizer)
        self.quantiser = CosineQuantiser(self.model.codebook)

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of a batch of clips.

        Args:
            frames: `[B, T, H, W, 3]` uint8. actions: `[B, T]`, not used. generator: not used.

        Returns:
            Scalars: loss, psnr_db (pooled over the batch), commitment, perplexity of the codes in the batch.
        """
        config = self.model.config
        vectors, _ = self.model.encode_vectors(
            frames, causal_ages(frames.shape[1], config.encoder.window, frames.device)
        )
        quantised, indices, commitment = self.quantiser(vectors)
        decoded, _ = self.model.decode_vectors(
            quantised, causal_ages(frames.shape[1], config.decoder.window, frames.device)
        )
        error = mse_loss(decoded.float(), target_frames(frames, config.output_size))
        share = torch.bincount(indices.flatten(), minlength=config.codebook_size) / indices.numel()
        return {
            "loss": error + commitment,
            "psnr_db": psnr_db(error.detach()),
            "commitment": commitment.detach(),
            "perplexity": torch.special.entr(share).sum().exp(),
        }

    @torch.inference_mode()
    def pictures(self, frames: Tensor) -> NDArray[np.uint8]:
        """Draw the last frames of clips `[B, T, H, W, 3]` uint8 and what becomes of them: `[h, w, 3]`."""
        config, codebook = self.model.config, self.quantiser.codebook()
        frames = frames.to(codebook.device)
        vectors, _ = self.model.encode_vectors(
            frames, causal_ages(frames.shape[1], config.encoder.window, frames.device)
        )
        quantised = lookup_code(nearest_code(vectors, codebook), codebook)
        decoded, _ = self.model.decode_vectors(
            quantised, causal_ages(frames.shape[1], config.decoder.window, frames.device)
        )
        return sheet([target_frames(frames, config.output_size)[:, -1], decoded[:, -1]])

    def weights(self) -> dict[str, Tensor]:
        """The trained tokenizer's state, codebook included."""
        return self.model.state_dict() | {"codebook": self.quantiser.codebook()}


def target_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 frames `[B, T, H, W, 3]` to [-1, 1] float32, resized where the decoder's size differs."""
    target = frames.float() / 127.5 - 1
    if tuple(frames.shape[2:4]) == size:
        return target
    flat = target.flatten(0, 1).permute(0, 3, 1, 2)
    flat = torch.nn.functional.interpolate(flat, size, mode="bicubic", antialias=True).clamp(-1, 1)
    return flat.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])


def psnr_db(squared_error: Tensor) -> Tensor:
    """PSNR of pictures in [-1, 1]: `10 log10(2^2 / mse)`."""
    return 10 * (math.log10(4.0) - squared_error.clamp(min=1e-10).log10())
