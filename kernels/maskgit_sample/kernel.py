"""Token decisions of a pass: one launch samples every token, another keeps the most confident.

Only device tensors say what changes from frame to frame, and no launch reads what another program of the
same launch writes: a CUDA graph may hold both, and any order of their programs gives the same result.
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.arguments import FLOATS, MAX_POSITIONS, check_apart, check_range, check_tensor
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
from genie_rt.kernels.maskgit_sample.reference import LIKELY, RANKINGS
from genie_rt.kernels.philox.kernel import uniform_pair
from genie_rt.kernels.philox.reference import STREAM_SAMPLE

MAX_CODES = 16384
MAX_TOKENS = 4 * MAX_POSITIONS
ONE_WAVE = 1024
"""Tokens that a device samples all at once, where latency counts; beyond, bytes do."""

THREAD_ELEMENTS = 32
"""Logits that one thread holds, at most."""

_STREAM = tl.constexpr(STREAM_SAMPLE)
_LOWEST = tl.constexpr(-(2**63))


@triton.jit
def gumbel(u):
    """`-log(-log(u + 2**-25))` of a multiple of 2**-24, to 6 units of 2**-24 (1 + |result|).

    `u + 2**-25` needs 25 bits from 1/2 on, and there its logarithm is small: `log1p` of what is missing to 1,
    which fp32 holds exactly. `log1p(-d) = log(w) d / (1 - w)` for `w = 1 - d` as rounded (Kahan).
    """
    is_low = u < 0.5
    missing = (1.0 - u) - 2.98023223876953125e-08
    w = tl.where(is_low, u + 2.98023223876953125e-08, 1.0 - missing)
    rest = 1.0 - w
    log1p = tl.log(w) * tl.where(is_low | (rest == 0.0), 1.0, missing / tl.where(rest == 0.0, 1.0, rest))
    return -tl.log(tl.where(rest == 0.0, missing, -log1p))


@triton.jit(do_not_specialize=["num_items", "num_places", "num_tokens", "places_stride", "pass_index"])
def sample_kernel(
    logits,  # [B, n, V]
    tokens,  # [B, N] int64
    out,  # [B, N] int64
    places,  # [B or 1, n]
    seeds,  # [B] int64
    frames,  # [B] int64
    scratch,  # [4, B, n] int32
    num_items,  # B n
    num_places,  # n
    num_tokens,  # N
    places_stride,
    pass_index,
    scale,  # log2(e) / temperature
    V: tl.constexpr,
    BLOCK_V: tl.constexpr,
    GROUP: tl.constexpr,
    RANKED: tl.constexpr,
    HAS_PLACES: tl.constexpr,
    SPARE: tl.constexpr,
    ELEMENTS: tl.constexpr,
):
    """Sample tokens by inverse CDF with one Philox uniform each.

        e_v   = exp((logits_v - max logits) / temperature)
        token = min { v : e_0 + ... + e_v > u sum e },   p = e_token / sum e

    The sums are taken in two levels: those of `GROUP` neighbours, 16 bytes that one thread loaded, then over
    the groups; the chosen group's logits are read again, from the cache. So a logit costs one addition in
    place of a step of a scan, a comparison and a selection.

    `RANKED` (the place in `RANKINGS`, from 1) writes token (-1 where there is none to decide), p, its score
    and the confidence noise to `scratch`; at 0 the token is decided: it goes to `out`. `SPARE` waits for
    `tokens` before it reads logits, and reads none of a decided token: right where bytes count and wrong
    where latency does.
    """
    BLOCK_N: tl.constexpr = ELEMENTS // BLOCK_V if ELEMENTS > BLOCK_V else 1
    GROUPS: tl.constexpr = BLOCK_V // GROUP
    item = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_item = item < num_items
    row = item // num_places
    place = item - row * num_places
    is_live = is_item
    if HAS_PLACES:
        place = tl.load(places + row.to(tl.int64) * places_stride + place, mask=is_item, other=-1)
        is_live = is_item & (place >= 0) & (place < num_tokens)
    at = row.to(tl.int64) * num_tokens + place
    is_open = is_live & (tl.load(tokens + at, mask=is_live, other=0) < 0)
    is_read = is_open if SPARE else is_live

    first = item.to(tl.int64) * V
    group = tl.arange(0, GROUPS)
    member = tl.arange(0, GROUP)
    v = group[:, None] * GROUP + member[None, :]
    x = tl.load(
        logits + first[:, None, None] + v[None, :, :],
        mask=is_read[:, None, None] & (v < V)[None, :, :],
        other=-float("inf"),
    ).to(tl.float32)  # [BLOCK_N, GROUPS, GROUP]

    if BLOCK_N == 1:  # one row: as scalars they keep all of Philox off the vector units
        seed = tl.load(seeds + tl.program_id(0) // num_places)
        frame = tl.load(frames + tl.program_id(0) // num_places)
    else:
        seed = tl.load(seeds + row, mask=is_item, other=0)
        frame = tl.load(frames + row, mask=is_item, other=0)
    u, noise_u = uniform_pair(seed, place, pass_index, frame, _STREAM)

    top = tl.where(is_read, tl.max(tl.max(x, 2), 1), 0.0)
    e = tl.exp2((x - top[:, None, None]) * scale)
    share = tl.sum(e, 2)  # [BLOCK_N, GROUPS]
    cdf = tl.cumsum(share, 1)
    total = tl.max(cdf, 1)  # the scan's own last entry: u total stays below it, so that a group is found
    bound = u * total
    is_above = (cdf > bound[:, None]) & (share > 0)
    chosen = tl.min(tl.where(is_above, group[None, :], GROUPS - 1), 1)  # the last if logits are NaN
    below = tl.max(tl.where(cdf <= bound[:, None], cdf, 0.0), 1)

    v = chosen[:, None] * GROUP + member[None, :]  # [BLOCK_N, GROUP]
    x = tl.load(
        logits + first[:, None] + v, mask=is_read[:, None] & (v < V), other=-float("inf")
    ).to(tl.float32)  # fmt: skip
    e = tl.exp2((x - top[:, None]) * scale)
    is_above = (below[:, None] + tl.cumsum(e, 1) > bound[:, None]) & (e > 0)
    within = tl.min(tl.where(is_above, member[None, :], GROUP), 1)
    last = tl.max(tl.where(e > 0, member[None, :], 0), 1)  # where the two levels round apart
    within = tl.where(within < GROUP, within, last)
    token = tl.minimum(chosen * GROUP + within, V - 1)

    if RANKED:
        own = tl.sum(tl.where(member[None, :] == within[:, None], e, 0.0), 1)
        p = tl.div_rn(own, total)
        plane = scratch + item
        tl.store(plane, tl.where(is_open, token, -1), mask=is_item)
        plane += num_items.to(tl.int64)
        tl.store(plane, p.to(tl.int32, bitcast=True), mask=is_item)
        plane += num_items.to(tl.int64)
        tl.store(plane, tl.log(p).to(tl.int32, bitcast=True), mask=is_item)
        plane += num_items.to(tl.int64)
        tl.store(plane, gumbel(noise_u).to(tl.int32, bitcast=True), mask=is_item)
    else:
        tl.store(out + at, token.to(tl.int64), mask=is_open)


@triton.jit
def _keys(scratch, num_items, item, is_item, place, scale):
    """Sort keys of tokens: confidence first, then the lower place. `_LOWEST` where there is no token."""
    token = tl.load(scratch + item, mask=is_item, other=-1)
    log_p = tl.load(scratch + 2 * num_items + item, mask=is_item, other=0).to(tl.float32, bitcast=True)
    noise = tl.load(scratch + 3 * num_items + item, mask=is_item, other=0).to(tl.float32, bitcast=True)
    confidence = tl.fma(scale, noise, log_p)  # rounds once wherever it is inlined
    confidence = tl.where(confidence == 0.0, 0.0, confidence)  # zeros are equal, whatever their sign
    bits = confidence.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as integers they compare as the numbers do
    ordered = tl.where(confidence != confidence, 0x7FFFFFFF, ordered)  # NaN above all, as torch sorts it
    key = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64)
    return token, tl.where(token >= 0, key, _LOWEST)


@triton.jit(
    do_not_specialize=[
        "num_items", "num_places", "num_tokens", "places_stride", "num_schedules", "num_passes", "pass_index"
    ]
)  # fmt: skip
def select_kernel(
    scratch,  # [4, B, n] int32
    out,  # [B, N] int64
    places,  # [B or 1, n]
    targets,  # [Q, K] int32
    noise,  # [Q, K] fp32
    passes,  # [B] int32
    num_items,  # B n
    num_places,  # n
    num_tokens,  # N
    places_stride,
    num_schedules,  # Q
    num_passes,  # K
    pass_index,
    threshold,
    HAS_PLACES: tl.constexpr,
    HAS_PASSES: tl.constexpr,
    COUNTS: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Decide the most confident of the tokens that `sample_kernel` sampled.

        confidence = log p + noise gumbel
        rank_i     = | { j : (confidence_j, -j) > (confidence_i, -i) } |
        token i is decided if rank_i < target - decided

    A program ranks `BLOCK_I` tokens among all of their row by comparing each pair: quadratic, but with no
    barrier between programs and nothing to sort. `COUNTS` finds a row's number of passes first, from how
    many of its p are below the threshold.
    """
    blocks = tl.cdiv(num_places, BLOCK_I)
    row = tl.program_id(0) // blocks
    block = tl.program_id(0) - row * blocks
    first = row * num_places
    count = num_items.to(tl.int64)
    lane = tl.arange(0, BLOCK_J)

    own = num_schedules
    if COUNTS:
        unsure = tl.zeros([BLOCK_J], tl.int32)
        for start in range(0, num_places, BLOCK_J):
            j = start + lane
            is_item = j < num_places
            token = tl.load(scratch + first + j, mask=is_item, other=-1)
            p = tl.load(scratch + count + first + j, mask=is_item, other=0).to(tl.float32, bitcast=True)
            unsure += ((token >= 0) & (p < threshold)).to(tl.int32)
        own = tl.maximum(tl.cdiv(num_schedules * tl.sum(unsure), num_places), 1)
        tl.store(passes + row, own, mask=block == 0)
    elif HAS_PASSES:
        own = tl.minimum(tl.maximum(tl.load(passes + row), 1), num_schedules)
    entry = (own - 1).to(tl.int64) * num_passes + pass_index
    target = tl.load(targets + entry)
    scale = tl.load(noise + entry)

    i = block * BLOCK_I + tl.arange(0, BLOCK_I)
    is_mine = i < num_places
    mine, key = _keys(scratch, count, first + i, is_mine, i, scale)
    better = tl.zeros([BLOCK_J, BLOCK_I], tl.int32)  # this way round a thread has few i, and keys of them
    remaining = tl.zeros([BLOCK_J], tl.int32)
    for start in range(0, num_places, BLOCK_J):
        j = start + lane
        token, other = _keys(scratch, count, first + j, j < num_places, j, scale)
        better += (other[:, None] > key[None, :]).to(tl.int32)
        remaining += (token >= 0).to(tl.int32)
    keep = target - (num_places - tl.sum(remaining))
    is_chosen = is_mine & (mine >= 0) & (tl.sum(better, 0) < keep)

    place = i
    if HAS_PLACES:
        place = tl.load(places + row.to(tl.int64) * places_stride + i, mask=is_chosen, other=0)
    tl.store(out + row.to(tl.int64) * num_tokens + place, mine.to(tl.int64), mask=is_chosen)


