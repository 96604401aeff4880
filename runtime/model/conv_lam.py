"""The convolutional latent action model: which of `A` codes explains how one frame becomes the next.

The encoder sees the last `p` frames, the next frame and the difference of the two newest, and gives one
vector for the step, quantised to a code. The decoder sees the `p` frames and the code, which scales and
shifts every one of its layers (FiLM: Perez et al. 2018, arXiv 1709.07871), and predicts the difference of
the next frame to the last. So it cannot draw a change without the code, nor be content with a copy.

The vectors are centred and scaled over the batch before they are quantised (batch norm without weights), so
they lie on all sides of zero: else all steps may end on the same side, as one code.

The paper's model is an ST transformer (`st_lam.py`). On a small budget it collapsed in every run: all codes
drew the same picture.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, pixel_unshuffle, silu

from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.config import ConvLamConfig, TokenizerConfig

GROUPS = 8
SHRINK = 2
"""Pixels along a side that become channels of one position before the first convolution."""


class ConvLam(nn.Module):
    """Latent actions from pictures of any size, by convolutions at four scales."""

    def __init__(self, config: ConvLamConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.size = (tokenizer.height, tokenizer.width)
        pixels, width, past = 3 * SHRINK**2, config.width, config.past_frames
        self.encoder = nn.ModuleList(
            (
                ConvBlock((past + 2) * pixels, width),
                ConvBlock(width, 2 * width, stride=2),
                ConvBlock(2 * width, 4 * width, stride=2),
                ConvBlock(4 * width, 4 * width, stride=2),
            )
        )
        self.action_in = nn.Linear(4 * width, config.codebook_dim, bias=False)
        self.action_norm = nn.BatchNorm1d(config.codebook_dim, affine=False)
        self.codebook = nn.Parameter(_start(config))
        dim = config.codebook_dim
        self.down = nn.ModuleList(
            (
                ConvBlock(past * pixels, width, code=dim),
                ConvBlock(width, 2 * width, code=dim, stride=2),
                ConvBlock(2 * width, 4 * width, code=dim, stride=2),
            )
        )
        self.middle = ConvBlock(4 * width, 4 * width, code=dim)
        self.up = nn.ModuleList(
            (
                ConvBlock(4 * width + 2 * width, 2 * width, code=dim),
                ConvBlock(2 * width + width, width, code=dim),
            )
        )
        self.pixels_out = nn.Conv2d(width, pixels, 3, padding=1)

    def inputs_of(self, frames: Tensor, codes: Tensor | None = None) -> Tensor:
        """Frames `[B, T, Hpx, Wpx, 3]` uint8 to `[B, T, 3, Hpx, Wpx]` in [-1, 1]."""
        dtype = self.action_in.weight.dtype
        return frames.movedim(-1, 2).to(dtype) / 127.5 - 1

    def _past(self, inputs: Tensor) -> Tensor:
        """The `p` newest frames at each frame, oldest first; the first frame stands for those before it.

        `[B, T, 3, Hpx, Wpx]` to `[B, T, 3p, Hpx, Wpx]`.
        """
        late = self.config.past_frames - 1
        padded = torch.cat([inputs[:, :1].expand(-1, late, -1, -1, -1), inputs], 1)
        return torch.cat([padded[:, i : i + inputs.shape[1]] for i in range(late + 1)], 2)

    def action_vectors(self, inputs: Tensor) -> Tensor:
        """Vectors before quantisation, one a step: `[B, T, 3, Hpx, Wpx]` to `[B, T-1, d]`."""
        before, after = inputs[:, :-1], inputs[:, 1:]
        x = torch.cat([self._past(before), after, after - before], 2)
        x = _positions(x.flatten(0, 1))
        for block in self.encoder:
            x = block(x)
        return self.action_norm(self.action_in(x.mean((2, 3)))).unflatten(0, before.shape[:2])

    def actions(self, frames: Tensor, codes: Tensor | None = None) -> Tensor:
        """Latent actions `[B, T-1]` int64: entry `t` led from frame `t` to frame `t+1`."""
        return nearest_code(self.action_vectors(self.inputs_of(frames)), self.codebook)

    def predict(self, inputs: Tensor, action_vectors: Tensor) -> Tensor:
        """Next pictures from history and unit action vectors.

        Args:
            inputs: `[B, T-1, 3, Hpx, Wpx]`, of all frames but the last.
            action_vectors: `[B, T-1, d]`, the step out of each of them; zeros for an unknown action.

        Returns:
            `[B, T-1, Hpx, Wpx, 3]`, nominally in [-1, 1]: predictions of frames `1 ... T-1`.
        """
        code = action_vectors.flatten(0, 1)
        x = _positions(self._past(inputs).flatten(0, 1))
        skips = []
        for block in self.down:
            x = block(x, code)
            skips.append(x)
        x = self.middle(x, code)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([interpolate(x, skip.shape[2:], mode="nearest"), skip], 1), code)
        change = pixel_shuffle(self.pixels_out(x), SHRINK)[:, :, : self.size[0], : self.size[1]]
        return (inputs + change.unflatten(0, inputs.shape[:2])).movedim(2, -1)

    def decode_actions(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """`predict` from action indices `[B, T-1]` int64."""
        return self.predict(inputs, lookup_code(actions, self.codebook))


class ConvBlock(nn.Module):
    """Convolution, group norm, FiLM where there is a code, SiLU: `[n, Cin, h, w]` to `[n, Cout, h', w']`."""

    def __init__(self, channels_in: int, channels_out: int, *, code: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(math.gcd(GROUPS, channels_out), channels_out)
        self.film = nn.Linear(code, 2 * channels_out) if code else None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = self.norm(self.conv(x))
        if self.film is not None and code is not None:
            scale, shift = self.film(code)[:, :, None, None].chunk(2, 1)
            x = x * (1 + scale) + shift
        return silu(x)


def sign_codes(dim: int) -> Tensor:
    """The `2^dim` vectors of signs at unit length, `[2^dim, dim]`: bit `j` of `i` is the sign of `[i, j]`."""
    rows = itertools.product((-1.0, 1.0), repeat=dim)
    return torch.tensor([row[::-1] for row in rows]) * dim**-0.5


def _start(config: ConvLamConfig) -> Tensor:
    if config.bottleneck == "vq":
        return torch.randn(config.num_actions, config.codebook_dim)
    return sign_codes(config.codebook_dim)


def _positions(x: Tensor) -> Tensor:
    """`[n, C, h, w]` to `[n, 4C, h/2, w/2]`; a side that is odd is padded at its end."""
    height, width = x.shape[2:]
    return pixel_unshuffle(pad(x, (0, width % SHRINK, 0, height % SHRINK)), SHRINK)
