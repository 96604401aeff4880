"""A tiny bundle on disk, and the tools to tamper with it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_rt.errors import BundleError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.config import DynamicsConfig, LamConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan

HEIGHT, WIDTH = 8, 12
SIDE = TransformerConfig(num_layers=1, width=16, num_heads=2, head_width=8, mlp_width=16, window=2)
CONFIG = ModelConfig(
    tokenizer=TokenizerConfig(
        height=HEIGHT, width=WIDTH, patch=4, decoder_patch=4, codebook_size=8, codebook_dim=4,
        encoder=SIDE, decoder=SIDE,
    ),
    lam=LamConfig(patch=4, num_actions=3, codebook_dim=4, encoder=SIDE, decoder=SIDE),
    dynamics=DynamicsConfig(transformer=SIDE, num_actions=3, embedding_dim=4),
)  # fmt: skip
SHAPES = parameter_shapes(CONFIG)
TENSOR = "dynamics.token_embedding"


def write_tiny_bundle(out: Path) -> Path:
    """Writes a whole, valid bundle of the smallest sizes."""
    generator = torch.Generator().manual_seed(0)
    pictures = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_bundle(
        out,
        name="tiny",
        config=CONFIG,
        weights={name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()},
        action_names=("left", "stay", "right"),
        default_action="stay",
        plans={"default": Plan(passes=4), "best": Plan(passes=6, temperature=2.0)},
        prompts=list(pictures),
        provenance={"data": "none", "commit": "0" * 40, "nested": {"list": [1, 2.5, None, True]}},
        model_card="# tiny\n",
    )
    return out


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes bundle.json in place; a `change` that returns something replaces it."""
    path = folder / "bundle.json"
    values = json.loads(path.read_text())
    result = change(values)
    path.write_text(json.dumps(values if result is None else result))


def seal(folder: Path) -> None:
    """Makes the records agree with the files, as a forger would."""

    def change(values: dict[str, Any]) -> None:
        for name in list(values["files"]):
            data = (folder / name).read_bytes()
            values["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    edit(folder, change)


def refuse(source: str | Path, *parts: str) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(source)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1500
