"""`genie_rt::embed_tokens`: the input of a transformer over tokens, in one pass.

What a linear map makes of a token's vector is one of few rows, so the maps are folded into tables once, and a
position's input is a sum of rows: no vectors in memory, no GEMM.
"""

from torch import Tensor

from genie_rt.kernels.embed_tokens import reference
from genie_rt.kernels.registration import register


@register(reference=reference.embed_tokens, launcher="embed_tokens.kernel")
def embed_tokens(
    tokens: Tensor,
    previous: Tensor | None,
    actions: Tensor | None,
    token_rows: Tensor,
    previous_rows: Tensor | None,
    position: Tensor,
    action_rows: Tensor | None,
    members: Tensor,
) -> Tensor:
    """See `reference.embed_tokens`; on CUDA one kernel, which is asynchronous and allocates its output."""
    return token_rows.new_empty(tokens.shape[0], *position.shape)
