"""Inputs of the presets' dynamics and decoders: a first pass, one in the middle of a frame, and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, normalize

from genie_rt.kernels.case import Case
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.embed_tokens import kernel, reference
from genie_rt.kernels.shapes import SHAPES, ModelShape

BATCHES = (1, 16)
EMBEDDING = 64
"""Width of a token's vector in the presets' dynamics."""

ACTIONS = 8


class Inputs(NamedTuple):
    """Arguments of the operator, in its order."""

    tokens: Tensor
    previous: Tensor | None
    actions: Tensor | None
    token_rows: Tensor
    previous_rows: Tensor | None
    position: Tensor
    action_rows: Tensor | None
    members: Tensor


def make_members(rows: int, columns: int, merge: int) -> Tensor:
    """The tokens of each position where `merge x merge` neighbours of a grid share one: `[P, S]` int32."""
    grid = torch.arange(rows * columns, dtype=torch.int32).view(rows // merge, merge, columns // merge, merge)
    return grid.transpose(1, 2).reshape(-1, merge**2)


def make_tokens(
    num_frames: int, num_codes: int, members: Tensor, decided: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens and previous tokens, `[F, N]` each, in random order.

    In every slot the same share is decided, and their codes, as the previous codes of the others, are `0, 1,
    ...` and over again: how many rows of a table are met follows from the sizes.
    """
    places = num_frames * len(members)
    draw = torch.rand(places, members.shape[1], generator=generator, device=members.device)
    rank = draw.argsort(0)  # of each place in its slot
    split = int(decided * places)
    token = torch.where(rank < split, rank % num_codes, -1)
    before = (rank - split) % num_codes
    order = members.flatten().long().argsort()  # from positions to the frame's own order
    token, before = (x.view(num_frames, -1)[:, order] for x in (token, before))
    return token, before


def make_inputs(
    dtype: torch.dtype,
    device: torch.device,
    *,
    num_frames: int = 2,
    grid: tuple[int, int] = (2, 3),
    merge: int = 1,
    num_codes: int = 24,
    width: int = 16,
    num_actions: int = 3,
    decided: float = 0.5,
    decoder: bool = False,
    seed: int = 0,
) -> Inputs:
    """Random tokens and tables.

    Args:
        decided: share of the tokens.
        decoder: without previous tokens and actions.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    members = make_members(*grid, merge).to(device)
    tokens, previous = make_tokens(num_frames, num_codes, members, decided, generator)
    actions = torch.arange(num_frames, device=device) % (num_actions + 1) - 1  # the null action first
    slots = merge**2
    return Inputs(
        tokens=tokens,
        previous=None if decoder else previous,
        actions=None if decoder else actions,
        token_rows=draw(slots, num_codes + 1, width),
        previous_rows=None if decoder else draw(slots, num_codes, width),
        position=draw(len(members), width),
        action_rows=None if decoder else draw(num_actions + 1, width),
        members=members,
    )


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Per preset and batch a first pass, one with half of the tokens decided, and the decoder's input."""
    for name, shape in SHAPES.items():
        for batch in BATCHES:
            yield _dynamics_case(f"{name} B={batch} first pass", shape, batch, 0.0, dtype, device)
            yield _dynamics_case(f"{name} B={batch} half decided", shape, batch, 0.5, dtype, device)
            width = kernel.DECODER_WIDTHS[name]
            yield _decoder_case(f"{name} B={batch} decoder", shape, width, batch, dtype, device)


def _grid(shape: ModelShape) -> tuple[int, int]:
    return math.ceil(shape.height / shape.patch), math.ceil(shape.width_px / shape.patch)


def _dynamics_case(
    name: str, shape: ModelShape, batch: int, decided: float, dtype: torch.dtype, device: torch.device
) -> Case:
    merge = math.isqrt(shape.tokens // shape.positions)
    slots = merge**2
    inputs = make_inputs(
        dtype, device, num_frames=batch, grid=_grid(shape), merge=merge, num_codes=shape.codes,
        width=shape.width, num_actions=ACTIONS, decided=decided,
    )  # fmt: skip
    # vectors and maps of which the rows are the products, so that the library computes the same
    generator = torch.Generator(device).manual_seed(1)
    table = torch.randn(shape.codes + 1, EMBEDDING, generator=generator, device=device)  # the mask's is last
    maps = torch.randn(2, slots, shape.width, EMBEDDING, generator=generator, device=device)
    maps *= (slots * EMBEDDING) ** -0.5
    token_rows, previous_rows = (table @ maps.mT).to(dtype)
    inputs = inputs._replace(token_rows=token_rows, previous_rows=previous_rows[:, :-1].contiguous())
    token_in, previous_in = maps.transpose(1, 2).flatten(2).to(dtype)  # [D, S * E]
    codes, mask = table[:-1].to(dtype), table[-1].to(dtype)
    order = inputs.members.flatten().long()

    def merged(vectors: Tensor) -> Tensor:
        return vectors[:, order].view(batch, shape.positions, -1)

    def library() -> Tensor:
        assert inputs.previous is not None and inputs.actions is not None and inputs.action_rows is not None
        masked = (inputs.tokens < 0)[..., None]
        vectors = torch.where(masked, mask, codes[inputs.tokens.clamp(min=0)])
        before = codes[inputs.previous.clamp(min=0)] * (masked & (inputs.previous >= 0)[..., None])
        x = linear(merged(vectors), token_in) + linear(merged(before), previous_in)
        return x + inputs.position + inputs.action_rows[inputs.actions][:, None]

    places = batch * shape.positions
    least = kernel.cost(
        batch, shape.positions, slots, shape.codes, shape.width, dtype,
        decided=slots * int(decided * places), actions=ACTIONS + 1,
    )  # fmt: skip
    return _case(name, inputs, {"embedding + linear": library}, least)


def _decoder_case(
    name: str, shape: ModelShape, width: int, batch: int, dtype: torch.dtype, device: torch.device
) -> Case:
    inputs = make_inputs(
        dtype, device, num_frames=batch, grid=_grid(shape), num_codes=shape.codes, width=width, decided=1.0,
        decoder=True,
    )  # fmt: skip
    generator = torch.Generator(device).manual_seed(1)
    codebook = torch.randn(shape.codes + 1, shape.code_width, generator=generator, device=device)
    units = normalize(codebook, dim=-1)
    weight = torch.randn(width, shape.code_width, generator=generator, device=device)
    inputs = inputs._replace(token_rows=(units @ weight.mT).to(dtype)[None])
    units, weight = units.to(dtype), weight.to(dtype)

    def library() -> Tensor:
        return linear(embedding(inputs.tokens, units), weight) + inputs.position

    least = kernel.cost(
        batch, shape.tokens, 1, shape.codes, width, dtype, decided=batch * shape.tokens, has_previous=False
    )
    return _case(name, inputs, {"embedding + linear": library}, least)


def _case(name: str, inputs: Inputs, baselines: dict[str, Callable[[], object]], least: Cost) -> Case:
    rows = inputs.token_rows
    out = torch.empty(len(inputs.tokens), *inputs.position.shape, dtype=rows.dtype, device=rows.device)
    if rows.is_cuda:
        compiled = torch.compile(reference.embed_tokens)
        baselines["torch.compile"] = lambda: compiled(*inputs)
    return Case(
        op="embed_tokens",
        name=name,
        dtype=rows.dtype,
        run=lambda: (kernel.embed_tokens(*inputs, out=out),),
        reference=lambda: (reference.embed_tokens(*inputs),),
        baselines=baselines,
        cost=least,
    )