def maskgit_sample(
    logits: Tensor, tokens: Tensor, seeds: Tensor, frames: Tensor, pass_index: int, temperature: float,
    places: Tensor | None = None, targets: Tensor | None = None, noise: Tensor | None = None,
    passes: Tensor | None = None, threshold: float | None = None, scratch: Tensor | None = None,
    ranking: str = LIKELY,
    *, out: Tensor | None = None, config: Config | None = None, select_config: Config | None = None,
) -> Tensor:  # fmt: skip
    """`kernels/maskgit_sample/reference.py: decide`, on the current stream; does not synchronise.

    Args:
        logits, tokens, seeds, frames, places, targets, noise, passes: as the reference takes them, on one
            CUDA device and, but for the rows of `places`, contiguous.
        scratch: int32, `4 B n` elements or more, contents of no interest; allocated where `targets` are given
            and it is not.
        ranking: one of `RANKINGS`.
        out: `[B, N]` int64, where the decided tokens are written; `tokens` itself where not given.
        config, select_config: of the two kernels, in place of the committed ones.

    Returns:
        `out`.

    Raises:
        InputError, UnsupportedError: an argument is not what the kernels take; nothing was launched.
    """
    check_device(logits, SAMPLE)
    num_rows, num_places, num_codes = check_tensor("logits", logits, [None, None, None], FLOATS).shape
    num_tokens = check_tensor("tokens", tokens, [num_rows, None], [torch.int64], like=logits).shape[1]
    check_tensor("seeds", seeds, [num_rows], [torch.int64], like=logits)
    check_tensor("frames", frames, [num_rows], [torch.int64], like=logits)
    check_range("V", num_codes, 1, MAX_CODES)
    check_range("N", num_tokens, 1, MAX_TOKENS)
    num_items = check_range("B n", num_rows * num_places, 0, 2**30)
    places_stride = _check_places(places, logits, num_tokens)
    if not 0 <= pass_index < 2**31:
        raise InputError(f"pass_index: expected 0 or more, found {pass_index}")
    if ranking not in RANKINGS:
        raise InputError(f"ranking: expected one of {', '.join(RANKINGS)}, found {ranking!r}")
    if not 1e-6 <= temperature <= 1e6:
        raise InputError(f"temperature: expected a number from 1e-06 to 1e+06, found {temperature}")
    _check_schedule(logits, pass_index, places, targets, noise, passes, threshold)
    target = tokens if out is None else check_tensor("out", out, tokens.shape, [torch.int64], like=logits)
    if targets is not None:
        if scratch is None:
            scratch = torch.empty(4 * num_items, dtype=torch.int32, device=logits.device)
        check_tensor("scratch", scratch, [None] * scratch.ndim, [torch.int32], like=logits)
        if scratch.numel() < 4 * num_items:
            raise InputError(f"scratch: expected {4 * num_items} elements or more, found {scratch.numel()}")
    reads = {"logits": logits, "seeds": seeds, "frames": frames, "places": places}
    reads |= {"targets": targets, "noise": noise}
    check_apart(out=target, tokens=None if out is None else tokens, **reads, passes=passes, scratch=scratch)
    if passes is not None:
        check_apart(passes=passes, tokens=tokens, **reads, scratch=scratch)
    if scratch is not None:
        check_apart(scratch=scratch, tokens=tokens, **reads)
    if not num_items:
        return target

    with on_device(logits.device):
        _launch(
            logits, tokens, target, seeds, frames, pass_index, temperature, places, places_stride,
            targets, noise, passes, threshold, scratch, ranking, config, select_config,
        )  # fmt: skip
    return target


