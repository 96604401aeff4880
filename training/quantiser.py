"""Learned codebooks: `vector-quantize-pytorch`'s cosine codebook with moving averages.

The library only learns the codebook. What it learned is written into the model, whose own lookup
(`kernels/vq_lookup`) is the definition; a test compares the two.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint


class CosineQuantiser(nn.Module):
    """Unit vectors to their nearest codes, with gradients by the rotation trick (arXiv 2410.06424).

    Args:
        codebook: `[V, d]` parameter of the model that the codes are for; it is frozen here, because its
            rows follow moving averages and no gradient.
    """

    def __init__(self, codebook: nn.Parameter, *, decay: float = 0.9, commitment: float = 0.25) -> None:
        super().__init__()
        try:
            from vector_quantize_pytorch import VectorQuantize
        except ImportError as error:
            raise UnsupportedError(
                f"training needs vector-quantize-pytorch: {install_hint('train')}"
            ) from error
        codebook.requires_grad_(False)
        size, dim = codebook.shape
        self.vq = VectorQuantize(
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
