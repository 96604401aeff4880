"""Vectors to their nearest codes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.kernels.arguments import FLOATS, check_apart, check_range, check_tensor
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import (
    TRITON_TYPES,
    Config,
    Kernel,
    Variant,
    check_device,
    config,
    next_power_of_2,
    on_device,
)
from genie_rt.kernels.shapes import SHAPES

MAX_ROWS = 2**30
MAX_CODES = 65536
MAX_CODE_WIDTH = 256
MAX_SPLITS = 64
FEW_ROWS = 8192
"""Up to here small blocks of rows are needed to give every multiprocessor something to do."""

CODES_PER_SPLIT = 2048
"""Fewer are not worth a second launch: a program of 16 rows is through with them in about that time."""

_SHORTEST = tl.constexpr(1e-12)
"""Lower bound on the length of a code in the division, as in `torch.nn.functional.normalize`."""

_NO_CODE = tl.constexpr(2**31 - 1)


def score_error(width: int) -> float:
    """Error bound on the computed score of a code, relative to `|x| |c| + |c|^2` (cosine: to `|x|`).

    `d` additions for the product and for `|c|^2`, each off by at most 2**-23 of the sum (tensor cores
    truncate), and a few roundings. A code whose score is within twice that of the best may be found instead.
    """
    return (2 * width + 8) * 2.0**-23


@triton.jit
def _tile(pointer, row, inside, start, D: tl.constexpr, STEP: tl.constexpr):
    """`[rows, STEP]` of a row-major matrix of width `D`, zeros outside of it."""
    column = start + tl.arange(0, STEP)
    mask = inside[:, None] & (column < D)[None, :]
    return tl.load(pointer + row[:, None] * D + column[None, :], mask=mask, other=0.0)


@triton.jit
def _product(a, b, total):
    """`total + a b^T`. 16-bit numbers of one format meet as they are, others in fp32.

    fp32 stays fp32: TF32 would decide near ties by its 11 bits.
    """
    if a.dtype != b.dtype:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, tl.trans(b), total, input_precision="ieee")


@triton.jit
def _squares(a):
    """`|a|^2` of each row, in fp32."""
    wide = a.to(tl.float32)
    return tl.sum(wide * wide, 1)


@triton.jit(do_not_specialize=("num_rows", "num_codes", "codes_per_split"))
def _vq_lookup(
    x_ptr, codebook_ptr, out_ptr, num_rows, num_codes, codes_per_split,
    D: tl.constexpr, PADDED_D: tl.constexpr, COSINE: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """`argmax_v <x, c_v> / |c_v|` if `COSINE`, else `argmax_v <x, c_v> - |c_v|^2 / 2`.

    One program has `BLOCK_M` rows of `x` and goes through all codes, or those of its split, `BLOCK_V` at a
    time. Every lane keeps the best score and the block of the codes that it met, so threads meet only once,
    at the end. A lane takes a later code only if it is strictly better, and of equal lanes the lowest code
    wins. NaN is never better: a row of NaN gets code 0.

    `out` is `[M]` indices, or `[2, splits, M]` fp32 of scores and indices, which fp32 holds exactly.
    """
    STEP: tl.constexpr = BLOCK_D if BLOCK_D < PADDED_D else PADDED_D
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    is_row = row < num_rows
    long_row = row.to(tl.int64)
    lane = tl.arange(0, BLOCK_V)
    first = tl.program_id(1) * codes_per_split
    last = tl.minimum(first + codes_per_split, num_codes)
    best = tl.full([BLOCK_M, BLOCK_V], float("-inf"), tl.float32)
    best_start = tl.zeros([BLOCK_M, BLOCK_V], tl.int32) + first
    if STEP == PADDED_D:
        x = _tile(x_ptr, long_row, is_row, 0, D, STEP)
    for start in range(first, last, BLOCK_V):
        code = start + lane
        is_code = code < last
        score = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
        square = tl.zeros([BLOCK_V], tl.float32)
        if STEP == PADDED_D:
            c = _tile(codebook_ptr, code, is_code, 0, D, STEP)
            score = _product(x, c, score)
            square += _squares(c)
        else:
            for k in range(0, PADDED_D, STEP):
                part = _tile(x_ptr, long_row, is_row, k, D, STEP)
                c = _tile(codebook_ptr, code, is_code, k, D, STEP)
                score = _product(part, c, score)
                square += _squares(c)
        if COSINE:
            score = score * (1.0 / tl.maximum(tl.sqrt(square), _SHORTEST))[None, :]
            bias = tl.where(is_code, 0.0, float("-inf"))
        else:
            bias = tl.where(is_code, -0.5 * square, float("-inf"))
        score += bias[None, :]
        better = score > best
        best = tl.where(better, score, best)
        best_start = tl.where(better, start, best_start)
    top = tl.max(best, 1)
    index = tl.min(tl.where(best == top[:, None], best_start + lane[None, :], _NO_CODE), 1)
    if SPLIT:
        score_row = out_ptr + tl.program_id(1).to(tl.int64) * num_rows + long_row
        tl.store(score_row, top, mask=is_row)
        splits = tl.num_programs(1).to(tl.int64)
        tl.store(score_row + splits * num_rows, index.to(tl.float32), mask=is_row)
    else:
        tl.store(out_ptr + long_row, index.to(tl.int64), mask=is_row)


@triton.jit(do_not_specialize=("num_rows",))
def _vq_merge(
    partials_ptr, out_ptr, num_rows, SPLITS: tl.constexpr, PADDED_SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    """The best of all splits' codes; the lowest of equal ones."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    split = tl.arange(0, PADDED_SPLITS)
    inside = (split < SPLITS)[:, None] & (row < num_rows)[None, :]
    at_score = split.to(tl.int64)[:, None] * num_rows + row[None, :]
    at_index = (split + SPLITS).to(tl.int64)[:, None] * num_rows + row[None, :]
    score = tl.load(partials_ptr + at_score, mask=inside, other=float("-inf"))
    index = tl.load(partials_ptr + at_index, mask=inside, other=0.0)
    top = tl.max(score, 0)
    index = tl.where(inside & (score == top[None, :]), index.to(tl.int32), _NO_CODE)
    tl.store(out_ptr + row, tl.min(index, 0).to(tl.int64), mask=row < num_rows)


