"""One query against at most `W` keys for each of `P * H` rows: bandwidth is all, so a page is read once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.kernels.arguments import (
    FLOATS,
    MAX_POSITIONS,
    check_apart,
    check_head_width,
    check_range,
    check_tensor,
)
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import (
    TRITON_TYPES,
    Config,
    Kernel,
    Variant,
    capability_of,
    check_device,
    config,
    on_device,
)
from genie_rt.kernels.norm_qkv.reference import EPS
from genie_rt.kernels.quantise.kernel import FP8
from genie_rt.kernels.quantise.reference import FP8_MAX
from genie_rt.kernels.shapes import SHAPES

MAX_FRAMES = 2
"""Query frames of a row: the newest one, and the one before it where its commit is fused."""

MAX_WINDOW = 64
MAX_SESSIONS = 1024
MAX_WIDTH = 2**14
"""Largest width of all heads: offsets in a frame's qkv, `3 * MAX_POSITIONS * MAX_WIDTH`, are int32."""

_SIZES = (
    "layer", "num_pages", "num_layers", "batch_size", "positions", "queries", "heads", "index_stride"
)  # fmt: skip
"""Arguments that are not to be specialised for 1 or for multiples of 16: one binary serves every layer."""

_EPS = tl.constexpr(EPS)
_LOG2E = tl.constexpr(1.4426950408889634)  # exp2 is one instruction, so scores are kept in its units
_FP8_MAX = tl.constexpr(FP8_MAX)
_EXPONENT = tl.constexpr(0x7F800000)  # these bits of an fp32 number alone are the power of 2 below it
_SMALLEST_NORMAL = tl.constexpr((127 - 6) << 23)  # 2**-6
_TO_ANCHOR = tl.constexpr(20 << 23 | 1 << 22)  # a power of 2 to 1.5 * 2**20 of it
_SIGN = tl.constexpr(-(2**31))


