"""Training objective of the latent action model: predict the next picture through one code per step."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genie_rt.errors import ConfigError
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import lookup_code
from genie_rt.runtime.config import ConvLamConfig, ModelConfig
from genie_rt.runtime.model.lam import build_lam
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.quantiser import build_quantiser
from genie_rt.training.sheet import sheet
from genie_rt.training.tokenizer import psnr_db, target_frames

CODE_DROPOUT = 0.1
"""Share of steps whose code is replaced by zeros, so that what no code predicts is known."""

CHANGED_WEIGHT = 5.0
"""Weight of the pixels that change, where nothing else is asked for: they alone tell the action."""


class LamObjective(nn.Module):
    """Squared error of the predicted next frame, weighted towards what changes, plus the quantiser's loss.

    Args:
        tokenizer: frozen; only where the LAM sees tokens.
        changed_weight: weight of a pixel that differs from the frame before; 1 for the paper's plain mean.

    Raises:
        ConfigError: the weight is below 1.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer | None, *, changed_weight: float = CHANGED_WEIGHT
    ) -> None:
        super().__init__()
        if not changed_weight >= 1:
            raise ConfigError(f"--changed-weight: expected 1 or more, found {changed_weight}")
        self.model = build_lam(config)
        lam = self.model.config
        bottleneck = lam.bottleneck if isinstance(lam, ConvLamConfig) else "vq"
        self.quantiser = build_quantiser(self.model.codebook, bottleneck)
        self.tokenizer = tokenizer
        self.changed_weight = changed_weight

    def inputs_of(self, frames: Tensor) -> Tensor:
        """What the model sees of frames `[B, T, H, W, 3]` uint8."""
        codes = None
        if self.tokenizer is not None:
            with torch.no_grad():
                codes = code_vectors(self.tokenizer, frames)
        return self.model.inputs_of(frames, codes)

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of a batch of clips.

        Args:
            frames: `[B, T, H, W, 3]` uint8. actions: `[B, T]`, not used. generator: of the code dropout.

        Returns:
            Scalars: loss, psnr_db of the next frame, commitment, perplexity of the actions in the batch.
        """
        inputs = self.inputs_of(frames)
        quantised, indices, commitment = self.quantiser(self.model.action_vectors(inputs))
        drawn = torch.rand(indices.shape, generator=generator, device=generator.device)
        dropped = (drawn < CODE_DROPOUT).to(quantised.device)
        predicted = self.model.predict(inputs[:, :-1], quantised.masked_fill(dropped[..., None], 0.0))
        target, before = (target_frames(part, self.model.size) for part in (frames[:, 1:], frames[:, :-1]))
        squares = (predicted.float() - target) ** 2  # [B, T-1, H, W, 3]
        weights = torch.where((target != before).any(-1, keepdim=True), self.changed_weight, 1.0)
        error = (squares * weights).mean() / weights.mean()
        share = torch.bincount(indices.flatten(), minlength=self.model.config.num_actions) / indices.numel()
        return {
            "loss": error + commitment,
            "psnr_db": psnr_db(squares.detach().mean()),
            "commitment": commitment.detach(),
            "perplexity": torch.special.entr(share).sum().exp(),
        }

    @torch.inference_mode()
    def pictures(self, frames: Tensor) -> NDArray[np.uint8]:
        """Draw what each code makes of clips: one row a clip, `[h, w, 3]`.

        A row holds the last two frames and then, code by code, the prediction of the last one.

        Args:
            frames: `[B, T, H, W, 3]` uint8.
        """
        codebook = self.quantiser.codebook()
        frames = frames.to(codebook.device)
        inputs = self.inputs_of(frames)[:, :-1]
        columns = list(target_frames(frames[:, -2:], self.model.size).unbind(1))
        for code in range(len(codebook)):
            codes = torch.full(inputs.shape[:2], code, device=frames.device)
            drawn = self.model.predict(inputs, lookup_code(codes, codebook).to(inputs.dtype))
            columns.append(drawn[:, -1])
        return sheet(columns)

    def weights(self) -> dict[str, Tensor]:
        """The trained model's state, codebook included."""
        return self.model.state_dict() | {"codebook": self.quantiser.codebook()}


def code_vectors(tokenizer: Tokenizer, frames: Tensor) -> Tensor:
    """Unit code vectors `[B, T, N, d]` of uint8 frames, in the tokenizer's own precision."""
    ages = causal_ages(frames.shape[1], tokenizer.config.encoder.window, frames.device)
    with torch.autocast(frames.device.type, enabled=False):
        tokens, _ = tokenizer.encode(frames, ages)
    return lookup_code(tokens, tokenizer.codebook)
