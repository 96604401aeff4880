"""Attention among the positions of one frame, with QK-norm: flash attention that norms what it loads.

How the norm is fused. With `r(x) = rsqrt(mean(x^2) + eps)` a score of a query and a key is

    (q r(q) w_q) . (k r(k) w_k) = (q r(q) w_q w_k) . k * r(k)

so a program scales its queries by both weights once, multiplies raw keys on the tensor cores, and scales the
columns of the scores. A program has to see every key, so whatever it does to one is done by all `Q / BLOCK_M`
programs of a head. To norm a tile itself takes 4 to 5 vector operations for each number of the keys, and a
way back to shared memory that the matrix product waits for. A sum of squares takes 2, and the product does
not wait: with `BLOCK_M = Dh` these are 2 operations for each score beside about 8 of the softmax. The scaling
costs none, for the columns need a multiply-add in any case, for the softmax's scale and for the mask. Norms
from a launch of their own would save those 2, but read the keys once more, which a small frame notices most.

What `kept` receives is the normed key in its dtype. A call with `index` attends to these; a call without
attends to raw keys, which are exact. So with one configuration results do not depend on whether anything is
kept, and the two modes differ by one rounding of the keys.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.arguments import (
    FLOATS,
    HEAD_WIDTHS,
    MAX_POSITIONS,
    check_apart,
    check_head_width,
    check_range,
    check_tensor,
)
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import TRITON_TYPES, Config, Kernel, Variant, check_device, config, on_device
from genie_rt.kernels.norm_qkv.reference import EPS

MAX_WIDTH = 2**15
"""Largest `H * Dh`: offsets within a frame are 32 bits."""

MAX_PROGRAMS = 2**31 - 1
ENOUGH_BLOCKS = 128
"""Blocks of 64 queries: with fewer of them there are multiprocessors left over, and smaller blocks pay."""

_EPS = tl.constexpr(EPS)
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _inverse_rms(x, DH: tl.constexpr):
    """`1 / sqrt(mean(x^2) + eps)` of each row of `[rows, DH]` fp32."""
    return tl.rsqrt(tl.sum(x * x, 1) / DH + _EPS)


@triton.jit(do_not_specialize=("num_queries", "num_positions", "heads", "blocks"))
def _attend(
    qkv,
    q_weight,
    k_weight,
    kept,
    out,
    num_queries,
    num_positions,
    heads,
    blocks,
    FROM_KEPT: tl.constexpr,
    STORE: tl.constexpr,
    DH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """`softmax(norm(q) norm(k)^T / sqrt(Dh)) v`: `BLOCK_M` queries of one frame and head a program.

    Keys and values come by tiles of `BLOCK_N`. Maximum and sum of a row are carried along (online softmax,
    Milakov and Gimelshein 2018, arXiv 1805.02867; Dao 2023, arXiv 2307.08691), in base 2:

        s = scale log2(e) q k^T,   m' = max(m, max s),   p = 2^(s - m')
        l' = l 2^(m - m') + sum p,   o' = o 2^(m - m') + p v,   out = o / l

    FROM_KEPT: keys (normed) and values are those of `kept`, else those of `qkv`, which come raw.
    STORE: a program also writes keys and values at its own positions to `kept`.
    """
    frame_head = tl.program_id(0) // blocks  # blocks of one head are neighbours, so L2 holds its keys
    frame = (frame_head // heads).to(tl.int64)
    head = frame_head % heads
    width = heads * DH
    channels = tl.arange(0, DH)
    queries = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    asked = (queries < num_queries)[:, None]

    source = qkv + frame * num_queries * 3 * width + head * DH
    q_pointers = source + queries[:, None] * (3 * width) + channels[None, :]
    if STORE:
        target = kept + frame * 2 * num_positions * width + head * DH
        target += queries[:, None] * width + channels[None, :]
        own = tl.load(q_pointers + width, mask=asked, other=0.0).to(tl.float32)
        own = own * _inverse_rms(own, DH)[:, None]
        own = own * tl.load(k_weight + channels).to(tl.float32)[None, :]
        tl.store(target, own.to(kept.dtype.element_ty), mask=asked)
        own_v = tl.load(q_pointers + 2 * width, mask=asked, other=0.0)
        tl.store(target + num_positions * width, own_v, mask=asked)

    q = tl.load(q_pointers, mask=asked, other=0.0)
    wide = q.to(tl.float32)
    wide = wide * _inverse_rms(wide, DH)[:, None]
    wide = wide * tl.load(q_weight + channels).to(tl.float32)[None, :]
    if not FROM_KEPT:
        wide = wide * tl.load(k_weight + channels).to(tl.float32)[None, :]
    q = wide.to(q.dtype)

    if FROM_KEPT:
        stride = width
        keys = kept + frame * 2 * num_positions * width + head * DH
        values = keys + num_positions * width
    else:
        stride = 3 * width
        keys = source + width
        values = source + 2 * width
    tile = tl.arange(0, BLOCK_N)
    within = tile[:, None] * stride + channels[None, :]

    scale = DH**-0.5 * _LOG2_E
    maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    summed = tl.zeros([BLOCK_M, DH], tl.float32)
    for start in range(0, num_positions, BLOCK_N):
        there = tile < num_positions - start  # never empty, so that every maximum is finite
        k = tl.load(keys + start * stride + within, mask=there[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if FROM_KEPT:
            column = tl.full([BLOCK_N], scale, tl.float32)
        else:
            column = _inverse_rms(k.to(tl.float32), DH) * scale
        hidden = tl.where(there, 0.0, float("-inf"))
        scores = scores * column[None, :] + hidden[None, :]
        larger = tl.maximum(maximum, tl.max(scores, 1))
        p = tl.exp2(scores - larger[:, None])
        shrink = tl.exp2(maximum - larger)
        total = total * shrink + tl.sum(p, 1)
        v = tl.load(values + start * stride + within, mask=there[:, None], other=0.0)
        summed = tl.dot(p.to(v.dtype), v, summed * shrink[:, None], input_precision="ieee")
        maximum = larger

    result = (summed / total[:, None]).to(out.dtype.element_ty)
    out_pointers = out + frame * num_queries * width + head * DH
    tl.store(out_pointers + queries[:, None] * width + channels[None, :], result, mask=asked)


@triton.jit(do_not_specialize=("num_queries", "num_positions", "heads", "index_stride", "blocks"))
def _replace(
    qkv,
    k_weight,
    index,
    kept,
    num_queries,
    num_positions,
    heads,
    index_stride,
    blocks,
    DH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """`kept[f, :, index[f, i]] = norm(k[f, i]), v[f, i]`: `ROWS` of the `Q * H` key vectors of a frame.

    What `index` places outside `0 ... P-1` is not written.
    """
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)  # heads of a position are neighbours
    query, head = row // heads, row % heads
    asked = row < num_queries * heads
    position = tl.load(index + frame * index_stride + query, mask=asked, other=-1)
    asked = (asked & (position >= 0) & (position < num_positions))[:, None]

    channels = tl.arange(0, DH)
    weight = tl.load(k_weight + channels).to(tl.float32)
    width = heads * DH
    source = qkv + frame * num_queries * 3 * width + width
    source += query[:, None] * (3 * width) + head[:, None] * DH + channels[None, :]
    k = tl.load(source, mask=asked, other=0.0).to(tl.float32)
    v = tl.load(source + width, mask=asked, other=0.0)
    k = k * _inverse_rms(k, DH)[:, None] * weight[None, :]

    target = kept + frame * 2 * num_positions * width
    target += position[:, None] * width + head[:, None] * DH + channels[None, :]
    tl.store(target, k.to(kept.dtype.element_ty), mask=asked)
    tl.store(target + num_positions * width, v, mask=asked)


AUTOTUNE_SPACE = (
    config(4, 3, BLOCK_M=64, BLOCK_N=32),
    config(4, 2, BLOCK_M=64, BLOCK_N=64),
    config(4, 3, BLOCK_M=64, BLOCK_N=64),
    config(8, 3, BLOCK_M=128, BLOCK_N=64),
    config(8, 2, BLOCK_M=128, BLOCK_N=128),
    config(4, 3, BLOCK_M=128, BLOCK_N=64),  # for Dh <= 64
    config(4, 2, BLOCK_M=64, BLOCK_N=128),  # for Dh <= 64
    config(4, 3, BLOCK_M=32, BLOCK_N=64),  # these for small grids
    config(4, 2, BLOCK_M=32, BLOCK_N=128),
    config(4, 3, BLOCK_M=16, BLOCK_N=64),
    config(4, 2, BLOCK_M=16, BLOCK_N=128),
)

FP32_SPACE = (  # products of true fp32 run on vector units, out of registers
    config(4, 2, BLOCK_M=16, BLOCK_N=32),
    config(4, 2, BLOCK_M=32, BLOCK_N=32),
)

REPLACE_SPACE = (
    config(4, 1, ROWS=32),
    config(4, 1, ROWS=16),
    config(4, 1, ROWS=64),
    config(8, 1, ROWS=64),
)


def _variant(name: str, head_width: int, few: bool, mode: str) -> str:
    return f"{name}-dh{head_width}-{'few' if few else 'many'}-{mode}"


def _attend_variants(names: tuple[str, ...], sizes: tuple[tuple[int, bool], ...]) -> tuple[Variant, ...]:
    """Args: sizes: head widths, and whether blocks are few."""
    variants = []
    for name in names:
        for head_width, few in sizes:
            for mode in ("plain", "store", "kept"):
                pointers = ("qkv", "q_weight", "k_weight", "kept", "out")
                constants = {"FROM_KEPT": mode == "kept", "STORE": mode == "store", "DH": head_width}
                variants.append(
                    Variant(
                        name=_variant(name, head_width, few, mode),
                        types={
                            **{pointer: f"*{name}" for pointer in pointers},
                            **dict.fromkeys(("num_queries", "num_positions", "heads", "blocks"), "i32"),
                        },
                        constants={**constants, "kept": None} if mode == "plain" else constants,
                    )
                )
    return tuple(variants)


KERNEL = Kernel(
    name="spatial_attention",
    function=_attend,
    space=AUTOTUNE_SPACE,
    variants=_attend_variants(
        ("bf16", "fp16"), ((32, True), (64, True), (64, False), (128, True), (128, False))
    ),
)

FP32 = Kernel(
    name="spatial_attention_fp32",
    function=_attend,
    space=FP32_SPACE,
    variants=_attend_variants(("fp32",), ((32, True), (64, True), (128, False))),
)

REPLACE = Kernel(
    name="spatial_replace",
    function=_replace,
    space=REPLACE_SPACE,
    variants=tuple(
        Variant(
            name=f"{name}-dh{head_width}",
            types={
                **{pointer: f"*{name}" for pointer in ("qkv", "k_weight")},
                "index": "*i32",
                "kept": f"*{name}",
                **dict.fromkeys(("num_queries", "num_positions", "heads", "index_stride", "blocks"), "i32"),
            },
            constants={"DH": head_width},
        )
        for name in ("bf16", "fp16", "fp32")
        for head_width in HEAD_WIDTHS
    ),
)

KERNELS = (KERNEL, FP32, REPLACE)


def spatial_attention(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    index: Tensor | None = None,
    kept: Tensor | None = None,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
    replace_config: Config | None = None,
) -> Tensor:
    """`reference.spatial_attention_kept` on a GPU: one launch, and one more before it with `index`.

    Writes `kept` in place. Runs on the current stream, waits for nothing, and allocates nothing where `out`
    is given.

    Args:
        qkv: `[F, Q, 3, H, Dh]` fp32, fp16 or bf16, contiguous, before QK-norm; `Dh` 32, 64 or 128.
        q_weight, k_weight: `[Dh]` in that dtype or fp32.
        index: `[F or 1, Q]` int32, positions of the queries, distinct within a row; None where all `P = Q`
            positions are computed. What lies outside `0 ... P-1` replaces nothing in `kept`.
        kept: `[F, 2, P, H, Dh]`, dtype of `qkv`, contiguous: normed keys, and values. Needed with `index`.
        out: `[F, Q, H, Dh]`, dtype of `qkv`, contiguous, apart from all else.
        config, replace_config: launch configurations in place of the committed ones.

    Returns:
        `out`.

    Raises:
        InputError: a shape, layout, device or overlap that the kernels cannot take.
        UnsupportedError: a dtype or size that they were not made for.
    """
    check_device(qkv, KERNEL)
    check_tensor("qkv", qkv, (None, None, 3, None, None), FLOATS)
    frames, queries, _, heads, head_width = qkv.shape
    check_head_width(head_width)
    positions = queries if kept is None else _positions(kept, qkv)
    check_range("positions", positions, 1, MAX_POSITIONS)
    check_range("queries", queries, 0, MAX_POSITIONS)
    check_range("H * Dh", heads * head_width, 1, MAX_WIDTH)
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        check_tensor(name, weight, (head_width,), (qkv.dtype, torch.float32), like=qkv)
    if index is not None:
        check_tensor("index", index, (None, queries), (torch.int32,), like=qkv)
        if len(index) not in (1, frames):
            raise InputError(f"index: expected 1 row or one for each of {frames} frames, found {len(index)}")
        if kept is None:
            raise InputError("kept: expected keys and values to attend to, since index is given; found None")
    elif positions != queries:
        raise InputError(
            f"qkv: expected all {positions} positions of kept, found {queries}; say with index which they are"
        )
    if kept is not None:
        check_apart(kept=kept, qkv=qkv, q_weight=q_weight, k_weight=k_weight, index=index)
    if out is None:
        out = torch.empty((frames, queries, heads, head_width), dtype=qkv.dtype, device=qkv.device)
    else:
        check_tensor("out", out, (frames, queries, heads, head_width), (qkv.dtype,), like=qkv)
        check_apart(out=out, qkv=qkv, q_weight=q_weight, k_weight=k_weight, index=index, kept=kept)

    name = TRITON_TYPES[qkv.dtype]
    few = frames * heads * triton.cdiv(queries, 64) < ENOUGH_BLOCKS
    mode = "kept" if index is not None else "plain" if kept is None else "store"
    kernel = FP32 if qkv.dtype == torch.float32 else KERNEL
    config = config or kernel.config_for(_variant(name, head_width, few, mode), qkv.device)
    blocks = triton.cdiv(queries, dict(config.blocks)["BLOCK_M"])
    check_range("F * H * blocks of queries", frames * heads * blocks, 0, MAX_PROGRAMS)
    if not out.numel():
        return out
    with on_device(qkv.device):
        if index is not None and kept is not None:
            _launch_replace(qkv, k_weight, index, kept, replace_config)
        kernel.launch(
            (frames * heads * blocks,), config,
            qkv, q_weight, k_weight, kept, out, queries, positions, heads, blocks,
            FROM_KEPT=mode == "kept", STORE=mode == "store", DH=head_width,
        )  # fmt: skip
    return out


def cost(
    frames: int,
    queries: int,
    positions: int,
    heads: int,
    head_width: int,
    dtype: torch.dtype,
    *,
    indexed: bool = False,
    keep: bool = False,
) -> Cost:
    """Two products of `Q x P x Dh` a head; `qkv` in, `out` out, and of `kept` what is written or only there.

    Args:
        indexed: with `index` (one row), and so with `kept`. keep: `kept` is written, all of it.
    """
    vectors = 4 * queries  # of Dh numbers, a frame and head: three of qkv and one of out
    if indexed or keep:
        vectors += 2 * positions  # keys and values: Q of them written, and the other P - Q read
    return Cost(
        flops=4 * frames * heads * queries * positions * head_width,
        bytes=(frames * heads * vectors + 2) * head_width * dtype.itemsize + (4 * queries if indexed else 0),
    )


def _positions(kept: Tensor, qkv: Tensor) -> int:
    """`P`, of a `kept` that fits `qkv`."""
    frames, _, _, heads, head_width = qkv.shape
    check_tensor("kept", kept, (frames, 2, None, heads, head_width), (qkv.dtype,), like=qkv)
    return kept.shape[2]


def _launch_replace(
    qkv: Tensor, k_weight: Tensor, index: Tensor, kept: Tensor, config: Config | None
) -> None:
    frames, queries, _, heads, head_width = qkv.shape
    config = config or REPLACE.config_for(f"{TRITON_TYPES[qkv.dtype]}-dh{head_width}", qkv.device)
    blocks = triton.cdiv(queries * heads, dict(config.blocks)["ROWS"])
    REPLACE.launch(
        (frames * blocks,), config,
        qkv, k_weight, index, kept, queries, kept.shape[2], heads,
        0 if len(index) == 1 else queries, blocks,
        DH=head_width,
    )  # fmt: skip
