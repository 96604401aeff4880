"""`genie_rt::norm_qkv`, `norm_qkv_fp8`, `norm_qkv_int8`: what stands between two GEMMs of a block.

A block's `x += projection; y = norm(x)`, and with 8 bits the quantisation of `y` for the GEMM that reads it,
in one pass.
"""

import torch
from torch import Tensor

from genie_rt.kernels.norm_qkv import reference
from genie_rt.kernels.registration import register


@register(reference=reference.norm_qkv, launcher="norm_qkv.kernel", mutates=("x",))
def norm_qkv(x: Tensor, delta: Tensor | None, weight: Tensor) -> Tensor:
    """See `reference.norm_qkv`; on CUDA one kernel, which is asynchronous and allocates its output."""
    return torch.empty_like(x)


@register(reference=reference.norm_qkv_fp8, launcher="norm_qkv.kernel", mutates=("x",))
def norm_qkv_fp8(x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.norm_qkv_fp8`; on CUDA (from sm_89 on) one kernel, which allocates its outputs."""
    return torch.empty_like(x, dtype=torch.float8_e4m3fn), x.new_empty(x.shape[0], 1, dtype=torch.float32)


@register(reference=reference.norm_qkv_int8, launcher="norm_qkv.kernel", mutates=("x",))
def norm_qkv_int8(x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.norm_qkv_int8`; on CUDA one kernel, which allocates its outputs."""
    return torch.empty_like(x, dtype=torch.int8), x.new_empty(x.shape[0], 1, dtype=torch.float32)
