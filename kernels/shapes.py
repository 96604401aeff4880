"""The sizes of the presets' dynamics, as kernels see them: what is compiled ahead, measured and tuned for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of one model.

    Attributes:
        tokens: `N` of a frame. positions: `P`, fewer where tokens are merged.
        width: `D`. heads: `H`. head_width: `Dh`. mlp_width: `F`. layers: `L`. window: `W`.
        codes: `V`. code_width: of a codebook vector.
        patch: pixels a side. height, width_px: of a frame, in pixels.
    """

    tokens: int
    positions: int
    width: int
    heads: int
    head_width: int
    mlp_width: int
    layers: int
    window: int
    codes: int
    code_width: int
    patch: int
    height: int
    width_px: int


def _genie(layers: int, width: int, heads: int, mlp_width: int) -> ModelShape:
    return ModelShape(
        tokens=920, positions=920, width=width, heads=heads, head_width=128, mlp_width=mlp_width,
        layers=layers, window=16, codes=1024, code_width=32, patch=4, height=90, width_px=160,
    )  # fmt: skip


SHAPES: dict[str, ModelShape] = {
    "demo": ModelShape(
        tokens=256, positions=64, width=192, heads=6, head_width=32, mlp_width=768, layers=6, window=8,
        codes=1024, code_width=16, patch=4, height=64, width_px=64,
    ),
    "coinrun": ModelShape(
        tokens=256, positions=256, width=512, heads=8, head_width=64, mlp_width=2048, layers=12, window=16,
        codes=1024, code_width=32, patch=4, height=64, width_px=64,
    ),
    "genie-500m": _genie(21, 1536, 12, 2048),
    "genie-2b": _genie(34, 2560, 20, 2560),
    "genie-10b": _genie(48, 5120, 36, 2048),
}  # fmt: skip
"""Shapes by preset; a test compares them with the presets' configurations."""
