"""Pixels come back from patches where they were, also where the patch does not divide the picture."""

import numpy as np
import pytest
import torch
from makers import make_tensor
from torch import Tensor

from genie_rt.kernels.patchify.reference import patchify, to_uint8, unpatchify


def make_frames(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))


def test_a_patch_holds_its_pixels_row_by_row() -> None:
    frames = make_frames(2, 3, 4, 6)
    patches = patchify(frames, 2, torch.float64)
    assert patches.shape == (2, 3, 6, 12)
    for row in range(2):
        for column in range(3):
            for y in range(2):
                for x in range(2):
                    for channel in range(3):
                        pixel = frames[:, :, 2 * row + y, 2 * column + x, channel].double() / 127.5 - 1
                        found = patches[:, :, 3 * row + column, (2 * y + x) * 3 + channel]
                        assert torch.equal(found, pixel)


@pytest.mark.parametrize(
    ("height", "width", "patch"), [(90, 160, 4), (64, 64, 4), (5, 7, 3), (1, 1, 4), (6, 6, 1)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_round_trip_gives_the_same_bytes(height: int, width: int, patch: int, dtype: torch.dtype) -> None:
    frames = make_frames(2, 2, height, width)
    patches = patchify(frames, patch, dtype)
    assert patches.shape[2] == -(-height // patch) * -(-width // patch)
    assert torch.equal(to_uint8(unpatchify(patches, patch, height, width)), frames)


def test_what_the_patch_does_not_divide_is_padded_with_the_last_row_and_column() -> None:
    frames = make_frames(1, 1, 90, 159)
    patches = patchify(frames, 4, torch.float64)  # 23 x 40
    whole = unpatchify(patches, 4, 92, 160)
    assert torch.equal(whole[:, :, 90:], whole[:, :, 89:90].expand(-1, -1, 2, -1, -1))
    assert torch.equal(whole[:, :, :, 159], whole[:, :, :, 158])


def test_strided_inputs_are_read_right() -> None:
    frames = make_frames(2, 3, 8, 8)
    turned = frames.permute(1, 0, 3, 2, 4)
    assert torch.equal(
        patchify(turned, 4, torch.float32), patchify(turned.contiguous(), 4, torch.float32)
    )  # fmt: skip
    patches = make_tensor(3, 2, 48, 4).transpose(2, 3)
    assert torch.equal(unpatchify(patches, 4, 8, 8), unpatchify(patches.contiguous(), 4, 8, 8))


def test_every_byte_survives_and_the_range_is_clamped() -> None:
    byte = torch.arange(256)
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(to_uint8((byte / 127.5 - 1).to(dtype)), byte.to(torch.uint8))
    assert to_uint8(torch.tensor([-1e9, -1.001, 1.001, 1e9])).tolist() == [0, 0, 255, 255]


def test_pixels_are_rounded_to_nearest_not_cut() -> None:
    value = (torch.tensor([10.0, 10.4, 10.6, 11.0]).double()) / 127.5 - 1
    assert to_uint8(value).tolist() == [10, 10, 11, 11]
