"""Linears in 8 bits as nodes: numbers are quantised and dequantised, and engines fuse what stands between."""

from __future__ import annotations

import numpy as np

from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.kernels.quantise.reference import INT8_MAX, SMALLEST_AMAX


def quantised_linear(g: Builder, x: Name, name: str, amax: float) -> Name:
    """`x W^T` with both in 8 bits, `[M, Din]` to `[M, Dout]`; larger activations than `amax` count as that.

    Activations have one scale, weights one per output channel, from the weights themselves. Both are
    symmetric, which every engine has kernels for.
    """
    with g.scope(name.split(".")[-1]):
        scale, zero = g.constant(np.float32(amax / INT8_MAX)), g.constant(np.int8(0))
        x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, scale, zero), scale, zero)
        weight = g.once(("quantised", name), lambda: _weight(g, f"{name}.weight"), name)
        return g.node("Gemm", x, weight, transB=1, name="gemm")


def _weight(g: Builder, name: str) -> Name:
    """A weight as its 8 bits hold it. The bundle keeps no second copy: engines round it when they load it."""
    maxima = np.maximum(g.weights.row_maxima(name), np.float32(SMALLEST_AMAX))
    scales = g.constant(maxima / np.float32(INT8_MAX))
    zeros = g.constant(np.zeros(len(maxima), np.int8))
    rounded = g.node("QuantizeLinear", g.weight(name), scales, zeros, axis=0)
    return g.node("DequantizeLinear", rounded, scales, zeros, axis=0)