AUTOTUNE_SPACE = (
    config(8, 3, BLOCK_M=64, BLOCK_V=64, BLOCK_D=32),
    config(4, 3, BLOCK_M=64, BLOCK_V=64, BLOCK_D=32),
    config(4, 3, BLOCK_M=64, BLOCK_V=32, BLOCK_D=32),
    config(4, 2, BLOCK_M=64, BLOCK_V=64, BLOCK_D=32),
    config(8, 3, BLOCK_M=128, BLOCK_V=64, BLOCK_D=32),
    config(8, 3, BLOCK_M=64, BLOCK_V=128, BLOCK_D=32),
    config(8, 3, BLOCK_M=128, BLOCK_V=32, BLOCK_D=32),
)
AUTOTUNE_SPACE_FEW = (
    config(8, 3, BLOCK_M=16, BLOCK_V=128, BLOCK_D=32),
    config(8, 2, BLOCK_M=16, BLOCK_V=256, BLOCK_D=32),
    config(4, 3, BLOCK_M=16, BLOCK_V=128, BLOCK_D=32),
    config(4, 3, BLOCK_M=16, BLOCK_V=64, BLOCK_D=32),
    config(8, 3, BLOCK_M=32, BLOCK_V=128, BLOCK_D=32),
    config(4, 3, BLOCK_M=32, BLOCK_V=64, BLOCK_D=32),
)
AUTOTUNE_SPACE_MERGE = (config(4, 1, BLOCK=128), config(1, 1, BLOCK=32))
"""`BLOCK_D`: of a code's numbers at a time; codes up to that width stay on the chip as a whole."""


