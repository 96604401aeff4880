"""The ST transformer as nodes: what `runtime/model/transformer.py` computes, of one frame.

Axes: `P` positions of the frame, or `Q` of them, `D` width, `H` heads, `Dh` head width, `A` past frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.kernels.norm_qkv.reference import EPS
from genie_rt.kernels.quantise.reference import INT8_MAX, SMALLEST_AMAX
from genie_rt.runtime.config import TransformerConfig

UNSEEN = -1e30
"""Added to the score of a frame that is not seen: finite, so that nothing becomes NaN; its weight is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Past frames that a frame attends to.

    Attributes:
        keys, values: of a layer, one per age from 1 on, `[1, P, H, Dh]` each.
        bias: `[W, 1, 1]` float32 by age from 0 on: 0 where there is such a frame, else `UNSEEN`.
    """

    keys: Callable[[int], list[Name]]
    values: Callable[[int], list[Name]]
    bias: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """Keys and values of all positions for spatial attention where only some are computed.

    Attributes:
        index: `[Q]` int64, those that are computed.
        page: `[2 L, P, H, Dh]`, keys after their norm, and values, as last computed.
        replaced: entries of the page with the new ones in place, `[1, P, H, Dh]` each; a call appends.
    """

    index: Name
    page: Name
    replaced: list[Name] = field(default_factory=list)


class Transformer:
    """Nodes of one transformer.

    Args:
        part: what it is within the model: "dynamics.transformer", "tokenizer.encoder".
    """

    def __init__(self, g: Builder, config: TransformerConfig, part: str) -> None:
        self.g, self.config, self.part = g, config, part

    def past(self, prefix: str = "", index: Name | None = None) -> Frames | None:
        """Frames that are inputs of the graph, `past_1` and so on under a prefix; None in a window of 1.

        Args:
            index: `[Q]` int64, the positions of interest; None, all of them.
        """
        g, window = self.g, self.config.window
        if window == 1:
            return None
        pages = [f"{prefix}past_{age}" for age in range(1, window)]
        if index is not None:
            pages = [g.node("Gather", page, index, axis=1, name=f"{page}_at") for page in pages]
        return Frames(
            keys=lambda layer: [self.entry(page, 2 * layer) for page in pages],
            values=lambda layer: [self.entry(page, 2 * layer + 1) for page in pages],
            bias=self._bias(f"{prefix}num_past"),
        )

    def after(self, kept: Sequence[Name], past: Frames | None) -> Frames | None:
        """The past of the next frame: what a call kept of this one, and before that its own past.

        The graph's `num_past` counts the past of this one.
        """
        if past is None:
            return None
        num_past = self.g.node("Add", "num_past", self.g.ints(1))
        return Frames(
            keys=lambda layer: [kept[2 * layer], *past.keys(layer)[:-1]],
            values=lambda layer: [kept[2 * layer + 1], *past.values(layer)[:-1]],
            bias=self._bias(num_past),
        )

    def entry(self, page: Name, index: int) -> Name:
        """Keys or values of one layer, `[1, P, H, Dh]`, of a page `[2 L, P, H, Dh]`."""
        g = self.g

        def cut() -> Name:
            return g.node("Slice", page, g.ints(index), g.ints(index + 1), g.ints(0), name="cut")

        return g.once(("entry", page, index), cut, page, index // 2, ("keys", "values")[index % 2])

    def _bias(self, num_past: Name) -> Name:
        g, ages = self.g, self.g.constant(np.arange(self.config.window).reshape(-1, 1, 1))
        exists = g.node("LessOrEqual", ages, num_past, name="exists")
        return g.node("Where", exists, g.number(0), g.number(UNSEEN), name="bias")

    def __call__(self, x: Name, past: Frames | None, around: Around | None = None) -> tuple[Name, list[Name]]:
        """All blocks and the last norm.

        Args:
            x: `[P, D]`, or `[Q, D]` if there is `around`.

        Returns:
            The same shape; and keys and values of temporal attention, first those of the first layer,
            `[1, P, H, Dh]` each.
        """
        g, kept = self.g, []
        for layer in range(self.config.num_layers):
            block = f"{self.part}.blocks.{layer}"
            with g.scope(layer, "spatial"):
                q, k, v = self._project(x, block, "spatial")
                if around is not None:
                    k, v = (self._replace(around, 2 * layer + which, new) for which, new in enumerate((k, v)))
                x = linear(g, self._attend(q, k, v), f"{block}.spatial.out", add=x)
            with g.scope(layer, "temporal"):
                q, k, v = self._project(x, block, "temporal")
                kept += [k, v]
                h = v if past is None else self._look_back(q, k, v, layer, past)
                h = g.reshape(h, -1, self.config.attention_width)
                x = linear(g, h, f"{block}.temporal.out", add=x)
            with g.scope(layer, "mlp"):
                h = rms_norm(g, x, g.narrow_weight(f"{block}.mlp_norm.weight"))
                h = g.node("Gelu", linear(g, h, f"{block}.up"), approximate="tanh")
                x = linear(g, h, f"{block}.down", add=x)
        return rms_norm(g, x, g.narrow_weight(f"{self.part}.norm.weight")), kept

    def page(self, kept: Sequence[Name]) -> Name:
        """The page of a frame, `[2 L, P, H, Dh]`, of its keys and values as a call gives them."""
        return self.g.concat(kept, name="page")

    def _project(self, x: Name, block: str, kind: str) -> tuple[Name, Name, Name]:
        """Queries times `Dh^-1/2`, keys and values, `[1, P, H, Dh]` each, the first two after their norms."""
        g, config, attention = self.g, self.config, f"{block}.{kind}"

        def scaled() -> Name:
            scale = g.number(config.head_width**-0.5)
            return g.narrow(g.node("Mul", g.weight(f"{attention}.q_norm"), scale, name="q_norm"))

        h = rms_norm(g, x, g.narrow_weight(f"{block}.{kind}_norm.weight"))
        parts = g.nodes("Split", linear(g, h, f"{attention}.qkv"), count=3, axis=1, num_outputs=3)
        q, k, v = (g.reshape(part, 1, -1, config.num_heads, config.head_width) for part in parts)
        q_weight = g.once(("scaled", attention), scaled, attention)
        return rms_norm(g, q, q_weight), rms_norm(g, k, g.narrow_weight(f"{attention}.k_norm")), v

    def _replace(self, around: Around, index: int, new: Name) -> Name:
        """An entry of `around` with `new` in its places."""
        g, shape = self.g, (-1, self.config.num_heads, self.config.head_width)
        old = g.reshape(self.entry(around.page, index), *shape)
        places = g.node("Unsqueeze", around.index, g.ints(1))
        replaced = g.node("ScatterND", old, places, g.reshape(new, *shape), name="replaced")
        around.replaced.append(g.reshape(replaced, 1, *shape))
        return around.replaced[-1]

    def _attend(self, q: Name, k: Name, v: Name) -> Name:
        """Spatial attention to all positions, `[P, H Dh]`."""
        g = self.g
        q, v = g.transpose(q, 0, 2, 1, 3), g.transpose(v, 0, 2, 1, 3)
        if g.opset >= 23:
            k = g.transpose(k, 0, 2, 1, 3)
            out = g.node("Attention", q, k, v, scale=1.0)  # TensorRT takes no `softmax_precision`
        else:
            scores = g.wide(g.node("MatMul", q, g.transpose(k, 0, 2, 3, 1), name="scores"))
            out = g.node("MatMul", g.narrow(g.node("Softmax", scores, axis=-1)), v, name="attended")
        return g.reshape(g.transpose(out, 0, 2, 1, 3), -1, self.config.attention_width)

    def _look_back(self, q: Name, k: Name, v: Name, layer: int, past: Frames) -> Name:
        """Temporal attention of each position to itself in this frame and past ones: `[1, P, H, Dh]`."""
        g, (heads, window) = self.g, (self.config.num_heads, self.config.window)
        bias = f"{self.part}.blocks.{layer}.temporal.age_bias"
        by_age = g.once(
            bias, lambda: g.reshape(g.transpose(g.weight(bias), 1, 0), window, 1, heads, name="by_age"), bias
        )
        scores = [
            g.node("ReduceSum", g.wide(g.node("Mul", q, key)), g.ints(-1), keepdims=0)
            for key in (k, *past.keys(layer))
        ]
        biased = g.node("Add", g.concat(scores), g.node("Add", by_age, past.bias))  # [W, P, H]
        weights = g.narrow(g.node("Softmax", biased, axis=0))
        parts = g.nodes(
            "Split", g.reshape(weights, window, -1, heads, 1), count=window, axis=0, num_outputs=window
        )
        out = ""
        for weight, value in zip(parts, (v, *past.values(layer)), strict=True):
            part = g.node("Mul", weight, value)
            out = g.node("Add", out, part) if out else part
        return out


def rms_norm(g: Builder, x: Name, weight: Name) -> Name:
    """`kernels.norm_qkv`'s norm over the last axis; sums in float32."""
    if g.opset >= 23:
        return g.node("RMSNormalization", x, weight, name="norm", axis=-1, epsilon=EPS)
    with g.scope("norm"):
        wide = g.wide(x)
        mean = g.node("ReduceMean", g.node("Pow", wide, g.number(2)), g.ints(-1))
        root = g.node("Sqrt", g.node("Add", mean, g.number(EPS)))
        return g.node("Mul", g.narrow(g.node("Div", wide, root)), weight)