@triton.jit
def _load(pointer, offsets, inside):
    """A tile in fp32; zeros outside."""
    return tl.load(pointer + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _normed(x, weight):
    """RMSNorm of the rows of `[R, Dh]`."""
    scale = tl.rsqrt(tl.sum(x * x, 1) / x.shape[1] + _EPS)
    return x * scale[:, None] * weight[None, :]


@triton.jit
def round_to_e4m3(x):
    """`x` fp32 on the grid of e4m3, in fp32: to nearest even, 448 where it is beyond; NaN stays.

    A cast to e4m3 is exact then. Casts alone round differently on a GPU and in Triton's interpreter.
    """
    x = tl.maximum(x, -_FP8_MAX, propagate_nan=tl.PropagateNan.ALL)
    x = tl.minimum(x, _FP8_MAX, propagate_nan=tl.PropagateNan.ALL)
    bits = x.to(tl.int32, bitcast=True)
    power = tl.maximum(bits & _EXPONENT, _SMALLEST_NORMAL)
    # around the anchor floats are as far apart as e4m3 is around x, an eighth of that power: the sum rounds
    anchor = (power + _TO_ANCHOR).to(tl.float32, bitcast=True)
    rounded = (x + anchor) - anchor
    return (rounded.to(tl.int32, bitcast=True) | (bits & _SIGN)).to(tl.float32, bitcast=True)  # -0 stays


@triton.jit
def _query_frame(
    qkv, offsets, inside, heads, q_weight, k_weight, DH: tl.constexpr, page_number: tl.constexpr
):
    """q with the scale of its scores, k and v as a page holds them: `[R, Dh]` fp32 each, normed."""
    q = _normed(_load(qkv, offsets, inside), q_weight) * (_LOG2E * DH**-0.5)
    k = _normed(_load(qkv, offsets + heads * DH, inside), k_weight)
    v = _load(qkv, offsets + 2 * heads * DH, inside)
    if page_number == tl.float8e4nv:
        return q, round_to_e4m3(k), round_to_e4m3(v)
    else:  # v has that precision already
        return q, k.to(page_number).to(tl.float32), v


@triton.jit
def _store_page(start, page_size, half, in_page, kept, page, num_pages, k, v, DH: tl.constexpr):
    """Write `k` and `v`, `[R, Dh]`, unless there is no such page."""
    to = start + page.to(tl.int64) * page_size + in_page
    in_pages = tl.where(
        kept, page, -1
    )  # a block: Triton 3.9's interpreter takes no mask made of a scalar bool
    mask = ((in_pages >= 0) & (in_pages < num_pages))[:, None]
    tl.store(to, k.to(start.dtype.element_ty), mask=mask)
    tl.store(to + half * DH, v.to(start.dtype.element_ty), mask=mask)


@triton.jit
def _load_past(
    layer_start,
    page_size,
    half,
    in_run,
    kept_run,
    in_table,
    num_pages,
    first,
    end,
    R: tl.constexpr,
    DH: tl.constexpr,
    AGES: tl.constexpr,
    STREAMED: tl.constexpr,
):
    """Frames from age `first` on, below `end`: age and existence `[A]`, keys and values `[A, R, Dh]`.

    They are loaded as `[A, R Dh]`: of three axes compilers differ in which they take to be contiguous.
    """
    age = first + tl.arange(0, AGES)
    page = tl.load(in_table + age, mask=age < end, other=-1)
    exists = (page >= 0) & (page < num_pages)
    start = layer_start + page.to(tl.int64)[:, None] * page_size + in_run[None, :]
    mask = exists[:, None] & kept_run[None, :]
    policy: tl.constexpr = "evict_first" if STREAMED else ""
    k = tl.load(start, mask=mask, other=0.0, eviction_policy=policy)
    v = tl.load(start + half * DH, mask=mask, other=0.0, eviction_policy=policy)
    return age, exists, tl.reshape(k, [AGES, R, DH]), tl.reshape(v, [AGES, R, DH])


@triton.jit
def _scores(q, k, in_bias, age, seen):
    """`[A, R]` in units of exp2, of one query frame.

    `q`: `[R, Dh]`; `k`: `[A, R, Dh]`; `in_bias`: `[R]` pointers to age 0; `age`: `[A]`; `seen`: `[A, R]`.
    """
    bias = tl.load(in_bias[None, :] + age[:, None], mask=seen, other=0.0).to(tl.float32) * _LOG2E
    score = tl.sum(k.to(tl.float32) * q[None, :, :], 2) + bias
    return tl.where(seen, score, float("-inf"))


@triton.jit
def _weights(score, top, total):
    """Continue a softmax whose largest score and sum are `top` and `total` `[R]` so far.

    Returns the weights `[A, R]` of the new frames, by how much earlier ones shrink, and the new two.
    """
    new_top = tl.maximum(top, tl.max(score, 0))  # finite, for every query has seen itself
    weight = tl.exp2(score - new_top[None, :])
    shrink = tl.exp2(top - new_top)
    return weight, shrink, new_top, total * shrink + tl.sum(weight, 0)


@triton.jit
def _add(out, shrink, weight, v):
    """`out` `[R, Dh]` with more frames' values `[A, R, Dh]`."""
    return out * shrink[:, None] + tl.sum(v.to(tl.float32) * weight[:, :, None], 0)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=("table", "index"))