def _variant(left: torch.dtype, right: torch.dtype, width: int, cosine: bool, split: bool = False) -> str:
    name = f"{TRITON_TYPES[left]}-{TRITON_TYPES[right]}-d{width}-{'cosine' if cosine else 'euclidean'}"
    return f"{name}-split" if split else name


def _constants(code_width: int, cosine: bool) -> dict[str, int | bool]:
    return {"D": code_width, "PADDED_D": max(16, next_power_of_2(code_width)), "COSINE": cosine}


def _variants() -> tuple[Variant, ...]:
    """The presets' codebooks are cosine ones, and too small to be split."""
    found = {}
    widths = sorted({shape.code_width for shape in SHAPES.values()})
    for x_dtype in FLOATS:
        for code_dtype in {x_dtype: 0, torch.float32: 0}:
            kinds = [(width, True, False) for width in widths]
            if x_dtype == code_dtype:
                kinds += [(widths[-1], False, False), (widths[-1], True, True)]
            for width, cosine, split in kinds:
                name = _variant(x_dtype, code_dtype, width, cosine, split)
                types = {
                    "x_ptr": f"*{TRITON_TYPES[x_dtype]}",
                    "codebook_ptr": f"*{TRITON_TYPES[code_dtype]}",
                    "out_ptr": "*fp32" if split else "*i64",
                } | dict.fromkeys(("num_rows", "num_codes", "codes_per_split"), "i32")
                constants = _constants(width, cosine) | {"SPLIT": split}
                found[name] = Variant(name=name, types=types, constants=constants)
    return tuple(found.values())


def _merge_variants() -> tuple[Variant, ...]:
    types = {"partials_ptr": "*fp32", "out_ptr": "*i64", "num_rows": "i32"}
    return tuple(
        Variant(name=f"splits{splits}", types=types, constants={"SPLITS": splits, "PADDED_SPLITS": splits})
        for splits in (2, 8)
    )


KERNEL = Kernel(name="vq_lookup", function=_vq_lookup, space=AUTOTUNE_SPACE, variants=_variants())
KERNEL_FEW = Kernel(name="vq_lookup_few", function=_vq_lookup, space=AUTOTUNE_SPACE_FEW, variants=_variants())
KERNEL_MERGE = Kernel(
    name="vq_merge", function=_vq_merge, space=AUTOTUNE_SPACE_MERGE, variants=_merge_variants()
)
KERNELS = (KERNEL, KERNEL_FEW, KERNEL_MERGE)


