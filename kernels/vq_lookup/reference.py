"""Nearest code of a cosine codebook, and back (van den Oord et al. 2017, arXiv 1711.00937)."""

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """`argmax_v <x / |x|, c_v / |c_v|>`; the lowest index wins a tie.

    Args:
        x: `[..., d]`, any floating dtype; compared in at least fp32.
        codebook: `[V, d]`, rows of any length.

    Returns:
        `[...]` int64 in `0 ... V-1`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return (normalize(x.to(wide), dim=-1) @ normalize(codebook.to(wide), dim=-1).mT).argmax(-1)


def lookup_code(indices: Tensor, codebook: Tensor) -> Tensor:
    """The unit vectors of the codes: `[...]` int64 to `[..., d]` in the dtype of the codebook."""
    return embedding(indices, normalize(codebook, dim=-1))
