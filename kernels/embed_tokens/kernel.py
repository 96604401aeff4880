"""Inputs of a transformer over tokens, as sums of rows of tables: a gather that is bound by bytes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genie_rt.kernels.arguments import FLOATS, check_apart, check_range, check_tensor
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.embed_tokens.reference import check_pair
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

MAX_FRAMES = 2**20
MAX_TOKENS = 2**30
MAX_ROWS = 2**30
"""Largest number of rows of the output, `F * P`."""

MAX_SLOTS = 16
MAX_CODES = 65536
MAX_WIDTH = 16384
MAX_ACTIONS = 2**30

DECODER_WIDTHS = {"demo": 128, "coinrun": 512, "genie-500m": 1024, "genie-2b": 1024, "genie-10b": 1024}
"""Width of the tokenizer's decoder by preset; a test compares them with the presets' configurations."""


@triton.jit(do_not_specialize=("num_frames", "num_tokens", "num_positions", "num_codes", "num_actions"))
def _embed_tokens(
    tokens_ptr, previous_ptr, actions_ptr, token_rows_ptr, previous_rows_ptr, position_ptr, action_rows_ptr,
    members_ptr, out_ptr, num_frames, num_tokens, num_positions, num_codes, num_actions,
    D: tl.constexpr, PADDED_D: tl.constexpr, S: tl.constexpr, HAS_PREVIOUS: tl.constexpr,
    HAS_ACTIONS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """`out[f, p] = position[p] + action_rows[actions[f]] + sum_s row(s, tokens[f, members[p, s]])`.

    `row(s, v)` is `token_rows[s, v]`, and `token_rows[s, V] + previous_rows[s, previous]` where `v` is
    undecided. Sums are in fp32.

    One program has `TILE` numbers of one frame: some positions, and at most `COLUMNS` columns of them.
    Neighbouring programs have the same positions of neighbouring frames, whose rows of `position` are then
    read from memory once. Columns change last, which keeps the part of the tables that is in use small.
    """
    BLOCK_D: tl.constexpr = COLUMNS if COLUMNS < PADDED_D else PADDED_D
    ROWS: tl.constexpr = TILE // BLOCK_D
    frame = (tl.program_id(0) % num_frames).to(tl.int64)
    place = (tl.program_id(0) // num_frames * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    is_place = place < num_positions
    inside = is_place[:, None] & (column < D)
    total = tl.load(position_ptr + place[:, None] * D + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_ACTIONS:
        action = tl.load(actions_ptr + frame)
        action = tl.where((action >= 0) & (action < num_actions), action, num_actions)
        # every row loads its own, from L1 mostly: handing one on would take shared memory and a barrier
        action = tl.zeros([ROWS, 1], tl.int64) + action
        total += tl.load(action_rows_ptr + action * D + column, mask=inside, other=0.0).to(tl.float32)
    # four at a time: unrolled as a whole, 16 slots of an odd width spill
    for slot in tl.range(S, loop_unroll_factor=4):
        member = tl.load(members_ptr + place * S + slot, mask=is_place, other=-1)
        is_member = (member >= 0) & (member < num_tokens)
        at = frame * num_tokens + member
        token = tl.load(tokens_ptr + at, mask=is_member, other=-1)
        is_decided = (token >= 0) & (token < num_codes)
        row = tl.where(is_decided, token, num_codes) + slot * (num_codes + 1)
        total += tl.load(
            token_rows_ptr + row[:, None] * D + column, mask=inside, other=0.0
        ).to(tl.float32)  # fmt: skip
        if HAS_PREVIOUS:
            # read whether it counts or not: waiting for the token would take longer than these bytes do
            before = tl.load(previous_ptr + at, mask=is_member, other=-1)
            is_seen = (before >= 0) & (before < num_codes) & ~is_decided
            row = before + slot * num_codes
            total += tl.load(
                previous_rows_ptr + row[:, None] * D + column, mask=inside & is_seen[:, None], other=0.0
            ).to(tl.float32)  # fmt: skip
    offset = (frame * num_positions + place)[:, None] * D + column
    tl.store(out_ptr + offset, total.to(out_ptr.dtype.element_ty), mask=inside)


AUTOTUNE_SPACE = (
    config(4, 1, COLUMNS=512, TILE=1024),
    config(4, 1, COLUMNS=512, TILE=2048),
    config(4, 1, COLUMNS=1024, TILE=1024),
    config(8, 1, COLUMNS=512, TILE=4096),
    config(8, 1, COLUMNS=1024, TILE=2048),
    config(2, 1, COLUMNS=512, TILE=512),
    config(4, 1, COLUMNS=64, TILE=1024),
    config(1, 1, COLUMNS=256, TILE=256),
)
"""`TILE`: numbers of a program, in rows of `COLUMNS` or of a width rounded up to a power of 2, whichever is
less; 8 or 16 a thread. 64 columns divide a width such as 192. The loop is over few slots: no stages."""


def rows_of_tile(chosen: Config, width: int) -> int:
    """Positions of a program, as the kernel computes it."""
    blocks = dict(chosen.blocks)
    return blocks["TILE"] // min(blocks["COLUMNS"], next_power_of_2(width))


def _variant(dtype: torch.dtype, width: int, slots: int, has_previous: bool, has_actions: bool) -> str:
    name = f"{TRITON_TYPES[dtype]}-d{width}-s{slots}"
    return name + ("-previous" if has_previous else "") + ("-actions" if has_actions else "")


def _constants(width: int, slots: int, has_previous: bool, has_actions: bool) -> dict[str, int | bool]:
    return {
        "D": width, "PADDED_D": next_power_of_2(width), "S": slots, "HAS_PREVIOUS": has_previous,
        "HAS_ACTIONS": has_actions,
    }  # fmt: skip


def _variants() -> tuple[Variant, ...]:
    """List the variants of every preset's dynamics and tokenizer decoder."""
    kinds = {(shape.width, shape.tokens // shape.positions, True, True): 0 for shape in SHAPES.values()}
    kinds |= {(width, 1, False, False): 0 for width in DECODER_WIDTHS.values()}
    indices = ("tokens_ptr", "previous_ptr", "actions_ptr")
    numbers = ("token_rows_ptr", "previous_rows_ptr", "position_ptr", "action_rows_ptr")
    sizes = ("num_frames", "num_tokens", "num_positions", "num_codes", "num_actions")
    found = []
    for dtype in FLOATS:
        number = f"*{TRITON_TYPES[dtype]}"
        types = dict.fromkeys(indices, "*i64") | dict.fromkeys(numbers, number)
        types |= {"members_ptr": "*i32", "out_ptr": number} | dict.fromkeys(sizes, "i32")
        for kind in kinds:
            found.append(Variant(name=_variant(dtype, *kind), types=types, constants=_constants(*kind)))
    return tuple(found)


KERNEL = Kernel(name="embed_tokens", function=_embed_tokens, space=AUTOTUNE_SPACE, variants=_variants())
KERNELS = (KERNEL,)


def embed_tokens(
    tokens: Tensor,
    previous: Tensor | None,
    actions: Tensor | None,
    token_rows: Tensor,
    previous_rows: Tensor | None,
    position: Tensor,
    action_rows: Tensor | None,
    members: Tensor,
    *,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Launch `reference.embed_tokens` on the current stream; does not synchronise.

    Indices out of range are never followed and count as in the reference: tokens, previous tokens and
    members as none, actions as the null action.

    Args:
        tokens: `[F, N]` int64, contiguous, F at most 2^20, N at most 2^30. Negative where undecided.
        previous: as `tokens`; None where none counts.
        actions: `[F]` int64, contiguous, negative for the null action; None where none is added.
        token_rows: `[S, V + 1, D]` fp32, fp16 or bf16, contiguous, S at most 16, V at most 65536, D at most
            16384. Row V of each slot is the mask's.
        previous_rows: `[S, V, D]` in the same dtype, contiguous; None exactly where `previous` is.
        position: `[P, D]` in the same dtype, contiguous; `F * P` at most 2^30.
        action_rows: `[A + 1, D]` in the same dtype, contiguous; None exactly where `actions` is.
        members: `[P, S]` int32, contiguous, `P * S` at most N: the tokens of each position.
        out: `[F, P, D]` in the same dtype, memory of its own; allocated where not given.
        config: in place of the one that is tuned for this device.

    Returns:
        `out`.

    Raises:
        InputError, UnsupportedError: an argument is not as above.
    """
    check_device(tokens, KERNEL)
    check_tensor("tokens", tokens, (None, None), (torch.int64,))
    num_frames, num_tokens = tokens.shape
    check_range("frames", num_frames, 1, MAX_FRAMES)
    check_range("tokens of a frame", num_tokens, 1, MAX_TOKENS)

    check_tensor("token_rows", token_rows, (None, None, None), FLOATS, like=tokens)
    slots, num_codes, width = token_rows.shape[0], token_rows.shape[1] - 1, token_rows.shape[2]
    check_range("slots", slots, 1, MAX_SLOTS)
    check_range("codes", num_codes, 1, MAX_CODES)
    check_range("width", width, 1, MAX_WIDTH)
    dtypes = (token_rows.dtype,)

    check_tensor("position", position, (None, width), dtypes, like=tokens)
    num_positions = len(position)
    check_range("positions", num_positions, 1, num_tokens // slots)
    check_range("rows, F * P", num_frames * num_positions, 1, MAX_ROWS)
    check_tensor("members", members, (num_positions, slots), (torch.int32,), like=tokens)

    check_pair(previous=previous, previous_rows=previous_rows)
    if previous is not None and previous_rows is not None:
        check_tensor("previous", previous, tokens.shape, (torch.int64,), like=tokens)
        check_tensor("previous_rows", previous_rows, (slots, num_codes, width), dtypes, like=tokens)
    check_pair(actions=actions, action_rows=action_rows)
    num_actions = 0
    if actions is not None and action_rows is not None:
        check_tensor("actions", actions, (num_frames,), (torch.int64,), like=tokens)
        check_tensor("action_rows", action_rows, (None, width), dtypes, like=tokens)
        num_actions = check_range("actions", len(action_rows) - 1, 0, MAX_ACTIONS)

    shape = (num_frames, num_positions, width)
    if out is None:
        out = torch.empty(shape, dtype=token_rows.dtype, device=tokens.device)
    else:
        check_tensor("out", out, shape, dtypes, like=tokens)
        check_apart(
            out=out, tokens=tokens, previous=previous, actions=actions, token_rows=token_rows,
            previous_rows=previous_rows, position=position, action_rows=action_rows, members=members,
        )  # fmt: skip

    kind = (width, slots, previous is not None, actions is not None)
    chosen = config or KERNEL.config_for(_variant(token_rows.dtype, *kind), tokens.device)
    columns = min(dict(chosen.blocks)["COLUMNS"], next_power_of_2(width))
    blocks = triton.cdiv(num_positions, rows_of_tile(chosen, width))
    with on_device(tokens.device):
        KERNEL.launch(
            (num_frames * blocks, triton.cdiv(width, columns)), chosen,
            tokens, tokens if previous is None else previous, tokens if actions is None else actions,
            token_rows, token_rows if previous_rows is None else previous_rows, position,
            position if action_rows is None else action_rows, members, out,
            num_frames, num_tokens, num_positions, num_codes, num_actions, **_constants(*kind),
        )  # fmt: skip
    return out


def cost(
    frames: int, positions: int, slots: int, codes: int, width: int, dtype: torch.dtype, *,
    decided: int, has_previous: bool = True, actions: int = 0,
) -> Cost:  # fmt: skip
    """Reads tokens, previous ones where undecided, members, and every row that is met; writes the output.

    A table's row is read once however often it is met, so at most all of them are.

    Args:
        decided: of the `F * P * S` tokens, evenly among the slots and over the codes.
        actions: rows of actions, the null action's included; 0 where no action is added.
    """
    undecided = frames * positions * slots - decided
    seen = undecided if has_previous else 0
    masks = slots if undecided else 0
    acting = min(frames, actions)
    rows = min(decided, slots * codes) + masks + min(seen, slots * codes) + acting + positions
    rows += frames * positions  # of the output
    indices = 8 * (frames * positions * slots + seen + (frames if actions else 0)) + 4 * positions * slots
    return Cost(flops=0, bytes=indices + rows * width * dtype.itemsize)
