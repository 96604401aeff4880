"""What the graphs of a bundle take and give: the contract between who writes them and who runs them.

One row (`B` = 1), static shapes. Axes: `N` tokens, `P` positions, `S` tokens of a position (`N = P S`), `V`
codes, `K` passes, `L` layers, `H` heads, `Dh` head width, `W` window, `Q` positions of a subset.

Every past frame is an input of its own, `past_1` (the frame before) to `past_{W-1}`, which is bound to the
memory of that page: `[L, 2, P, H, Dh]` read as `[2 L, P, H, Dh]`, entry `2 l` the keys of layer `l` after
QK-norm, entry `2 l + 1` its values. `num_past` says how many there are; the others are bound to any page of
finite numbers and not looked at. The page of the new frame comes out as `page`.

    encode      picture -> tokens and a page of the encoder
    commit      decided tokens -> the page that later frames attend to; no head, and no more of the last layer
    pass        one pass of the dynamics
    pass-at     the same at some positions only, with the spatial keys and values of the others kept
    decode      tokens -> picture and a page of the decoder
    frame-NAME  the commit of the last frame, all passes of the plan NAME, and the decoder
"""

from __future__ import annotations

from dataclasses import dataclass, field

from genie_rt.runtime.config import ModelConfig, TransformerConfig
from genie_rt.runtime.plan import Plan

PAGE_DTYPES = {"float32": "float32", "float16": "float16", "int8": "float32"}
"""Dtype of pages, by the number format of the graphs: one of `manifest.GRAPH_FORMATS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output. `shape` has a name where a side is not fixed."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Inputs and outputs of one graph, by name, in order."""

    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)


def signatures(config: ModelConfig, precision: str, plans: dict[str, Plan]) -> dict[str, Signature]:
    """Those of all graphs.

    Args:
        precision: one of `PAGE_DTYPES`.
        plans: by name, those that a frame graph is written for.
    """
    tokens, pages = config.tokenizer.num_tokens, PAGE_DTYPES[precision]
    height, width = config.tokenizer.height, config.tokenizer.width
    picture = Value(dtype="uint8", shape=(1, *config.tokenizer.output_size, 3))
    indices, numbers = Value(dtype="int64", shape=(1, tokens)), Value(dtype="float32", shape=(1, tokens))
    one, checksum = Value(dtype="int64", shape=(1,)), Value(dtype="float32", shape=(1,))

    encoder = _past(config.tokenizer.encoder, tokens, pages)
    decoder = _past(config.tokenizer.decoder, tokens, pages)
    dynamics = _past(config.dynamics.transformer, config.num_positions, pages)
    page = _page(config.dynamics.transformer, config.num_positions, pages)
    slots, codes = config.dynamics.merge**2, config.tokenizer.codebook_size
    frame = {"tokens": indices, "previous": indices, "action": one}
    sampling = {"u": numbers, "temperature": Value(dtype="float32", shape=(1,))}
    return {
        "encode": Signature(
            inputs={"frame": Value(dtype="uint8", shape=(1, height, width, 3)), **encoder},
            outputs={
                "tokens": indices,
                "page": _page(config.tokenizer.encoder, tokens, pages),
                "checksum": checksum,
            },
        ),
        "commit": Signature(
            inputs={"tokens": indices, "action": one, **dynamics},
            outputs={"page": page, "checksum": checksum},
        ),
        "pass": Signature(
            inputs={**frame, **sampling, **dynamics},
            outputs={
                "candidates": indices,
                "probability": numbers,
                "logits": Value(dtype="float32", shape=(1, tokens, codes)),
                "page": page,
                "checksum": checksum,
            },
        ),
        # `tokens`, `previous` and `u` are whole; what comes out is of the tokens of `index`, position by
        # position, slot by slot
        "pass-at": Signature(
            inputs={
                **frame,
                **sampling,
                "index": Value(dtype="int64", shape=("Q",)),
                "around": page,
                **dynamics,
            },
            outputs={
                "candidates": Value(dtype="int64", shape=(1, "Q*S" if slots > 1 else "Q")),
                "probability": Value(dtype="float32", shape=(1, "Q*S" if slots > 1 else "Q")),
                "around_out": page,
                "checksum": checksum,
            },
        ),
        "decode": Signature(
            inputs={"tokens": indices, **decoder},
            outputs={
                "rgb": picture,
                "page": _page(config.tokenizer.decoder, tokens, pages),
                "checksum": checksum,
            },
        ),
        **{
            f"frame-{name}": Signature(
                inputs={
                    "last_tokens": indices,
                    "last_action": one,
                    "action": one,
                    **_random(plan, tokens),
                    **dynamics,
                    **{f"picture_{key}": value for key, value in decoder.items()},
                },
                outputs={
                    "tokens": indices,
                    "passes": one,
                    "rgb": picture,
                    "page": page,
                    "picture_page": _page(config.tokenizer.decoder, tokens, pages),
                    "checksum": checksum,
                },
            )
            for name, plan in plans.items()
        },
    }


def _random(plan: Plan, tokens: int) -> dict[str, Value]:
    """What a frame graph draws with: uniforms, Gumbel noise before its scale, a random order."""
    drawn = {"u": Value(dtype="float32", shape=(plan.passes, tokens))}
    order = plan.static_order
    if order is None:
        drawn["gumbel"] = Value(dtype="float32", shape=(plan.passes, tokens))
    elif not order.is_fixed:
        drawn["order"] = Value(dtype="int64", shape=(tokens,))
    return drawn


def _page(config: TransformerConfig, positions: int, dtype: str) -> Value:
    shape = (2 * config.num_layers, positions, config.num_heads, config.head_width)
    return Value(dtype=dtype, shape=shape)


def _past(config: TransformerConfig, positions: int, dtype: str) -> dict[str, Value]:
    if config.window == 1:
        return {}
    past = {f"past_{age}": _page(config, positions, dtype) for age in range(1, config.window)}
    return {"num_past": Value(dtype="int64", shape=(1,)), **past}
