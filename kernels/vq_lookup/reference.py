"""Nearest code of a codebook, and back (van den Oord et al. 2017, arXiv 1711.00937)."""

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize


def first_of_equal_rows(codebook: Tensor) -> Tensor:
    """`[V]` int64: the lowest index that has the same row, for every row of `codebook`, `[V, d]`."""
    _, group = codebook.unique(dim=0, return_inverse=True)
    index = torch.arange(len(codebook), device=codebook.device)
    return index.scatter_reduce(0, group, index, "amin", include_self=False)[group]


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """`argmax_v <x / |x|, c_v / |c_v|>`; of equal scores, and of equal rows, the lowest index.

    Args:
        x: `[..., d]`, any floating dtype; compared in at least fp32.
        codebook: `[V, d]`, rows of any length.

    Returns:
        `[...]` int64 in `0 ... V-1`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    scores = normalize(x.to(wide), dim=-1) @ normalize(codebook.to(wide), dim=-1).mT
    # a matrix product may round equal columns differently, by where they stand
    return first_of_equal_rows(codebook)[scores.argmax(-1)]


def lookup_code(indices: Tensor, codebook: Tensor) -> Tensor:
    """The unit vectors of the codes: `[...]` int64 to `[..., d]` in the dtype of the codebook."""
    return embedding(indices, normalize(codebook, dim=-1))


def nearest_code_euclidean(x: Tensor, codebook: Tensor) -> Tensor:
    """`argmin_v |x - c_v|^2`, which is `argmax_v <x, c_v> - |c_v|^2 / 2`; of equal scores, and of equal rows,
    the lowest index.

    Args:
        x: `[..., d]`, any floating dtype; compared in at least fp32.
        codebook: `[V, d]`.

    Returns:
        `[...]` int64 in `0 ... V-1`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    codes = codebook.to(wide)
    scores = x.to(wide) @ codes.mT - codes.square().sum(-1) / 2
    return first_of_equal_rows(codebook)[scores.argmax(-1)]


def vq_lookup(x: Tensor, codebook: Tensor, cosine: bool) -> Tensor:
    """`nearest_code` if `cosine`, else `nearest_code_euclidean`: `[M, d]` and `[V, d]` to `[M]` int64."""
    return nearest_code(x, codebook) if cosine else nearest_code_euclidean(x, codebook)
