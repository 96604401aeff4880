"""Compiles two toy kernels, one that spills and one that is sound, and prints what was found as JSON.

Run as a process of its own: in the tests' own process Triton interprets.
"""

import json
import sys

import triton
import triton.language as tl

from genie_rt.bench.kernels import compile as kernel_compile
from genie_rt.bench.kernels.architectures import parse_architectures
from genie_rt.kernels.launch import Kernel, Variant, config


@triton.jit
def sums(x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i, tl.cumsum(tl.load(x + i), 0))


@triton.jit
def product(x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tile = tl.load(x + i[:, None] * BLOCK + i)
    tl.store(y + i[:, None] * BLOCK + i, tl.dot(tile, tile))


VARIANT = (Variant(name="fp32", types={"x": "*fp32", "y": "*fp32"}, constants={}),)
HALF = (Variant(name="fp16", types={"x": "*fp16", "y": "*fp32"}, constants={}),)
SPACE = (config(4, 1, BLOCK=1024), config(1, 1, BLOCK=16384))
TOYS = (
    Kernel(name="sums", function=sums, space=SPACE, variants=VARIANT),
    Kernel(name="product", function=product, space=(config(4, 1, BLOCK=64),), variants=HALF),
)

if __name__ == "__main__":
    kernel_compile.all_kernels = lambda ops: TOYS  # type: ignore[assignment]
    body = kernel_compile.compile_kernels(parse_architectures(sys.argv[1]), ops=["toys"])
    rows = [
        (
            row.kernel,
            row.config.num_warps,
            row.architecture,
            row.problem,
            row.matrix_instructions,
            row.widest_load,
        )
        for row in body.rows
    ]
    print(json.dumps({"passed": body.passed, "rows": rows}))
