"""The uniforms of a frame, drawn on the host: `kernels.philox` in numpy, whose 64 bits hold a whole product.

Graphs take them as inputs. In torch, which has no unsigned 64 bits, they take as long as a tenth of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.kernels.philox.reference import LOW, MULTIPLIERS, ROUNDS, STREAM_SAMPLE, WEYL

Words = NDArray[np.uint64]

_MASK, _HALF = np.uint64(LOW), np.uint64(32)


def host_uniforms(keys: Sequence[tuple[int, int]], num_passes: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    """`uniforms_of_passes` for the passes and tokens from 0 on.

    Args:
        keys: each row's seed, its 64 bits unsigned, and the index of its new frame.

    Returns:
        `[R, K, N]` float32 on the CPU each, for the tokens and for their confidence noise.
    """
    shape = (len(keys), num_passes, num_tokens)
    seeds, frames = (np.array(column, np.uint64).reshape(-1, 1, 1) for column in zip(*keys, strict=True))
    c0 = np.broadcast_to(np.arange(num_tokens, dtype=np.uint64), shape)
    c1 = np.broadcast_to(np.arange(num_passes, dtype=np.uint64)[:, None], shape)
    c2 = np.broadcast_to(frames & _MASK, shape)
    c3 = np.full(shape, STREAM_SAMPLE, np.uint64)
    k0, k1 = seeds & _MASK, seeds >> _HALF
    for _ in range(ROUNDS):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1 = (second >> _HALF) ^ c1 ^ k0, second & _MASK
        c2, c3 = (first >> _HALF) ^ c3 ^ k1, first & _MASK
        k0, k1 = (k0 + np.uint64(WEYL[0])) & _MASK, (k1 + np.uint64(WEYL[1])) & _MASK
    return _uniform(c0), _uniform(c1)


def _uniform(words: Words) -> Tensor:
    """The upper 24 bits as a number in [0, 1)."""
    return torch.from_numpy((words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24))
