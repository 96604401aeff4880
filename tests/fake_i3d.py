"""A small TorchScript network that is called as I3D is for FVD."""

from pathlib import Path

import torch
from torch import Tensor, nn


class StandIn(nn.Module):
    """400 features: the mean of each channel in the first frame and the last, then zeros."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        if rescale or resize or not return_features:
            raise ValueError("preprocessed videos and raw features are asked for")
        if x.shape[1] != 3 or x.shape[3] != 224 or x.shape[4] != 224 or x.min() < -1 or x.max() > 1:
            raise ValueError("expected [B, 3, T, 224, 224] from -1 to 1")
        means = x.mean([3, 4])[:, :, [0, -1]].flatten(1)  # [B, 3 * 2]
        return nn.functional.pad(means, [0, 394])


def saved(module: nn.Module, folder: Path) -> Path:
    torch.jit.script(module).save(str(folder / "i3d.pt"))
    return folder / "i3d.pt"
