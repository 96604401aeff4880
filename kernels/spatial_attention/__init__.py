"""`genie_rt::spatial_attention`: attention among the positions of one frame, all of them or some."""

from torch import Tensor

from genie_rt.kernels.registration import register
from genie_rt.kernels.spatial_attention.reference import spatial_attention_kept


@register(reference=spatial_attention_kept, launcher="spatial_attention.kernel", mutates=("kept",))
def spatial_attention(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    index: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """See `spatial_attention_kept`; on CUDA one kernel, and one more before it where there is an index."""
    frames, queries, _, heads, head_width = qkv.shape
    return qkv.new_empty(frames, queries, heads, head_width)