def _check_places(places: Tensor | None, logits: Tensor, num_tokens: int) -> int:
    """Elements from one row of `places` to the next."""
    num_rows, num_places, _ = logits.shape
    if places is None:
        if num_places != num_tokens:
            raise InputError(
                f"logits: expected those of all {num_tokens} tokens, found {num_places}; say which in places"
            )
        return 0
    check_tensor(
        "places", places, [None, num_places], [torch.int32, torch.int64], like=logits, contiguous=False
    )
    if places.shape[0] not in (1, num_rows):
        raise InputError(f"places: expected 1 or {num_rows} rows, found {places.shape[0]}")
    if num_places > 1 and places.stride(1) != 1:
        raise InputError(
            f"places: expected rows without gaps, found strides {places.stride()}; call contiguous()"
        )
    return places.stride(0) if places.shape[0] > 1 else 0


def _check_schedule(
    logits: Tensor, pass_index: int, places: Tensor | None, targets: Tensor | None, noise: Tensor | None,
    passes: Tensor | None, threshold: float | None,
) -> None:  # fmt: skip
    """The arguments that say how many tokens to decide."""
    if targets is None or noise is None:
        if any(given is not None for given in (targets, noise, passes, threshold)):
            raise InputError("targets, noise: expected both, for passes and threshold go with them")
        return
    num_schedules, num_passes = check_tensor("targets", targets, [None] * 2, [torch.int32], like=logits).shape
    check_tensor("noise", noise, [num_schedules, num_passes], [torch.float32], like=logits)
    if not num_schedules or pass_index >= num_passes:
        raise InputError(
            f"targets: expected a column for pass {pass_index}, found shape {list(targets.shape)}"
        )
    check_range("passes of a plan", max(num_schedules, num_passes), 1, MAX_TOKENS)
    if passes is not None:
        check_tensor("passes", passes, [logits.shape[0]], [torch.int32], like=logits)
    if threshold is not None and (passes is None or places is not None):
        raise InputError("threshold: expected passes to write to, and the logits of all tokens (no places)")


