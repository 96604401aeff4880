"""`genie_rt::quantise_rows`, `quantise_rows_int8`, `dequantise_product`: what stands around a GEMM in 8 bits.

Where a norm or GELU comes before the GEMM, `norm_qkv_fp8` and `mlp_gelu_fp8` (or `_int8`) quantise in the
same pass. A GEMM in fp8 applies the scales by itself; one in int8 gives int32.
"""

import torch
from torch import Tensor

from genie_rt.kernels.quantise import reference
from genie_rt.kernels.registration import register


@register(reference=reference.quantise_rows, launcher="quantise.kernel")
def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.quantise_rows`; on CUDA (from sm_89 on) one kernel, which allocates its outputs."""
    return torch.empty_like(x, dtype=torch.float8_e4m3fn), x.new_empty(x.shape[0], 1, dtype=torch.float32)


@register(reference=reference.quantise_rows_int8, launcher="quantise.kernel")
def quantise_rows_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.quantise_rows_int8`; on CUDA one kernel, which allocates its outputs."""
    return torch.empty_like(x, dtype=torch.int8), x.new_empty(x.shape[0], 1, dtype=torch.float32)


@register(reference=reference.dequantise_product, launcher="quantise.kernel", mutates=("out",))
def dequantise_product(product: Tensor, row_scale: Tensor, column_scale: Tensor, out: Tensor) -> None:
    """See `reference.dequantise_product`; on CUDA one kernel, which allocates nothing."""
