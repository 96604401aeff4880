"""Whole frames by the kernels themselves, in Triton's interpreter: launchers take what they are given."""

import importlib
from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from makers import make_config, make_model, make_pictures, make_world

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.runtime.backends.cuda import backend as backend_module
from genie_rt.runtime.backends.cuda import frame as frame_module
from genie_rt.runtime.backends.cuda import linear as linear_module
from genie_rt.runtime.backends.cuda import transformer as transformer_module
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what masked lanes compute

CPU = torch.device("cpu")
LAUNCHERS = {
    "norm_qkv": "norm_qkv", "norm_qkv_fp8": "norm_qkv", "norm_qkv_int8": "norm_qkv",
    "mlp_gelu": "mlp", "mlp_gelu_fp8": "mlp", "mlp_gelu_int8": "mlp",
    "quantise_rows": "quantise", "quantise_rows_int8": "quantise", "dequantise_product": "quantise",
    "spatial_attention": "spatial_attention", "temporal_attention": "temporal_attention",
    "embed_tokens": "embed_tokens", "maskgit_sample": "maskgit_sample",
    "vq_lookup": "vq_lookup", "patchify": "patchify", "unpatchify": "patchify",
}  # fmt: skip
"""Operators and the folder of `kernels` whose launcher they have."""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes the back end call launchers in place of operators, and notes which."""
    if torch.cuda.is_available():
        pytest.skip("Triton compiles where there is a CUDA device: there operators launch kernels anyway")
    seen: list[str] = []
    for module in (backend_module, frame_module, linear_module, transformer_module):
        for name, folder in LAUNCHERS.items():
            if hasattr(module, name):
                launcher = getattr(importlib.import_module(f"genie_rt.kernels.{folder}.kernel"), name)

                def noted(*arguments: Any, launcher: Any = launcher, name: str = name) -> Any:
                    seen.append(name)
                    return launcher(*arguments)

                monkeypatch.setattr(module, name, noted)
    return seen


PLANS = {
    "maskgit": Plan(passes=2),
    "adaptive": Plan(order="adaptive", passes=2, threshold=0.5),
    "halton": Plan(order="halton", passes=2),
    "random": Plan(order="random", passes=2, reuse="passes"),
    "frames": Plan(passes=2, reuse="frames", fresh=0.5),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_frame_by_kernels_is_that_of_their_references(
    name: str, precision: str, launched: list[str]
) -> None:
    config = make_config(grid=(4, 4), merge=2, window=3, num_layers=1, width=32, num_heads=1, head_width=32)
    worlds = []
    for _ in range(2):
        backend = CudaBackend(make_model(config, dtype=torch.float32), Precision.of(precision), CPU)
        worlds.append(World(make_world(config).bundle, backend, precision))
    by_kernels, by_references = (world.session(seed=3, plan=PLANS[name]) for world in worlds)
    by_kernels.reset(make_pictures(config, 1)[0])
    for action in (0, 1, 2):
        by_kernels.step(action)
    assert {"norm_qkv", "spatial_attention", "temporal_attention", "embed_tokens"} <= set(launched)
    with pytest.MonkeyPatch.context() as patch:
        for module in (backend_module, frame_module, linear_module, transformer_module):
            for op, folder in LAUNCHERS.items():
                if hasattr(module, op):
                    patch.setattr(
                        module, op, getattr(importlib.import_module(f"genie_rt.kernels.{folder}"), op)
                    )
        by_references.reset(make_pictures(config, 1)[0])
        for action in (0, 1, 2):
            by_references.step(action)
    assert torch.equal(by_kernels.row.tokens, by_references.row.tokens)
    pages = [
        torch.stack([world.backend.memory.dynamics.view(page) for page in session.row.dynamics])
        for world, session in zip(worlds, (by_kernels, by_references), strict=True)
    ]
    assert_close_norm(*pages)
    difference = by_kernels.frame.astype(int) - by_references.frame.astype(int)
    assert abs(difference).max() <= 1
