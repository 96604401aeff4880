"""The random numbers are Philox4x32-10's, and a number depends on its own counter alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from genie_rt.kernels.philox.reference import (
    STREAM_ORDER,
    STREAM_SAMPLE,
    philox,
    uniforms,
    uniforms_of_passes,
)

KNOWN = {  # Random123, tests/kat_vectors, "philox4x32 10": counter, key, words
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def signed(seed: int) -> int:
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def numpy_philox(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The paper's round ten times, on `[M, 4]` counters and `[M, 2]` keys."""
    c, k = counter.astype(np.uint64), key.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[:, 0] * np.uint64(0xD2511F53), c[:, 2] * np.uint64(0xCD9E8D57)
        high_a, high_b = a >> np.uint64(32), b >> np.uint64(32)
        c = np.stack([high_b ^ c[:, 1] ^ k[:, 0], b & low, high_a ^ c[:, 3] ^ k[:, 1], a & low], 1)
        k = k + np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64) & low
    return c.astype(np.uint32)


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name: str) -> None:
    counter, key, words = KNOWN[name]
    seed = key[0] | key[1] << 32
    given = tuple(torch.tensor([word]) for word in counter)
    assert tuple(int(word) for word in philox(given, seed)) == words
    assert tuple(int(word) for word in philox(given, torch.tensor([signed(seed)]))) == words


@pytest.mark.parametrize("name", KNOWN)
def test_the_second_implementation_gives_the_known_answers_too(name: str) -> None:
    counter, key, words = KNOWN[name]
    found = numpy_philox(np.array([counter], dtype=np.uint32), np.array([key], dtype=np.uint32))
    assert tuple(found[0].tolist()) == words


def test_a_second_implementation_agrees() -> None:
    random = np.random.default_rng(0)
    counter = random.integers(0, 2**32, (500, 4), dtype=np.uint32)
    key = random.integers(0, 2**32, (500, 2), dtype=np.uint32)
    expected = numpy_philox(counter, key)
    seeds = torch.tensor([signed(int(low) | int(high) << 32) for low, high in key])
    found = philox(tuple(torch.from_numpy(counter[:, i].astype(np.int64)) for i in range(4)), seeds)
    np.testing.assert_array_equal(torch.stack(found, 1).numpy(), expected)


def test_uniforms_are_words_of_their_counter() -> None:
    seed, frame, pass_index = 0x0123456789ABCDEF, 77, 3
    u, noise_u = uniforms(torch.tensor([seed]), torch.tensor([frame]), pass_index, 50)
    counter = np.zeros((50, 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2], counter[:, 3] = range(50), pass_index, frame, STREAM_SAMPLE
    words = numpy_philox(counter, np.tile(np.uint32([seed & 0xFFFFFFFF, seed >> 32]), (50, 1)))
    assert u.dtype == noise_u.dtype == torch.float32
    np.testing.assert_array_equal(u[0].numpy(), (words[:, 0] >> 8) * 2.0**-24)
    np.testing.assert_array_equal(noise_u[0].numpy(), (words[:, 1] >> 8) * 2.0**-24)


def test_uniforms_of_several_passes_are_those_of_each() -> None:
    seeds, frames = torch.tensor([5, -7]), torch.tensor([3, 2**32 - 1])
    passes, tokens = torch.tensor([4, 0, 9]), torch.tensor([8, 1, 30, 2])
    for stream in (STREAM_SAMPLE, STREAM_ORDER):
        together = uniforms_of_passes(seeds, frames, passes, tokens, stream)
        for index, pass_index in enumerate(passes.tolist()):
            alone = uniforms(seeds, frames, pass_index, 31, stream)
            for whole, part in zip(together, alone, strict=True):
                assert whole.shape == (2, 3, 4)
                assert torch.equal(whole[:, index], part[:, tokens])


def test_uniforms_lie_in_the_unit_interval_evenly() -> None:
    for u in uniforms(torch.arange(40), torch.arange(40), 0, 2500):
        assert u.min() >= 0 and u.max() < 1
        count = torch.histc(u, 100, 0, 1)
        assert ((count - 1000).square() / 1000).sum() < 150  # chi-square, 99 degrees: 150 has p = 7e-4
        assert abs(float(u.double().mean()) - 0.5) < 0.004  # 4 standard errors of 100,000 numbers


def test_the_largest_word_stays_below_one() -> None:
    assert float((torch.tensor(0xFFFFFFFF) >> 8).float() * 2.0**-24) < 1


def test_a_number_does_not_depend_on_its_batch_or_order() -> None:
    seeds, frames = torch.tensor([5, -7, 1 << 40]), torch.tensor([0, 3, 2**32 - 1])
    together = uniforms(seeds, frames, 4, 33)
    for row in (2, 0, 1):
        alone = uniforms(seeds[row : row + 1], frames[row : row + 1], 4, 20)
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[row : row + 1, :20], part)


def test_every_part_of_the_counter_and_the_seed_matters() -> None:
    def draw(seed: int = 1, frame: int = 2, pass_index: int = 3, stream: int = 0) -> tuple[float, ...]:
        u, noise_u = uniforms(torch.tensor([signed(seed)]), torch.tensor([frame]), pass_index, 2, stream)
        return (*u[0].tolist(), *noise_u[0].tolist())

    draws = [
        draw(),
        draw(seed=2),
        draw(seed=1 + (1 << 63)),
        draw(frame=3),
        draw(pass_index=4),
        draw(stream=1),
    ]
    numbers = [number for draw in draws for number in draw]
    assert len(set(numbers)) == 24


def test_frames_beyond_32_bits_wrap() -> None:
    now, later = (uniforms(torch.tensor([1]), torch.tensor([frame]), 0, 4) for frame in (5, 5 + 2**32))
    assert torch.equal(now[0], later[0])
