"""Sampling as nodes: what `kernels/maskgit_sample/reference.py` computes.

Its cumulative sum goes by two levels: over blocks of codes, then within the block that holds a token's code.
"""

from __future__ import annotations

import math

import numpy as np

from genie_rt.export.onnx.builder import Builder, Name

BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


def sample(g: Builder, logits: Name, u: Name, codes: int, count: int | None) -> tuple[Name, Name]:
    """A code for every token by inverse CDF, and its probability.

        p = softmax(logits)
        token = min { v : p_0 + ... + p_v > u }

    Args:
        logits: `[n, V]` float32, over the temperature.
        u: `[n]` float32 in [0, 1).
        count: `n`; None if it is not fixed.

    Returns:
        `[n]` int64 and `[n]` float32.
    """
    block = 2 ** round(math.log2(codes) / 2)
    blocks = -(-codes // block)
    with g.scope("sample"):
        p = g.node("Softmax", logits, axis=-1, name="p")
        if blocks * block != codes:
            p = g.node("Pad", p, g.ints(0, 0, 0, blocks * block - codes), name="padded")
        by_block = g.reshape(p, -1, block)
        sums = g.reshape(g.node("ReduceSum", by_block, g.ints(-1), keepdims=0), -1, blocks)
        upto = g.node("MatMul", sums, _triangle(g, blocks))  # [n, blocks]
        total = g.node("Slice", upto, g.ints(blocks - 1), g.ints(blocks), g.ints(1))
        # u is compared scaled by the last sum, which it stays below, so that rounding cannot push it beyond
        target = g.node("Mul", g.node("Unsqueeze", u, g.ints(1)), total)
        which = _number_below(g, upto, target)  # [n, 1]
        before = g.node("GatherElements", g.node("Sub", upto, sums), which, axis=1)
        target = g.node("Sub", target, before)

        first = _rows(g, u, count, blocks)
        row = g.node("Add", g.node("Squeeze", which, g.ints(1)), first)
        within = g.node("Gather", by_block, row)  # [n, block]
        upto = g.node("MatMul", within, _triangle(g, block))
        total = g.node("Slice", upto, g.ints(block - 1), g.ints(block), g.ints(1))
        target = g.node("Min", target, g.node("Mul", total, g.number(BELOW_ONE)))
        place = g.node("Min", _number_below(g, upto, target), g.ints(block - 1))
        probability = g.node("GatherElements", within, place, axis=1)
        token = g.node("Add", g.node("Mul", which, g.ints(block)), place)
        return g.node("Squeeze", token, g.ints(1)), g.node("Squeeze", probability, g.ints(1))


def _rows(g: Builder, u: Name, count: int | None, step: int) -> Name:
    """0, `step`, `2 step`, ..., as many as there are uniforms."""
    if count is not None:
        return g.constant(step * np.arange(count))
    length = g.node("Squeeze", g.node("Shape", u))
    numbers = g.node("Range", g.constant(np.int64(0)), length, g.constant(np.int64(1)))
    return g.node("Mul", numbers, g.ints(step))


def _number_below(g: Builder, upto: Name, target: Name) -> Name:
    """Count the values of each row `[n, m]` that are not above its target `[n, 1]`."""
    below = g.node("Cast", g.node("LessOrEqual", upto, target), to=1)
    return g.cast(g.node("ReduceSum", below, g.ints(1)), "int64")


def _triangle(g: Builder, size: int) -> Name:
    """`[size, size]`: times it, a row becomes its cumulative sums."""
    return g.constant(np.triu(np.ones((size, size), np.float32)))