def num_splits(num_rows: int, num_codes: int, block_m: int, multiprocessors: int) -> int:
    """Into how many parts the codes are split, a power of 2.

    By count: as many as give every multiprocessor two programs, but none with fewer codes than a second
    launch is worth. At 1024 codes that is always 1.
    """
    programs = triton.cdiv(num_rows, block_m)
    wanted = min(2 * multiprocessors // programs, num_codes // CODES_PER_SPLIT, MAX_SPLITS)
    return 1 << (max(wanted, 1).bit_length() - 1)


def make_partials(x: Tensor, codebook: Tensor) -> Tensor | None:
    """Memory for `vq_lookup` to merge splits in, `[2, splits, M]` fp32; None where it needs none."""
    if x.device.type != "cuda":
        return None
    kernel = _kernel_for(len(x))
    split = _variant(x.dtype, codebook.dtype, x.shape[1], True, True)
    block_m = dict(kernel.config_for(split, x.device).blocks)["BLOCK_M"]
    multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count
    splits = num_splits(len(x), len(codebook), block_m, multiprocessors)
    return None if splits == 1 else torch.empty(2, splits, len(x), dtype=torch.float32, device=x.device)


def vq_lookup(
    x: Tensor,
    codebook: Tensor,
    cosine: bool,
    *,
    out: Tensor | None = None,
    partials: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Launch `reference.vq_lookup` on the current stream; does not synchronise.

    Scores are fp32, from products that are exact (16 bits) or rounded to fp32, and never all in memory.
    Where two codes' scores differ by less than twice `score_error` either may be found; equal codes give the
    lowest index. A row of NaN gives 0.

    Args:
        x: `[M, d]` fp32, fp16 or bf16, contiguous, d at most 256.
        codebook: `[V, d]` in any of these dtypes, contiguous, V at most 65536. 16 bits of the dtype of `x`
            run on tensor cores.
        cosine: whether lengths count nothing.
        out: `[M]` int64, memory of its own; allocated where not given.
        partials: what `make_partials` gives for these shapes, `[2, splits, M]` fp32, memory of its own;
            where not given it is made.
        config: in place of the one that is tuned for this device.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    check_device(x, KERNEL)
    check_tensor("x", x, (None, None), FLOATS)
    num_rows, code_width = x.shape
    num_codes = _check_codebook(codebook, code_width, x)
    check_range("rows", num_rows, 1, MAX_ROWS)
    if out is None:
        out = torch.empty(num_rows, dtype=torch.int64, device=x.device)
    else:
        check_tensor("out", out, (num_rows,), (torch.int64,), like=x)
        check_apart(out=out, x=x, codebook=codebook)
    if partials is None:
        partials = make_partials(x, codebook)
    else:
        check_tensor("partials", partials, (2, None, num_rows), (torch.float32,), like=x)
        check_range("splits", partials.shape[1], 1, MAX_SPLITS)
        check_apart(partials=partials, x=x, codebook=codebook, out=out)

    kernel = _kernel_for(num_rows)
    split = partials is not None
    chosen = config or kernel.config_for(
        _variant(x.dtype, codebook.dtype, code_width, cosine, split), x.device
    )
    blocks = dict(chosen.blocks)
    splits = 1 if partials is None else partials.shape[1]
    codes_per_split = triton.cdiv(triton.cdiv(num_codes, splits), blocks["BLOCK_V"]) * blocks["BLOCK_V"]
    with on_device(x.device):
        kernel.launch(
            (triton.cdiv(num_rows, blocks["BLOCK_M"]), splits), chosen,
            x, codebook, out if partials is None else partials, num_rows, num_codes, codes_per_split,
            SPLIT=split, **_constants(code_width, cosine),
        )  # fmt: skip
        if partials is not None:
            merge = KERNEL_MERGE.config_for(f"splits{splits}", x.device)
            KERNEL_MERGE.launch(
                (triton.cdiv(num_rows, dict(merge.blocks)["BLOCK"]),), merge, partials, out, num_rows,
                SPLITS=splits, PADDED_SPLITS=next_power_of_2(splits),
            )  # fmt: skip
    return out


def _check_codebook(codebook: Tensor, code_width: int, like: Tensor) -> int:
    """`V`, if the codebook is `[V, d]`."""
    check_range("code width", code_width, 1, MAX_CODE_WIDTH)
    check_tensor("codebook", codebook, (None, code_width), FLOATS, like=like)
    return check_range("codes", codebook.shape[0], 1, MAX_CODES)


def _kernel_for(num_rows: int) -> Kernel:
    return KERNEL_FEW if num_rows <= FEW_ROWS else KERNEL


def lookup_cost(
    num_rows: int, num_codes: int, code_width: int, dtype: torch.dtype, code_dtype: torch.dtype | None = None
) -> Cost:
    """Reads vectors and codes, writes indices; every vector meets every code."""
    codes = num_codes * code_width * (code_dtype or dtype).itemsize
    return Cost(
        flops=2 * num_rows * num_codes * code_width,
        bytes=num_rows * (code_width * dtype.itemsize + 8) + codes,
    )
