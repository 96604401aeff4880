"""Both attentions of an ST block: `x += SA(norm x); x += TA(norm x)`, and the norm that its MLP reads."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear

from genie_rt.errors import InputError
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.spatial_attention.reference import spatial_attention_kept
from genie_rt.kernels.temporal_attention.reference import paged_temporal_attention


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWeights:
    """Attention and the norm before it.

    Attributes:
        norm: `[D]`.
        qkv: `[3 * H * Dh, D]`. out: `[D, H * Dh]`.
        q_norm, k_norm: `[Dh]`.
        age_bias: `[H, W]` of temporal attention; None of spatial attention.
    """

    norm: Tensor
    qkv: Tensor
    out: Tensor
    q_norm: Tensor
    k_norm: Tensor
    age_bias: Tensor | None = None

    @property
    def heads(self) -> tuple[int, int]:
        """`H` and `Dh`."""
        head_width = len(self.q_norm)
        return self.qkv.shape[0] // (3 * head_width), head_width

    @property
    def bias(self) -> Tensor:
        """The biases of age. Raises `InputError` where there are none."""
        if self.age_bias is None:
            raise InputError(
                "temporal: expected weights with age_bias, found None; are these the spatial ones?"
            )
        return self.age_bias


def st_attention(
    x: Tensor,
    spatial: AttentionWeights,
    temporal: AttentionWeights,
    mlp_norm: Tensor,
    pages: Tensor,
    table: Tensor,
    layer: int,
    *,
    index: Tensor | None = None,
    kept: Tensor | None = None,
    delta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute `genie_rt.kernels.st_attention.st_attention` without changing `x`.

    Written to: `pages`, and `kept` where given.
    """
    batch, frames, positions, _ = x.shape
    if delta is not None:
        x = x + delta
    y = linear(rms_norm(x, spatial.norm), spatial.qkv)
    qkv = y.view(batch * frames, positions, 3, *spatial.heads)
    out = spatial_attention_kept(qkv, spatial.q_norm, spatial.k_norm, index, kept)
    x = x + linear(out.view(batch, frames, positions, -1), spatial.out)

    y = linear(rms_norm(x, temporal.norm), temporal.qkv)
    qkv = y.view(batch, frames, positions, 3, *temporal.heads)
    out = paged_temporal_attention(
        qkv, temporal.q_norm, temporal.k_norm, temporal.bias, pages, table, layer, index
    )
    x = x + linear(out.flatten(-2), temporal.out)
    return x, rms_norm(x, mlp_norm)
