"""The numbers that the host draws are those of `kernels.philox`, bit for bit."""

import torch

from genie_rt.kernels.philox.reference import uniforms_of_passes
from genie_rt.runtime.backends.exported.noise import host_uniforms
from genie_rt.runtime.backends.row import signed


def test_uniforms_are_the_definitions_for_seeds_and_frames_of_any_size() -> None:
    keys = [(0, 0), ((1 << 64) - 1, 5), (1 << 63, (1 << 33) + 7), (0x0123456789ABCDEF, (1 << 62) - 1)]
    seeds = torch.tensor([signed(seed) for seed, _ in keys])
    frames = torch.tensor([frame for _, frame in keys])
    expected = uniforms_of_passes(seeds, frames, torch.arange(5), torch.arange(33))
    for ours, theirs in zip(host_uniforms(keys, 5, 33), expected, strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs)
    assert len({tuple(row.tolist()) for row in expected[0].flatten(0, 1)}) == 20
