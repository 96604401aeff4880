"""Codebooks of the presets, for one frame and for a window of frames, and one of 16384 codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genie_rt.kernels.case import Case
from genie_rt.kernels.shapes import SHAPES
from genie_rt.kernels.vq_lookup import kernel, reference

FRAMES = (1, 16)
LARGE = (16384, 32)
"""Codes, and their width, of the largest codebook."""

NOISE = 0.05
"""Distance of a vector from its code, in lengths of the code."""


def make_inputs(
    num_rows: int, num_codes: int, code_width: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """`x` `[M, d]`, `codebook` `[V, d]`, and the codes that `x` are near to, `[M]`.

    So near that rounding decides nothing, and both metrics find the same. Codes differ in length by up to 3
    times.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    lengths = 3 ** torch.rand(num_codes, 1, generator=generator, device=device)
    codebook = normalize(draw(num_codes, code_width), dim=-1) * lengths
    near = torch.randint(num_codes, (num_rows,), generator=generator, device=device)
    x = codebook[near] + NOISE * lengths[near] * normalize(draw(num_rows, code_width), dim=-1)
    return x.to(dtype), codebook.to(dtype), near


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and number of frames a look-up, as its tokenizer does it, and some in a large codebook."""
    seen = set()
    for name, shape in SHAPES.items():
        for frames in FRAMES:
            num_rows = frames * shape.tokens
            size = (num_rows, shape.codes, shape.code_width)
            if size not in seen:  # the tokenizer of several presets
                seen.add(size)
                yield _lookup_case(f"{name} T={frames}", *size, True, dtype, device)
    tokens = max(shape.tokens for shape in SHAPES.values())
    for frames in FRAMES:
        for cosine in (True, False):
            metric = "cosine" if cosine else "euclidean"
            name = f"V={LARGE[0]} {metric} T={frames}"
            yield _lookup_case(name, frames * tokens, *LARGE, cosine, dtype, device)


def _lookup_case(
    name: str, num_rows: int, num_codes: int, code_width: int, cosine: bool, dtype: torch.dtype,
    device: torch.device,
) -> Case:  # fmt: skip
    x, codebook, _ = make_inputs(num_rows, num_codes, code_width, dtype, device)
    out = torch.empty(num_rows, dtype=torch.int64, device=device)
    partials = kernel.make_partials(x, codebook)
    # the library gets what it may prepare: lengths removed, squares summed, and fp32 where it needs that
    vectors, codes = (
        (normalize(x.float(), dim=-1), normalize(codebook.float(), dim=-1))
        if cosine
        else (x.float(), codebook.float())
    )
    narrow, half_squares = codes.to(dtype), codes.square().sum(-1).to(dtype) / 2

    def product() -> Tensor:
        scores = x @ narrow.mT
        return scores.argmax(1) if cosine else (scores - half_squares).argmax(1)

    baselines: dict[str, Callable[[], object]] = {
        "torch.cdist + argmin": lambda: torch.cdist(vectors, codes).argmin(1),
        "matmul + argmax": product,
    }
    if device.type == "cuda":
        compiled = torch.compile(reference.vq_lookup)
        baselines["torch.compile"] = lambda: compiled(x, codebook, cosine)
    return Case(
        op="vq_lookup",
        name=name,
        dtype=dtype,
        run=lambda: (kernel.vq_lookup(x, codebook, cosine, out=out, partials=partials),),
        reference=lambda: (reference.vq_lookup(x, codebook, cosine),),
        baselines=baselines,
        cost=kernel.lookup_cost(num_rows, num_codes, code_width, dtype),
        exact=(True,),
    )
