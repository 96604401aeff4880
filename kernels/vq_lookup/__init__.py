"""`genie_rt::vq_lookup`: vectors to their nearest codes."""

import torch
from torch import Tensor

from genie_rt.kernels.registration import register
from genie_rt.kernels.vq_lookup import reference


@register(reference=reference.vq_lookup, launcher="vq_lookup.kernel")
def vq_lookup(x: Tensor, codebook: Tensor, cosine: bool) -> Tensor:
    """See `reference.vq_lookup`; on CUDA one kernel, or two where there are few rows and many codes."""
    return x.new_empty(x.shape[0], dtype=torch.int64)
