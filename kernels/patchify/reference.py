"""Pixels to patches and back."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def patchify(frames: Tensor, patch: int, dtype: torch.dtype) -> Tensor:
    """uint8 pixels to rows of patch values in [-1, 1].

    A side that `patch` does not divide is padded at its end with its last row or column.

    Args:
        frames: `[B, T, Hpx, Wpx, 3]` uint8.

    Returns:
        `[B, T, N, patch * patch * 3]` in `dtype`, contiguous; `N` counts row by row.
    """
    batch, time, height, width, _ = frames.shape
    x = frames.flatten(0, 1).permute(0, 3, 1, 2).to(dtype) / 127.5 - 1  # [B*T, 3, Hpx, Wpx]
    if height % patch or width % patch:
        x = pad(x, (0, -width % patch, 0, -height % patch), mode="replicate")
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    x = x.view(batch, time, 3, rows, patch, columns, patch)
    return x.permute(0, 1, 3, 5, 4, 6, 2).reshape(batch, time, rows * columns, patch * patch * 3).contiguous()


def unpatchify(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Patch values back to pictures, cropped to `height x width`.

    Args:
        patches: `[B, T, N, patch * patch * 3]`, nominally in [-1, 1].

    Returns:
        `[B, T, height, width, 3]` in the dtype of `patches`, nominally in [-1, 1].
    """
    batch, time = patches.shape[:2]
    rows, columns = -(-height // patch), -(-width // patch)
    x = patches.view(batch, time, rows, columns, patch, patch, 3).permute(0, 1, 2, 4, 3, 5, 6)
    x = x.reshape(batch, time, rows * patch, columns * patch, 3)
    return x[:, :, :height, :width]


def to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] to uint8 by clamping and rounding to nearest."""
    return ((frames.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def unpatchify_to_uint8(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """`unpatchify`, then `to_uint8`: `[B, T, N, patch * patch * 3]` to `[B, T, height, width, 3]` uint8."""
    return to_uint8(unpatchify(patches, patch, height, width)).contiguous()