def linear(g: Builder, x: Name, name: str, add: Name | None = None) -> Name:
    """`x W^T`, plus `add` where it is given: `[M, Din]` to `[M, Dout]`. In 8 bits where the graph says so."""
    node = name.split(".")[-1]
    if (amax := g.quantised(name)) is not None:
        y = _quantised_linear(g, x, name, amax)
        return y if add is None else g.node("Add", y, add)
    rest = [] if add is None else [add]
    return g.node("Gemm", x, g.narrow_weight(f"{name}.weight"), *rest, name=node, transB=1)


def _quantised_linear(g: Builder, x: Name, name: str, amax: float) -> Name:
    """`x W^T` with both in 8 bits, `[M, Din]` to `[M, Dout]`; larger activations than `amax` count as that.

    Activations have one scale, weights one per output channel, from the weights themselves. Both are
    symmetric, which every engine has kernels for.
    """
    with g.scope(name.split(".")[-1]):
        scale, zero = g.constant(np.float32(amax / INT8_MAX)), g.constant(np.int8(0))
        x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, scale, zero), scale, zero)
        weight = g.once(("quantised", name), lambda: _rounded_weight(g, f"{name}.weight"), name)
        return g.node("Gemm", x, weight, transB=1, name="gemm")


def _rounded_weight(g: Builder, name: str) -> Name:
    """A weight as its 8 bits hold it. The bundle keeps no second copy: engines round it when they load it."""
    maxima = np.maximum(g.weights.row_maxima(name), np.float32(SMALLEST_AMAX))
    scales = g.constant(maxima / np.float32(INT8_MAX))
    zeros = g.constant(np.zeros(len(maxima), np.int8))
    rounded = g.node("QuantizeLinear", g.weight(name), scales, zeros, axis=0)
    return g.node("DequantizeLinear", rounded, scales, zeros, axis=0)
