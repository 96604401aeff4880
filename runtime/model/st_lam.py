"""The paper's latent action model, two ST transformers (Bruce et al. 2024, section 2.1).

On a small budget it collapses: all codes draw the same picture. `conv_lam.py` does not.
"""

import torch
from torch import Tensor, nn

from genie_rt.kernels.patchify.reference import patchify, unpatchify
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.config import LamConfig, TokenizerConfig
from genie_rt.runtime.model.transformer import STTransformer, position_grid


class STLam(nn.Module):
    """Latent actions from clips.

    Where `inputs="tokens"`, both sides see unit code vectors `[B, T, N, d]` of the tokenizer in place of
    patches of pixels; the decoder predicts pixels all the same.
    """

    def __init__(self, config: LamConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.size = (tokenizer.height, tokenizer.width)
        self.patch = config.patch if config.inputs == "pixels" else tokenizer.patch
        grid = tuple(-(-side // self.patch) for side in self.size)
        pixels = 3 * self.patch**2
        inputs = pixels if config.inputs == "pixels" else tokenizer.codebook_dim
        encoder, decoder = config.encoder, config.decoder
        self.encoder_in = nn.Linear(inputs, encoder.width, bias=False)
        self.encoder_position = nn.Parameter(position_grid(grid[0], grid[1], encoder.width))
        self.encoder = STTransformer(encoder)
        self.action_in = nn.Linear(encoder.width, config.codebook_dim, bias=False)
        self.codebook = nn.Parameter(torch.randn(config.num_actions, config.codebook_dim))
        self.decoder_in = nn.Linear(inputs, decoder.width, bias=False)
        self.decoder_position = nn.Parameter(position_grid(grid[0], grid[1], decoder.width))
        self.action_out = nn.Linear(config.codebook_dim, decoder.width, bias=False)
        self.decoder = STTransformer(decoder)
        self.pixels_out = nn.Linear(decoder.width, pixels, bias=False)

    def inputs_of(self, frames: Tensor, codes: Tensor | None = None) -> Tensor:
        """Patches of `[B, T, Hpx, Wpx, 3]` uint8 frames, or the code vectors themselves: `[B, T, Q, ...]`."""
        if self.config.inputs == "tokens":
            if codes is None:
                raise ValueError("a LAM with token inputs needs the frames' code vectors")
            return codes
        return patchify(frames, self.patch, self.encoder_in.weight.dtype)

    def action_vectors(self, inputs: Tensor) -> Tensor:
        """Vectors before quantisation, one a step: `[B, T, Q, ...]` to `[B, T-1, d]`."""
        ages = causal_ages(inputs.shape[1], self.config.encoder.window, inputs.device)
        x, _ = self.encoder(self.encoder_in(inputs) + self.encoder_position, ages)
        return self.action_in(x[:, 1:].mean(2))

    def actions(self, frames: Tensor, codes: Tensor | None = None) -> Tensor:
        """Latent actions `[B, T-1]` int64: entry `t` led from frame `t` to frame `t+1`."""
        return nearest_code(self.action_vectors(self.inputs_of(frames, codes)), self.codebook)

    def predict(self, inputs: Tensor, action_vectors: Tensor) -> Tensor:
        """Next pictures from history and unit action vectors.

        Args:
            inputs: `[B, T-1, Q, ...]`, of all frames but the last.
            action_vectors: `[B, T-1, d]`, the step out of each of them.

        Returns:
            `[B, T-1, Hpx, Wpx, 3]`, nominally in [-1, 1]: predictions of frames `1 ... T-1`.
        """
        ages = causal_ages(inputs.shape[1], self.config.decoder.window, inputs.device)
        x = self.decoder_in(inputs) + self.decoder_position + self.action_out(action_vectors)[:, :, None]
        x, _ = self.decoder(x, ages)
        return unpatchify(self.pixels_out(x), self.patch, *self.size)

    def decode_actions(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """`predict` from action indices `[B, T-1]` int64."""
        return self.predict(inputs, lookup_code(actions, self.codebook))
