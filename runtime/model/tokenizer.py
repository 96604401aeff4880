"""The video tokenizer: an ST-ViViT VQ-VAE (Bruce et al. 2024, section 2.1), causal in time on both sides."""

import torch
from torch import Tensor, nn

from genie_rt.kernels.patchify.reference import patchify, unpatchify
from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.config import TokenizerConfig
from genie_rt.runtime.model.transformer import KeysValues, STTransformer, position_grid


class Tokenizer(nn.Module):
    """Pixels to codes and back.

    Both directions return the keys and values of the frames they were given, and take those of earlier
    frames as `history` with `ages`, exactly as `STTransformer.forward` does.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        encoder, decoder = config.encoder, config.decoder
        self.patch_in = nn.Linear(3 * config.patch**2, encoder.width, bias=False)
        self.encoder_position = nn.Parameter(position_grid(*config.grid, encoder.width))
        self.encoder = STTransformer(encoder)
        self.code_in = nn.Linear(encoder.width, config.codebook_dim, bias=False)
        self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.codebook_dim))
        self.code_out = nn.Linear(config.codebook_dim, decoder.width, bias=False)
        self.decoder_position = nn.Parameter(position_grid(*config.grid, decoder.width))
        self.decoder = STTransformer(decoder)
        self.patch_out = nn.Linear(decoder.width, 3 * config.decoder_patch**2, bias=False)

    def embed_patches(self, frames: Tensor) -> Tensor:
        """Inputs of the encoder: `[B, T, Hpx, Wpx, 3]` uint8 to `[B, T, N, D]`."""
        patches = patchify(frames, self.config.patch, self.patch_in.weight.dtype)
        return self.patch_in(patches) + self.encoder_position

    def embed_codes(self, tokens: Tensor) -> Tensor:
        """Inputs of the decoder: tokens `[B, T, N]` int64 to `[B, T, N, D]`."""
        return self._embed_vectors(lookup_code(tokens, self.codebook))

    def _embed_vectors(self, vectors: Tensor) -> Tensor:
        return self.code_out(vectors) + self.decoder_position

    def to_pixels(self, hidden: Tensor) -> Tensor:
        """The decoder's output `[B, T, N, D]` to pictures `[B, T, Hout, Wout, 3]`, nominally in [-1, 1]."""
        return unpatchify(self.patch_out(hidden), self.config.decoder_patch, *self.config.output_size)

    def encode_vectors(
        self, frames: Tensor, ages: Tensor, history: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Vectors before quantisation: `[B, T, Hpx, Wpx, 3]` uint8 to `[B, T, N, d]`."""
        hidden, kept = self.encoder(self.embed_patches(frames), ages, history)
        return self.code_in(hidden), kept

    def encode(
        self, frames: Tensor, ages: Tensor, history: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Tokens: `[B, T, Hpx, Wpx, 3]` uint8 to `[B, T, N]` int64."""
        vectors, kept = self.encode_vectors(frames, ages, history)
        return nearest_code(vectors, self.codebook), kept

    def decode_vectors(
        self, vectors: Tensor, ages: Tensor, history: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Unit code vectors `[B, T, N, d]` to pictures `[B, T, Hout, Wout, 3]`, nominally in [-1, 1]."""
        hidden, kept = self.decoder(self._embed_vectors(vectors), ages, history)
        return self.to_pixels(hidden), kept

    def decode(
        self, tokens: Tensor, ages: Tensor, history: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Tokens `[B, T, N]` int64 to pictures `[B, T, Hout, Wout, 3]`, nominally in [-1, 1]."""
        return self.decode_vectors(lookup_code(tokens, self.codebook), ages, history)
