"""Codes in training: `vector-quantize-pytorch`'s cosine codebook, or signs (FSQ and LFQ).

The library only learns. What it learned is written into the model, whose own lookup (`kernels/vq_lookup`) is
the definition; a test compares the two.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint
from genie_rt.kernels.vq_lookup.reference import nearest_code


class CosineQuantiser(nn.Module):
    """Unit vectors to their nearest codes, with gradients by the rotation trick (arXiv 2410.06424).

    Args:
        codebook: `[V, d]` parameter of the model that the codes are for; it is frozen here, because its
            rows follow moving averages and no gradient.
    """

    def __init__(self, codebook: nn.Parameter, *, decay: float = 0.9, commitment: float = 0.25) -> None:
        super().__init__()
        codebook.requires_grad_(False)
        size, dim = codebook.shape
        self.vq = _library().VectorQuantize(
            dim=dim,
            codebook_size=size,
            use_cosine_sim=True,
            decay=decay,
            commitment_weight=commitment,
            threshold_ema_dead_code=0.2,
            rotation_trick=True,
            kmeans_init=True,
        )

    # Dead codes are replaced by number: the flow of the library depends on data.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantises.

        Args:
            vectors: `[..., d]`.

        Returns:
            Unit code vectors `[..., d]` float32, indices `[...]` int64, and the weighted commitment loss.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            flat = vectors.float().reshape(1, -1, vectors.shape[-1])
            quantised, indices, loss = self.vq(flat)
        return quantised.view(vectors.shape), indices.view(vectors.shape[:-1]), loss.sum()

    def codebook(self) -> Tensor:
        """The learned codes, `[V, d]` float32 unit rows."""
        return normalize(self.vq._codebook.embed[0].detach().float(), dim=-1)


class SignQuantiser(nn.Module):
    """Vectors to their signs, scaled to unit length; the codes are fixed, so none can die.

    Args:
        codebook: `[2^d, d]` parameter that holds all vectors of signs; it is frozen here.
        kind: "fsq" passes the gradient of tanh (Mentzer et al. 2023, arXiv 2309.15505); "lfq" adds a loss
            that makes codes certain one by one and varied together (Yu et al. 2023, arXiv 2310.05737).
    """

    def __init__(self, codebook: nn.Parameter, kind: Literal["fsq", "lfq"] = "fsq") -> None:
        super().__init__()
        codebook.requires_grad_(False)
        size, dim = codebook.shape
        self.register_buffer("codes", codebook.detach().clone(), persistent=False)
        self.vq = (
            _library().FSQ(levels=[2] * dim, preserve_symmetry=True)
            if kind == "fsq"
            else _library().LFQ(dim=dim, codebook_size=size, entropy_loss_weight=0.1, diversity_gamma=1.0)
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantises.

        Args:
            vectors: `[..., d]`.

        Returns:
            Unit code vectors `[..., d]` float32, indices `[...]` int64, and the entropy loss (0 for "fsq").
        """
        with torch.autocast(vectors.device.type, enabled=False):
            flat = vectors.float().reshape(1, -1, vectors.shape[-1])
            found = self.vq(flat)
            quantised, loss = found[0], found[2] if len(found) > 2 else flat.new_zeros(())
            indices = nearest_code(vectors.float(), self.codebook())
        return normalize(quantised.view(vectors.shape), dim=-1), indices, loss

    def codebook(self) -> Tensor:
        """All codes, `[2^d, d]` float32 unit rows."""
        return self.get_buffer("codes")


def build_quantiser(codebook: nn.Parameter, bottleneck: str) -> "CosineQuantiser | SignQuantiser":
    """The quantiser of a bottleneck: "vq", "fsq" or "lfq"."""
    if bottleneck == "vq":
        return CosineQuantiser(codebook)
    return SignQuantiser(codebook, "lfq" if bottleneck == "lfq" else "fsq")


def _library() -> Any:
    try:
        import vector_quantize_pytorch
    except ImportError as error:
        raise UnsupportedError(f"training needs vector-quantize-pytorch: {install_hint('train')}") from error
    return vector_quantize_pytorch