def _launch(
    logits, tokens, out, seeds, frames, pass_index, temperature, places, places_stride, targets, noise,
    passes, threshold, scratch, ranking, config, select_config,
):  # fmt: skip
    num_rows, num_places, num_codes = logits.shape
    num_items, num_tokens = num_rows * num_places, tokens.shape[1]
    ranked, has_places = targets is not None, places is not None
    spare = ranked and num_items > ONE_WAVE
    group = 16 // logits.element_size()
    block_v = max(next_power_of_2(num_codes), group)
    kind = ("many" if spare else "few") if ranked else "static"
    name = f"{TRITON_TYPES[logits.dtype]}-v{block_v}-{kind}"
    chosen = _fitted(config or SAMPLE.config_for(name, logits.device), block_v)
    per_program = max(dict(chosen.blocks)["ELEMENTS"] // block_v, 1)
    SAMPLE.launch(
        (triton.cdiv(num_items, per_program),), chosen,
        logits, tokens, out, places if has_places else tokens, seeds, frames, scratch if ranked else tokens,
        num_items, num_places, num_tokens, places_stride, pass_index, math.log2(math.e) / temperature,
        V=num_codes, BLOCK_V=block_v, GROUP=group, RANKED=1 + list(RANKINGS).index(ranking) if ranked else 0,
        HAS_PLACES=has_places, SPARE=spare,
    )  # fmt: skip
    if not ranked:
        return
    counts = threshold is not None
    name = f"n{next_power_of_2(num_places)}" + ("-places" if has_places else "-count" if counts else "")
    chosen = select_config or SELECT.config_for(name, logits.device)
    blocks = triton.cdiv(num_places, dict(chosen.blocks)["BLOCK_I"])
    num_schedules, num_passes = targets.shape
    SELECT.launch(
        (num_rows * blocks,), chosen,
        scratch, out, places if has_places else tokens, targets, noise, targets if passes is None else passes,
        num_items, num_places, num_tokens, places_stride, num_schedules, num_passes, pass_index,
        threshold if counts else 1.0,
        HAS_PLACES=has_places, HAS_PASSES=passes is not None, COUNTS=counts,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _fitted(config: Config, block_v: int) -> Config:
    """Add as many warps as a long row of logits needs to stay in registers."""
    elements = max(dict(config.blocks)["ELEMENTS"], block_v)
    return dataclasses.replace(
        config, num_warps=min(max(config.num_warps, elements // (32 * THREAD_ELEMENTS)), 16)
    )


def cost(*, num_rows: int, num_places: int, num_codes: int, itemsize: int, num_decided: int = 0) -> Cost:
    """Reads a row's state and the logits of what is not decided there yet; writes tokens (all, in one pass).

    Uniforms come from nowhere and candidates stay on the chip, so neither counts.
    """
    num_open = num_places - num_decided
    per_row = num_open * num_codes * itemsize + 8 * num_places + 8 * num_open + 16
    return Cost(flops=0, bytes=num_rows * per_row)


AUTOTUNE_SPACE = (
    config(4, 1, ELEMENTS=1024),
    config(1, 1, ELEMENTS=1024),
    config(2, 1, ELEMENTS=1024),
    config(8, 1, ELEMENTS=1024),
    config(2, 1, ELEMENTS=2048),
    config(4, 1, ELEMENTS=2048),
    config(4, 1, ELEMENTS=4096),
    config(8, 1, ELEMENTS=4096),
)
"""Logits per program: of one token where it has more of them, of several where fewer."""

SELECT_SPACE = (
    config(4, 1, BLOCK_I=32, BLOCK_J=64),
    config(4, 1, BLOCK_I=16, BLOCK_J=128),
    config(4, 1, BLOCK_I=32, BLOCK_J=128),
    config(8, 1, BLOCK_I=8, BLOCK_J=512),
    config(8, 1, BLOCK_I=16, BLOCK_J=256),
    config(8, 1, BLOCK_I=16, BLOCK_J=512),
    config(8, 1, BLOCK_I=32, BLOCK_J=256),
    config(8, 1, BLOCK_I=64, BLOCK_J=128),
)


def _sample_variants() -> tuple[Variant, ...]:
    variants = []
    for dtype in FLOATS:
        short, itemsize = TRITON_TYPES[dtype], dtype.itemsize
        for kind in ("few", "many", "static"):
            ranked = kind != "static"
            types = {
                "logits": f"*{short}", "tokens": "*i64", "out": "*i64", "places": "*i64", "seeds": "*i64",
                "frames": "*i64", "scratch": "*i32" if ranked else "*i64", "num_items": "i32",
                "num_places": "i32", "num_tokens": "i32", "places_stride": "i32", "pass_index": "i32",
                "scale": "fp32",
            }  # fmt: skip
            constants = {
                "V": 1024, "BLOCK_V": 1024, "GROUP": 16 // itemsize, "RANKED": ranked,
                "HAS_PLACES": not ranked, "SPARE": kind == "many",
            }  # fmt: skip
            variants.append(Variant(name=f"{short}-v1024-{kind}", types=types, constants=constants))
    return tuple(variants)


def _select_variants() -> tuple[Variant, ...]:
    types = {
        "scratch": "*i32", "out": "*i64", "places": "*i64", "targets": "*i32", "noise": "*fp32",
        "passes": "*i32", "num_items": "i32", "num_places": "i32", "num_tokens": "i32",
        "places_stride": "i32", "num_schedules": "i32", "num_passes": "i32", "pass_index": "i32",
        "threshold": "fp32",
    }  # fmt: skip
    kinds = {
        "": {"HAS_PLACES": False, "HAS_PASSES": False, "COUNTS": False},
        "-places": {"HAS_PLACES": True, "HAS_PASSES": False, "COUNTS": False},
        "-count": {"HAS_PLACES": False, "HAS_PASSES": True, "COUNTS": True},
    }
    return tuple(
        Variant(name=f"n{tokens}{suffix}", types=types, constants=constants)
        for tokens in (256, 1024)
        for suffix, constants in kinds.items()
    )


SAMPLE = Kernel(
    name="maskgit_sample", function=sample_kernel, space=AUTOTUNE_SPACE, variants=_sample_variants()
)
SELECT = Kernel(
    name="maskgit_select", function=select_kernel, space=SELECT_SPACE, variants=_select_variants()
)
KERNELS = (SAMPLE, SELECT)
