"""The tokenizer's codes as nodes: `kernels/vq_lookup/reference.py`."""

from __future__ import annotations

from genie_rt.export.onnx.builder import Builder, Name

SHORTEST = 1e-12
"""Lower bound on a code's length in the division, as in `torch.nn.functional.normalize`."""


def unit_codes(g: Builder) -> Name:
    """`[V, d]` float32, every row of length 1."""

    def make() -> Name:
        codes = g.weight("tokenizer.codebook")
        square = g.node("ReduceSum", g.node("Mul", codes, codes), g.ints(-1))
        length = g.node("Max", g.node("Sqrt", square), g.number(SHORTEST))
        return g.node("Div", codes, length, name="unit")

    return g.once("unit codes", make, "codebook")


def nearest_code(g: Builder, x: Name) -> Name:
    """The code of every vector, `[M, d]` float32 to `[M]` int64; the lowest of those that are as near.

    The vectors' own length does not matter to which code is the nearest, and is left as it is.
    """
    table = g.once("unit codes, a column each", lambda: g.transpose(unit_codes(g), 1, 0), "codebook")
    scores = g.node("MatMul", x, table, name="scores")
    return g.node("ArgMax", scores, axis=1, keepdims=0, select_last_index=0, name="nearest")
