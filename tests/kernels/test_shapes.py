"""The kernels' table of sizes is that of the presets."""

import pytest

from genie_rt.kernels.shapes import SHAPES
from genie_rt.runtime.presets import PRESETS, preset


def test_every_preset_has_its_sizes() -> None:
    assert set(SHAPES) == set(PRESETS)


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_those_of_the_preset(name: str) -> None:
    shape, config = SHAPES[name], preset(name)
    side = config.dynamics.transformer
    assert (shape.tokens, shape.positions) == (config.tokenizer.num_tokens, config.num_positions)
    assert (shape.width, shape.heads, shape.head_width) == (side.width, side.num_heads, side.head_width)
    assert (shape.mlp_width, shape.layers, shape.window) == (side.mlp_width, side.num_layers, side.window)
    assert (shape.codes, shape.code_width) == (config.tokenizer.codebook_size, config.tokenizer.codebook_dim)
    assert (shape.patch, shape.height, shape.width_px) == (
        config.tokenizer.patch, config.tokenizer.height, config.tokenizer.width,
    )  # fmt: skip
