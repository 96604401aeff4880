"""`genie_rt::mlp_gelu`, `mlp_gelu_fp8` and `mlp_gelu_int8`: what stands between the two GEMMs of an MLP.

What follows the second one, "residual, next norm, quantise", is `genie_rt::norm_qkv` (or `norm_qkv_fp8`,
`norm_qkv_int8`) with that GEMM's output as its `delta`.
"""

import torch
from torch import Tensor

from genie_rt.kernels.mlp import reference
from genie_rt.kernels.registration import register


@register(reference=reference.mlp_gelu, launcher="mlp.kernel")
def mlp_gelu(h: Tensor) -> Tensor:
    """See `reference.mlp_gelu`; on CUDA one kernel, which is asynchronous and allocates its output."""
    return torch.empty_like(h)


@register(reference=reference.mlp_gelu_fp8, launcher="mlp.kernel")
def mlp_gelu_fp8(h: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.mlp_gelu_fp8`; on CUDA (from sm_89 on) one kernel, which allocates its outputs."""
    return torch.empty_like(h, dtype=torch.float8_e4m3fn), h.new_empty(h.shape[0], 1, dtype=torch.float32)


@register(reference=reference.mlp_gelu_int8, launcher="mlp.kernel")
def mlp_gelu_int8(h: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.mlp_gelu_int8`; on CUDA one kernel, which allocates its outputs."""
    return torch.empty_like(h, dtype=torch.int8), h.new_empty(h.shape[0], 1, dtype=torch.float32)
