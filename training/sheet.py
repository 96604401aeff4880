"""Sheets of pictures for TensorBoard: one row a clip."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.kernels.patchify.reference import to_uint8


def sheet(columns: list[Tensor]) -> NDArray[np.uint8]:
    """Columns of `[B, H, W, 3]` pictures in [-1, 1], side by side: `[B * H, num_columns * W, 3]`."""
    stacked = torch.stack([column.float() for column in columns], 2)  # [B, H, C, W, 3]
    return to_uint8(stacked).flatten(2, 3).flatten(0, 1).cpu().numpy()
