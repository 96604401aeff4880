"""`genie_rt::patchify` and `genie_rt::unpatchify`: uint8 pixels to patches, and back."""

import torch
from torch import Tensor

from genie_rt.kernels.patchify import reference
from genie_rt.kernels.registration import register


@register(reference=reference.patchify, launcher="patchify.kernel")
def patchify(frames: Tensor, patch: int, dtype: torch.dtype) -> Tensor:
    """See `reference.patchify`; on CUDA one kernel, which computes in fp32 and rounds once."""
    batch, time, height, width, _ = frames.shape
    num_patches = -(-height // patch) * -(-width // patch)
    return frames.new_empty(batch, time, num_patches, patch * patch * 3, dtype=dtype)


@register(reference=reference.unpatchify_to_uint8, launcher="patchify.kernel")
def unpatchify(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """See `reference.unpatchify_to_uint8`; on CUDA one kernel."""
    batch, time = patches.shape[:2]
    return patches.new_empty(batch, time, height, width, 3, dtype=torch.uint8)
