"""The graphs of a bundle that evaluate the model once: all but those of whole frames."""

from __future__ import annotations

from onnx import ModelProto

from genie_rt.export.onnx.builder import Builder, Name
from genie_rt.export.onnx.codebook import nearest_code, unit_codes
from genie_rt.export.onnx.dynamics import Dynamics
from genie_rt.export.onnx.transformer import Around, Transformer, linear
from genie_rt.runtime.config import ModelConfig, TokenizerConfig


def encode(g: Builder, config: ModelConfig) -> ModelProto:
    """A picture to its tokens."""
    tokenizer = config.tokenizer
    encoder = Transformer(g, tokenizer.encoder, "tokenizer.encoder")
    with g.scope("encoder"):
        x = linear(g, g.narrow(_patches_of(g, "frame", tokenizer)), "tokenizer.patch_in")
        x = g.node("Add", x, g.narrow_weight("tokenizer.encoder_position"))
        hidden, kept = encoder(x, encoder.past())
        vectors = g.wide(linear(g, hidden, "tokenizer.code_in"))
        outputs = {
            "tokens": g.reshape(nearest_code(g, vectors), 1, -1),
            "page": encoder.page(kept),
            "checksum": total(g, vectors),
        }
    return g.finish("encode", outputs)


def commit(g: Builder, config: ModelConfig) -> ModelProto:
    """A frame whose tokens are decided to what later ones attend to."""
    dynamics = Dynamics(g, config)
    with g.scope("commit"):
        tokens = dynamics.take("tokens", dynamics.everywhere)
        x = dynamics.embed(tokens, None, "action", dynamics.everywhere)
        _, kept = dynamics.transformer(x, dynamics.transformer.past())
        page = dynamics.transformer.page(kept)
        outputs = {"page": page, "checksum": total(g, g.wide(page))}
    return g.finish("commit", outputs)


def one_pass(g: Builder, config: ModelConfig) -> ModelProto:
    """One pass of the dynamics at all positions."""
    dynamics = Dynamics(g, config)
    with g.scope("dynamics"):
        places = dynamics.everywhere
        tokens, previous, u = (dynamics.take(name, places) for name in ("tokens", "previous", "u"))
        x = dynamics.embed(tokens, previous, "action", places)
        hidden, kept = dynamics.transformer(x, dynamics.transformer.past())
        logits = dynamics.logits(hidden, previous)
        candidates, p = dynamics.sample(g.node("Div", logits, "temperature"), u, config.tokenizer.num_tokens)
        outputs = {
            "candidates": g.reshape(dynamics.in_raster(candidates), 1, -1),
            "probability": g.reshape(dynamics.in_raster(p), 1, -1),
            "logits": g.node("Unsqueeze", dynamics.in_raster(logits), g.ints(0)),
            "page": dynamics.transformer.page(kept),
            "checksum": total(g, logits),
        }
    return g.finish("pass", outputs)


def pass_at(g: Builder, config: ModelConfig) -> ModelProto:
    """One pass of the dynamics at some positions, the others' spatial keys and values being kept."""
    dynamics = Dynamics(g, config)
    with g.scope("dynamics"):
        places, around = dynamics.at("index"), Around(index="index", page="around")
        tokens, previous, u = (dynamics.take(name, places) for name in ("tokens", "previous", "u"))
        x = dynamics.embed(tokens, previous, "action", places)
        hidden, _ = dynamics.transformer(x, dynamics.transformer.past(index="index"), around)
        logits = dynamics.logits(hidden, previous)
        candidates, p = dynamics.sample(g.node("Div", logits, "temperature"), u, None)
        outputs = {
            "candidates": g.reshape(candidates, 1, -1),
            "probability": g.reshape(p, 1, -1),
            "around_out": dynamics.transformer.page(around.replaced),
            "checksum": total(g, logits),
        }
    return g.finish("pass-at", outputs)


def decode(g: Builder, config: ModelConfig) -> ModelProto:
    """Tokens to their picture."""
    with g.scope("decoder"):
        pixels, page = decoder(g, config, "tokens")
        outputs = {"rgb": to_uint8(g, pixels), "page": page, "checksum": total(g, pixels)}
    return g.finish("decode", outputs)


def decoder(g: Builder, config: ModelConfig, tokens: Name, prefix: str = "") -> tuple[Name, Name]:
    """The decoder's pixels, `[1, Hout, Wout, 3]` float32, and its page.

    Args:
        tokens: `[1, N]` int64.
        prefix: of the inputs that hold its past.
    """
    tokenizer = config.tokenizer
    transformer = Transformer(g, tokenizer.decoder, "tokenizer.decoder")

    def table() -> Name:
        return g.node("Gemm", unit_codes(g), g.weight("tokenizer.code_out.weight"), transB=1)

    codes = g.once("code_out", table, "decoder", "table")
    x = g.node("Gather", codes, g.reshape(tokens, -1), axis=0)
    x = g.narrow(g.node("Add", x, g.weight("tokenizer.decoder_position")))
    hidden, kept = transformer(x, transformer.past(prefix))
    patches = g.wide(linear(g, hidden, "tokenizer.patch_out"))
    return _pixels_of(g, patches, tokenizer), transformer.page(kept)


def to_uint8(g: Builder, pixels: Name) -> Name:
    """[-1, 1] to uint8 by clamping and rounding to nearest."""
    x = g.node("Mul", g.node("Add", pixels, g.number(1)), g.number(127.5))
    x = g.node("Round", g.node("Clip", x, g.number(0), g.number(255)))
    return g.cast(x, "uint8", name="rgb")


def total(g: Builder, x: Name) -> Name:
    """The sum of all numbers, `[1]` float32: not finite if one of them is not."""
    return g.reshape(g.node("ReduceSum", x, keepdims=0), 1)


def _patches_of(g: Builder, frame: Name, config: TokenizerConfig) -> Name:
    """`[1, Hpx, Wpx, 3]` uint8 to `[N, 3 patch^2]` float32 in [-1, 1]."""
    (rows, columns), patch = config.grid, config.patch
    x = g.reshape(g.cast(frame, "float32"), config.height, config.width * 3)
    x = g.node("Sub", g.node("Div", x, g.number(127.5)), g.number(1))
    below, right = rows * patch - config.height, columns * patch - config.width
    if below or right:
        x = g.reshape(x, config.height, config.width, 3)
        x = g.node("Pad", x, g.ints(0, 0, 0, below, right, 0), mode="edge")
    x = g.transpose(g.reshape(x, rows, patch, columns, patch * 3), 0, 2, 1, 3)
    return g.reshape(x, rows * columns, patch * patch * 3)


def _pixels_of(g: Builder, patches: Name, config: TokenizerConfig) -> Name:
    """`[N, 3 patch^2]` to `[1, Hout, Wout, 3]`, patches of the decoder's size, cropped at the end."""
    (height, width), patch = config.output_size, config.decoder_patch
    rows, columns = -(-height // patch), -(-width // patch)
    x = g.transpose(g.reshape(patches, rows, columns, patch, patch * 3), 0, 2, 1, 3)
    x = g.reshape(x, 1, rows * patch, columns * patch, 3)
    if (rows * patch, columns * patch) == (height, width):
        return x
    return g.node("Slice", x, g.ints(0, 0), g.ints(height, width), g.ints(1, 2), name="crop")
