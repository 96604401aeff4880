"""Philox4x32-10, the counter-based random numbers of a session (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3").

Key: the 64-bit session seed. Counter: (token, pass, frame, stream). A number is a pure function of these, so
it does not matter which device, batch or order computes it.
"""

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF

STREAM_SAMPLE = 0
"""Stream of the tokens' uniforms (first word) and of the confidence noise (second word)."""

STREAM_ORDER = 1
"""Stream of the order in which a "random" plan decides the tokens of a frame."""


def _multiply(constant: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 x 32 bit product, without leaving int64's positive range."""
    low = constant * (x & 0xFFFF)
    high = constant * (x >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int | Tensor) -> tuple[Tensor, ...]:
    """Four 32-bit words for every counter.

    Args:
        counter: four int64 tensors that broadcast together, each in `0 ... 2**32 - 1`.
        seed: the key, 64 bits: its low word is the first key word. A tensor holds the bits as int64.

    Returns:
        Four int64 tensors of the broadcast shape, each in `0 ... 2**32 - 1`.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = seed & LOW, (seed >> 32) & LOW
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIERS[0], c0)
        high1, low1 = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def uniforms(
    seeds: Tensor, frames: Tensor, pass_index: int, num_tokens: int, stream: int = STREAM_SAMPLE
) -> tuple[Tensor, Tensor]:
    """The two uniforms of every token in one pass: `u = (word >> 8) * 2**-24`.

    Args:
        seeds: `[B]` int64, the bits of each session's 64-bit seed.
        frames: `[B]` int64, each session's frame index (its low 32 bits count).

    Returns:
        `u` for the token and `u` for its confidence noise, each `[B, N]` float32 in [0, 1).
    """
    token = torch.arange(num_tokens, device=seeds.device)
    u, noise_u = uniforms_of_passes(seeds, frames, token[:1] + pass_index, token, stream)
    return u[:, 0], noise_u[:, 0]


def uniforms_of_passes(
    seeds: Tensor, frames: Tensor, passes: Tensor, tokens: Tensor, stream: int = STREAM_SAMPLE
) -> tuple[Tensor, Tensor]:
    """`uniforms` of several passes at once: passes `[K]` and tokens `[N]` int64 to `[B, K, N]` each."""
    token, pass_index = tokens[None, None], passes[None, :, None]
    frame = (frames & LOW)[:, None, None]
    words = philox((token, pass_index, frame, token * 0 + stream), seeds[:, None, None])
    return (words[0] >> 8).float() * 2.0**-24, (words[1] >> 8).float() * 2.0**-24
