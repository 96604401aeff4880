"""How a projection `y = x W^T` is stored and applied: in the numbers of the activations, in fp8 or in int8.

With 8 bits each row of `W` has a scale, and so has each row of `x`:

    y[m, n] = (sum_k q_x[m, k] q_W[n, k]) s_x[m] s_W[n]

The sum is a library's: `torch._scaled_mm` for fp8, which applies the scales too, `torch._int_mm` for int8,
which gives int32 for `dequantise_product` to scale. A CPU takes the formula. Nothing here synchronises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.kernels.arguments import FLOATS, check_tensor
from genie_rt.kernels.quantise import dequantise_product, quantise_rows, quantise_rows_int8
from genie_rt.runtime.backends.cuda.precision import Precision

Kind = Literal["dense", "fp8", "int8"]

UNIT = 16
"""Sizes of a quantised weight are multiples of it: `torch._scaled_mm` takes no others."""

FAST_ACCUMULATION = True
"""Hopper's tensor cores keep partial sums of fp8 in fewer bits than fp32 has; where this is off they are
added up in fp32 now and then, which takes time. Nobody has measured yet what either costs here."""

INT8_ROWS = 32
"""The fewest rows of a product in int8: `torch._int_mm` refuses 16 and fewer."""

INT8_UNIT = 8
"""Rows are filled up to a multiple: with odd numbers of them cuBLAS has failed or been wrong (pytorch#107671,
pytorch#169956)."""


class Linear(ABC):
    """One projection without a bias. Made by `pack_linear`; a call changes nothing in it.

    Attributes:
        kind: "dense", "fp8" or "int8": what it is, which may be less than the precision asked for.
        weight: `[out_features, in_features]`, contiguous.
        activations: dtype of what it gives.
    """

    kind: Kind

    def __init__(self, weight: Tensor, activations: torch.dtype) -> None:
        self.weight = weight
        self.activations = activations

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of device memory that the weight takes, scales included."""
        return self.weight.nbytes

    @abstractmethod
    def __call__(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """`x W^T`, on the current stream.

        Args:
            x: `[M, in_features]` on the weight's device, contiguous; dense, in the dtype of the activations,
                and else in fp32, fp16 or bf16: it is quantised first.
            out: `[M, out_features]` in the dtype of the activations, contiguous, memory of its own; allocated
                where not given.

        Returns:
            `out`.

        Raises:
            InputError, UnsupportedError: an argument is not as above.
        """

    def apply_quantised(self, q: Tensor, scale: Tensor, *, out: Tensor | None = None) -> Tensor:
        """The same of rows that are quantised already, as `norm_qkv_fp8` gives them. Not dense.

        Args:
            q: `[M, in_features]` in the dtype of the weight, contiguous.
            scale: `[M, 1]` fp32, contiguous.
            out: as a call takes it.

        Returns:
            `out`.

        Raises:
            InputError, UnsupportedError: an argument is not as above, or the projection is dense.
        """
        raise UnsupportedError(
            f"a dense projection takes activations in {_short(self.activations)}, found rows in "
            f"{_short(q.dtype)} with scales; look at `kind` and call it with what is not quantised"
        )

    def _check_out(self, x: Tensor, out: Tensor | None) -> None:
        if out is not None:
            check_tensor("out", out, (len(x), self.out_features), (self.activations,), like=x)

    def __repr__(self) -> str:
        return f"Linear({self.kind}, {self.in_features} -> {self.out_features}, {self.weight.device})"


class _Dense(Linear):
    kind: Kind = "dense"

    def __call__(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        check_tensor("x", x, (None, self.in_features), (self.activations,), like=self.weight)
        self._check_out(x, out)
        return torch.mm(x, self.weight.t(), out=out)


class _Quantised(Linear):
    """Attributes: scale: `[1, out_features]` fp32, of the rows of the weight."""

    def __init__(self, weight: Tensor, scale: Tensor, activations: torch.dtype) -> None:
        super().__init__(weight, activations)
        self.scale = scale.view(1, -1)

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + self.scale.nbytes

    def __call__(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        check_tensor("x", x, (None, self.in_features), FLOATS, like=self.weight)
        self._check_out(x, out)
        if not len(x):
            return self._empty(x) if out is None else out
        return self.apply_quantised(*self.quantise(x), out=out)

    def apply_quantised(self, q: Tensor, scale: Tensor, *, out: Tensor | None = None) -> Tensor:
        check_tensor("q", q, (None, self.in_features), (self.weight.dtype,), like=self.weight)
        check_tensor("scale", scale, (len(q), 1), (torch.float32,), like=q)
        self._check_out(q, out)
        if not len(q):
            return self._empty(q) if out is None else out
        return self._apply(q, scale, out)

    def _empty(self, x: Tensor) -> Tensor:
        return x.new_empty(len(x), self.out_features, dtype=self.activations)

    @staticmethod
    @abstractmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as `apply_quantised` takes them."""

    @abstractmethod
    def _apply(self, q: Tensor, scale: Tensor, out: Tensor | None) -> Tensor: ...


class _Fp8(_Quantised):
    """Weights in e4m3. `torch._scaled_mm` takes scales of rows from sm_89 on.

    On Hopper cuBLASLt applies them where torch was built for CUDA 12.9 or later; else, and on sm_89 and
    Blackwell, it is a CUTLASS kernel that torch brings along on Linux.
    """

    kind: Kind = "fp8"

    @staticmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        return quantise_rows(x)

    def _apply(self, q: Tensor, scale: Tensor, out: Tensor | None) -> Tensor:
        if q.is_cuda:
            return torch._scaled_mm(
                q, self.weight.t(), scale, self.scale,
                out_dtype=self.activations, use_fast_accum=FAST_ACCUMULATION, out=out,
            )  # fmt: skip
        y = (q.float() @ self.weight.float().t()) * scale * self.scale
        return y.to(self.activations) if out is None else out.copy_(y)


class _Int8(_Quantised):
    """Weights in int8. Two launches, and one more where rows are filled up."""

    kind: Kind = "int8"

    @staticmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        return quantise_rows_int8(x)

    def _apply(self, q: Tensor, scale: Tensor, out: Tensor | None) -> Tensor:
        if out is None:
            out = self._empty(q)
        dequantise_product(self._product(q), scale, self.scale, out)
        return out

    def _product(self, q: Tensor) -> Tensor:
        """`[M, out_features]` int32, exact."""
        if not q.is_cuda:
            return q.int() @ self.weight.int().t()
        return torch._int_mm(filled_rows(q), self.weight.t()).narrow(0, 0, len(q))


def filled_rows(q: Tensor) -> Tensor:
    """`q` `[M, K]` with as many rows as `torch._int_mm` is asked for; nobody looks at what others hold."""
    num_rows = max(INT8_ROWS, -(-len(q) // INT8_UNIT) * INT8_UNIT)
    if num_rows == len(q):
        return q
    return torch.cat([q, q.new_empty(num_rows - len(q), q.shape[1])])


def pack_linear(weight: Tensor, precision: Precision) -> Linear:
    """Stores a projection as a precision has it.

    A weight whose sizes are not multiples of 16 is not quantised: it stays dense, in the dtype of the
    activations, and `kind` says so.

    Args:
        weight: `[out_features, in_features]` fp64, fp32, fp16 or bf16, on the device where it will be
            applied; to be quantised on CUDA, of at most 16384 columns. A dense projection shares its memory
            where nothing has to change.

    Raises:
        InputError, UnsupportedError: it is no such matrix.
    """
    weight = weight.detach()
    check_tensor("weight", weight, (None, None), (torch.float64, *FLOATS), contiguous=False)
    if not weight.numel():
        raise InputError(f"weight: expected a size of 1 or more, found {list(weight.shape)}")
    if not precision.quantised or any(size % UNIT for size in weight.shape):
        return _Dense(weight.to(precision.activations).contiguous(), precision.activations)
    if weight.dtype == torch.float64:  # for which there is no kernel
        weight = weight.float()
    kind = _Fp8 if precision.weights == torch.float8_e4m3fn else _Int8
    return kind(*kind.quantise(weight.contiguous()), precision.activations)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
