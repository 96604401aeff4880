"""`genie_rt::temporal_attention`: attention of each position to its own past, which lies in pages."""

from torch import Tensor

from genie_rt.kernels.registration import register
from genie_rt.kernels.temporal_attention.reference import paged_temporal_attention


@register(reference=paged_temporal_attention, launcher="temporal_attention.kernel", mutates=("pages",))
def temporal_attention(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    pages: Tensor,
    table: Tensor,
    layer: int,
    index: Tensor | None = None,
) -> Tensor:
    """See `paged_temporal_attention`; on CUDA one kernel, which is asynchronous and allocates its output."""
    batch, frames, queries, _, heads, head_width = qkv.shape
    return qkv.new_empty(batch, frames, queries, heads, head_width)
