"""The device functions draw the same Philox numbers as the reference, for every seed and counter."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.kernels.philox.kernel import uniform_pair, words
from genie_rt.kernels.philox.reference import STREAM_ORDER, STREAM_SAMPLE, philox, uniforms

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KNOWN = {  # Random123, tests/kat_vectors, "philox4x32 10": counter, key, words
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@triton.jit
def words_kernel(seeds, counters, out, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = i < count
    c0 = tl.load(counters + i, mask=mask, other=0)
    c1 = tl.load(counters + count + i, mask=mask, other=0)
    c2 = tl.load(counters + 2 * count + i, mask=mask, other=0)
    c3 = tl.load(counters + 3 * count + i, mask=mask, other=0)
    x0, x1, x2, x3 = words(tl.load(seeds + i, mask=mask, other=0), c0, c1, c2, c3)
    tl.store(out + i, x0.to(tl.int64), mask=mask)
    tl.store(out + count + i, x1.to(tl.int64), mask=mask)
    tl.store(out + 2 * count + i, x2.to(tl.int64), mask=mask)
    tl.store(out + 3 * count + i, x3.to(tl.int64), mask=mask)


@triton.jit
def uniforms_kernel(seeds, frames, out, pass_index, count, STREAM: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    token = tl.arange(0, BLOCK)
    u, noise_u = uniform_pair(tl.load(seeds + row), token, pass_index, tl.load(frames + row), STREAM)
    tl.store(out + row * 2 * count + token, u, mask=token < count)
    tl.store(out + (row * 2 + 1) * count + token, noise_u, mask=token < count)


def signed(seed: int) -> int:
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def run_words(seeds: Tensor, counters: Tensor) -> Tensor:
    """Four words, `[4, M]`, of counters `[4, M]` under seeds `[M]`, all int64."""
    out = torch.full_like(counters, -1, device=DEVICE)
    count = seeds.numel()
    words_kernel[(1,)](seeds.to(DEVICE), counters.to(DEVICE), out, count, BLOCK=triton.next_power_of_2(count))
    return out.cpu()


def test_known_answers() -> None:
    seeds = torch.tensor([signed(key[0] | key[1] << 32) for _, key, _ in KNOWN.values()])
    found = run_words(seeds, torch.tensor([counter for counter, _, _ in KNOWN.values()]).T.contiguous())
    for index, (_, _, expected) in enumerate(KNOWN.values()):
        assert tuple(found[:, index].tolist()) == expected


def test_words_are_those_of_the_reference_for_any_seed_and_counter() -> None:
    """Seeds of every width and sign, and counters up to the last."""
    random = np.random.default_rng(0)
    seeds = random.integers(-(2**63), 2**63 - 1, 300)
    seeds[:6] = [0, -1, 2**32 - 1, 2**32, -(2**63), 2**63 - 1]
    counters = random.integers(0, 2**32, (4, 300))
    counters[:, 6:8] = [[0, 2**32 - 1]] * 4
    given, keys = torch.from_numpy(counters), torch.from_numpy(seeds)
    expected = torch.stack(philox((given[0], given[1], given[2], given[3]), keys))
    assert torch.equal(run_words(keys, given), expected)


@pytest.mark.parametrize("stream", [STREAM_SAMPLE, STREAM_ORDER])
def test_uniforms_are_those_of_the_reference(stream: int) -> None:
    seeds, frames = torch.tensor([5, -7, 1 << 40]), torch.tensor([3, 2**32 - 1, 2**32 + 5])
    out = torch.full((3, 2, 75), -1.0, device=DEVICE)
    uniforms_kernel[(3,)](seeds.to(DEVICE), frames.to(DEVICE), out, 4, 75, STREAM=stream, BLOCK=128)
    expected = torch.stack(uniforms(seeds, frames, 4, 75, stream), 1)
    assert torch.equal(out.cpu(), expected)