def _temporal_attention(
    qkv,
    q_weight,
    k_weight,
    bias,
    pages,
    table,
    index,
    out,
    layer,
    num_pages,
    num_layers,
    batch_size,
    positions,
    queries,
    heads,
    index_stride,
    FRAMES: tl.constexpr,
    WINDOW: tl.constexpr,
    DH: tl.constexpr,
    INDEXED: tl.constexpr,
    BYTES: tl.constexpr,
    AGES: tl.constexpr,
    STREAMED: tl.constexpr,
):
    """`out = softmax(norm(q) k^T / sqrt(Dh) + bias[age]) v`, and the page write of the query frames.

    A row is one head of one position, `Dh` numbers. A program takes `R` rows of all query frames of one
    session: at any age their keys are one contiguous run of `BYTES`, and their values another. It walks
    through the past by `AGES` frames at a time, so every thread has that many independent 16-byte loads of
    keys, and as many of values, in flight. What is read stays in registers and serves all query frames.
    Sessions follow each other within the grid, so that those which share a past share its reads in L2.
    """
    page_number: tl.constexpr = pages.dtype.element_ty
    R: tl.constexpr = BYTES * 8 // (DH * page_number.primitive_bitwidth)
    END: tl.constexpr = WINDOW - 1 + FRAMES
    row = tl.program_id(0) // batch_size * R + tl.arange(0, R)
    run = tl.program_id(0) // batch_size * (R * DH) + tl.arange(0, R * DH)  # the rows' numbers, one by one
    batch = (tl.program_id(0) % batch_size).to(tl.int64)
    dim = tl.arange(0, DH)
    head = row % heads
    position = row // heads
    inside = row < queries * heads
    here = inside[:, None]
    in_out = (row * DH)[:, None] + dim[None, :]
    in_qkv = ((3 * position * heads + head) * DH)[:, None] + dim[None, :]
    if INDEXED:
        position = tl.load(index + batch * index_stride + position, mask=inside, other=-1)
        kept = inside & (position >= 0) & (position < positions)
        in_page = ((position * heads + head) * DH)[:, None] + dim[None, :]
        here_run = run < queries * heads * DH
        place = tl.load(index + batch * index_stride + run // DH // heads, mask=here_run, other=-1)
        kept_run = here_run & (place >= 0) & (place < positions)
        in_run = (place * heads + run // DH % heads) * DH + run % DH
    else:
        kept = inside
        in_page = in_out
        kept_run = run < queries * heads * DH
        in_run = run
    half = positions * heads  # rows of a page's keys in one layer; those of its values come behind
    layer_size = half.to(tl.int64) * (2 * DH)
    page_size = num_layers * layer_size
    start = pages + layer * layer_size
    in_table = table + batch * END
    in_bias = bias + head * WINDOW

    # The first loads of the past leave before anything is waited for.
    if WINDOW > 1:
        age, exists, keys, values = _load_past(
            start, page_size, half, in_run, kept_run, in_table, num_pages,
            FRAMES, END, R, DH, AGES, STREAMED,
        )  # fmt: skip

    newest = batch * FRAMES + FRAMES - 1
    frame_size = queries.to(tl.int64) * heads * DH
    q_scale = tl.load(q_weight + dim).to(tl.float32)
    k_scale = tl.load(k_weight + dim).to(tl.float32)
    bias_self = tl.load(in_bias, mask=inside, other=0.0).to(tl.float32) * _LOG2E
    q, k, v = _query_frame(
        qkv + newest * 3 * frame_size, in_qkv, here, heads, q_scale, k_scale, DH, page_number
    )
    _store_page(start, page_size, half, in_page, kept, tl.load(in_table), num_pages, k, v, DH)
    top = tl.sum(q * k, 1) + bias_self
    total = tl.full([R], 1.0, tl.float32)
    acc = v
    if FRAMES == 2:
        q1, k, v = _query_frame(
            qkv + (newest - 1) * 3 * frame_size, in_qkv, here, heads, q_scale, k_scale, DH, page_number
        )
        _store_page(start, page_size, half, in_page, kept, tl.load(in_table + 1), num_pages, k, v, DH)
        top1 = tl.sum(q1 * k, 1) + bias_self
        total1 = tl.full([R], 1.0, tl.float32)
        acc1 = v
        if WINDOW > 1:
            score = tl.sum(q * k, 1) + tl.load(in_bias + 1, mask=inside, other=0.0).to(tl.float32) * _LOG2E
            new_top = tl.maximum(top, score)
            weight = tl.exp2(score - new_top)
            shrink = tl.exp2(top - new_top)
            top = new_top
            total = total * shrink + weight
            acc = acc * shrink[:, None] + v * weight[:, None]

    for first in tl.static_range(FRAMES, END, AGES):
        if first > FRAMES:
            age, exists, keys, values = _load_past(
                start, page_size, half, in_run, kept_run, in_table, num_pages,
                first, END, R, DH, AGES, STREAMED,
            )  # fmt: skip
        # both query frames take the keys, then both the values: widened to fp32 these fill most registers
        seen = (exists & (age < WINDOW))[:, None] & kept[None, :]
        score = _scores(q, keys, in_bias, age, seen)
        if FRAMES == 2:  # all is one frame younger to the older query frame
            score1 = _scores(q1, keys, in_bias, age - 1, exists[:, None] & kept[None, :])
        weight, shrink, top, total = _weights(score, top, total)
        if FRAMES == 2:
            weight1, shrink1, top1, total1 = _weights(score1, top1, total1)
        acc = _add(acc, shrink, weight, values)
        if FRAMES == 2:
            acc1 = _add(acc1, shrink1, weight1, values)

    dtype: tl.constexpr = out.dtype.element_ty
    tl.store(out + newest * frame_size + in_out, (acc / total[:, None]).to(dtype), mask=here)
    if FRAMES == 2:
        tl.store(out + (newest - 1) * frame_size + in_out, (acc1 / total1[:, None]).to(dtype), mask=here)


AUTOTUNE_SPACE = (
    config(4, 1, BYTES=2048, AGES=8, STREAMED=1),
    config(4, 1, BYTES=2048, AGES=16, STREAMED=1),
    config(4, 1, BYTES=2048, AGES=4, STREAMED=1),
    config(4, 1, BYTES=2048, AGES=2, STREAMED=1),
    config(8, 1, BYTES=4096, AGES=8, STREAMED=1),
    config(8, 1, BYTES=4096, AGES=16, STREAMED=1),
    config(2, 1, BYTES=1024, AGES=8, STREAMED=1),
    config(2, 1, BYTES=1024, AGES=16, STREAMED=1),
    config(1, 1, BYTES=512, AGES=8, STREAMED=1),
    config(1, 1, BYTES=512, AGES=16, STREAMED=1),
    config(4, 1, BYTES=2048, AGES=8, STREAMED=0),
    config(4, 1, BYTES=2048, AGES=4, STREAMED=0),
    config(4, 1, BYTES=2048, AGES=2, STREAMED=0),
    config(8, 1, BYTES=4096, AGES=8, STREAMED=0),
    config(2, 1, BYTES=1024, AGES=8, STREAMED=0),
)
"""`BYTES`: of a program's keys at one age; 16 a thread. `AGES` that are read at a time: more put more bytes
in flight, and fewer leave registers for more programs beside each other; pages in 8 bits take the most, for
16 bytes are 16 numbers. `STREAMED`: what was read leaves L2 first, for nothing reads it again in this pass,
unless sessions share their past."""


def _variant(
    dtype: torch.dtype, page_dtype: torch.dtype, head_width: int, window: int, frames: int, indexed: bool
) -> str:
    numbers = "-".join(TRITON_TYPES[kind] for kind in dict.fromkeys((dtype, page_dtype)))
    name = f"{numbers}-dh{head_width}-w{window}-t{frames}"
    return f"{name}-indexed" if indexed else name


def _variants() -> tuple[Variant, ...]:
    """Pages in 8 bits go with 16 bits: who runs fp32 does not want them."""
    found = {}
    formats = [(dtype, dtype) for dtype in FLOATS] + [(dtype, FP8.dtype) for dtype in FLOATS[1:]]
    for dtype, page_dtype in formats:
        number = f"*{TRITON_TYPES[dtype]}"
        types = dict.fromkeys(("qkv", "q_weight", "k_weight", "bias"), number)
        types |= {"pages": f"*{TRITON_TYPES[page_dtype]}", "table": "*i32", "index": "*i32", "out": number}
        types |= dict.fromkeys(_SIZES, "i32")
        for shape in SHAPES.values():
            for frames, indexed in ((1, False), (2, False), (1, True)):
                name = _variant(dtype, page_dtype, shape.head_width, shape.window, frames, indexed)
                found[name] = Variant(
                    name=name,
                    types=types,
                    constants={
                        "FRAMES": frames,
                        "WINDOW": shape.window,
                        "DH": shape.head_width,
                        "INDEXED": indexed,
                    },
                    capability=FP8.capability if page_dtype == FP8.dtype else 80,
                )
    return tuple(found.values())


KERNEL = Kernel(
    name="temporal_attention", function=_temporal_attention, space=AUTOTUNE_SPACE, variants=_variants()
)
KERNELS = (KERNEL,)


def temporal_attention(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    pages: Tensor,
    table: Tensor,
    layer: int,
    index: Tensor | None = None,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Launch `paged_temporal_attention` on the current stream; does not synchronise.

    Queries and softmax stay in fp32. Keys and values are rounded to the dtype of `pages` before a query frame
    attends to them, so that they are those that later frames will read. Numbers in `table` outside of
    `0 ... num_pages-1` are no pages and numbers in `index` outside of `0 ... P-1` are no positions: neither
    is read or written there.

    Args:
        qkv: `[B, T, Q, 3, H, Dh]` fp32, fp16 or bf16, contiguous; T is 1 or 2.
        q_weight, k_weight, bias: `[Dh]`, `[Dh]`, `[H, W]`, in the dtype of `qkv` or fp32; W at most 64.
        pages: `[num_pages, L, 2, P, H, Dh]` in the dtype of `qkv`, or float8_e4m3fn from sm_89 on; the query
            frames' pages are written.
        table: `[B, W - 1 + T]` int32. No page that is written is named a second time.
        layer: in `0 ... L-1`.
        index: `[B or 1, Q]` int32, with T = 1; None where Q = P.
        out: `[B, T, Q, H, Dh]` in the dtype of `qkv`, memory of its own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Raises:
        InputError, UnsupportedError: an argument is not as above, or the device has no fp8.
    """
    check_device(qkv, KERNEL)
    check_tensor("qkv", qkv, (None, None, None, 3, None, None), FLOATS)
    batch, frames, queries, _, heads, head_width = qkv.shape
    check_head_width(head_width)
    check_range("sessions", batch, 1, MAX_SESSIONS)
    check_range("query frames", frames, 1, MAX_FRAMES)
    check_range("queries", queries, 1, MAX_POSITIONS)
    check_tensor("pages", pages, (None, None, 2, None, heads, head_width), (qkv.dtype, FP8.dtype), like=qkv)
    _check_has(pages.dtype, qkv.device)
    num_pages, num_layers, _, positions = pages.shape[:4]
    check_range("positions", positions, 1, MAX_POSITIONS)
    check_range("heads", heads, 1, MAX_WIDTH // head_width)
    weights = (qkv.dtype, torch.float32)
    check_tensor("q_weight", q_weight, (head_width,), weights, like=qkv)
    check_tensor("k_weight", k_weight, (head_width,), weights, like=qkv)
    check_tensor("bias", bias, (heads, None), weights, like=qkv)
    window = check_range("window", bias.shape[1], 1, MAX_WINDOW)
    check_tensor("table", table, (batch, window - 1 + frames), (torch.int32,), like=qkv)
    if not 0 <= layer < num_layers:
        raise InputError(f"layer: expected 0 to {num_layers - 1}, found {layer}")
    if index is None and queries != positions:
        raise InputError(f"qkv: expected all {positions} positions of a page, found {queries}; give index")
    if index is not None:
        if frames != 1:
            raise UnsupportedError(f"query frames: expected 1 together with index, found {frames}")
        check_tensor("index", index, (None, queries), (torch.int32,), like=qkv)
        if len(index) not in (1, batch):
            raise InputError(f"index: expected 1 or {batch} rows, found {len(index)}")
    if out is None:
        out = torch.empty(batch, frames, queries, heads, head_width, dtype=qkv.dtype, device=qkv.device)
    else:
        check_tensor("out", out, (batch, frames, queries, heads, head_width), (qkv.dtype,), like=qkv)
    inputs = {
        "qkv": qkv, "q_weight": q_weight, "k_weight": k_weight, "bias": bias, "table": table, "index": index
    }  # fmt: skip
    check_apart(out=out, pages=pages, **inputs)
    check_apart(pages=pages, **inputs)

    indexed = index is not None
    variant = _variant(qkv.dtype, pages.dtype, head_width, window, frames, indexed)
    chosen = config or KERNEL.config_for(variant, qkv.device)
    program_rows = dict(chosen.blocks)["BYTES"] // (head_width * pages.element_size())
    grid = (batch * triton.cdiv(queries * heads, program_rows),)
    with on_device(qkv.device):
        KERNEL.launch(
            grid, chosen,
            qkv, q_weight, k_weight, bias, pages, table, table if index is None else index, out,
            layer, num_pages, num_layers, batch, positions, queries, heads,
            queries if index is not None and len(index) > 1 else 0,
            FRAMES=frames, WINDOW=window, DH=head_width, INDEXED=indexed,
        )  # fmt: skip
    return out


def _check_has(page_dtype: torch.dtype, device: torch.device) -> None:
    """Raise `UnsupportedError` if a device does not know the numbers of the pages."""
    capability = capability_of(device)
    if page_dtype == FP8.dtype and 0 < capability < FP8.capability:
        raise UnsupportedError(
            f"pages: expected a device of compute capability {FP8.capability // 10}.{FP8.capability % 10} or "
            f"later for float8_e4m3fn, found {capability // 10}.{capability % 10}; keep them in the dtype of "
            "qkv"
        )


def cost(
    dtype: torch.dtype, *, batch: int, frames: int, queries: int, heads: int, head_width: int, window: int,
    past: int | None = None, written: int = 0, page_dtype: torch.dtype | None = None,
) -> Cost:  # fmt: skip
    """Cost if every row reads `past` pages (None: all that its query frames see) and writes `written`.

    Pages are in `page_dtype`; None: as the rest. Both products count as matrix products, which they are,
    though with one query a key they run on vector units and hide behind the bytes.
    """
    past = window - 1 if past is None else past
    frame = queries * heads * head_width  # numbers of q, k or v of one frame
    keys = past + frames  # of the newest query frame; the older one sees one fewer query frame, one more past
    small = (2 * head_width + heads * window) * dtype.itemsize + batch * (window - 1 + frames) * 4
    moved = (3 + 1) * frames * dtype.itemsize  # qkv, out
    moved += 2 * (past + written) * (page_dtype or dtype).itemsize
    return Cost(
        flops=4 * batch * sum(min(keys - own, window) for own in range(frames)) * frame,
        bytes=batch * moved * frame + small,
    )
