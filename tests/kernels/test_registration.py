"""Operators as torch knows them: a reference on the CPU, a launcher on a GPU, and nothing heavy to import."""

import subprocess
import sys
from importlib import import_module

import pytest
import torch

LAUNCHERS = {
    "embed_tokens": "embed_tokens",
    "norm_qkv": "norm_qkv",
    "norm_qkv_fp8": "norm_qkv",
    "norm_qkv_int8": "norm_qkv",
    "spatial_attention": "spatial_attention",
    "temporal_attention": "temporal_attention",
    "mlp_gelu": "mlp",
    "mlp_gelu_fp8": "mlp",
    "mlp_gelu_int8": "mlp",
    "quantise_rows": "quantise",
    "quantise_rows_int8": "quantise",
    "dequantise_product": "quantise",
    "vq_lookup": "vq_lookup",
    "maskgit_sample": "maskgit_sample",
    "patchify": "patchify",
    "unpatchify": "patchify",
}
"""By operator the package that holds it."""


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_operator_has_a_reference_a_launcher_and_a_fake(name: str) -> None:
    package = import_module(f"genie_rt.kernels.{LAUNCHERS[name]}")
    assert getattr(package, name) is getattr(torch.ops.genie_rt, name)
    for key in ("CPU", "CUDA", "Meta"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"genie_rt::{name}", key), key
    pytest.importorskip("triton", reason="the launchers need Triton")
    launcher = getattr(import_module(f"genie_rt.kernels.{LAUNCHERS[name]}.kernel"), name)
    arguments = [argument.name for argument in getattr(torch.ops.genie_rt, name).default._schema.arguments]
    taken = launcher.__code__.co_varnames[: launcher.__code__.co_argcount]  # by place
    assert list(taken) == arguments


def test_an_operator_on_a_cpu_imports_neither_triton_nor_torchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        f"for name in {sorted(set(LAUNCHERS.values()))}: __import__(f'genie_rt.kernels.{{name}}')\n"
        "torch.ops.genie_rt.mlp_gelu(torch.ones(2, 3))\n"
        "print(*sorted({'triton', 'torch._dynamo'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
