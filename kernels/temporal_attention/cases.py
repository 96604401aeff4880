"""Inputs of `temporal_attention`, its cases at the presets' sizes, and library calls for the same job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from genie_rt.kernels.case import Case, Outputs
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.quantise.kernel import FP8
from genie_rt.kernels.shapes import SHAPES, ModelShape
from genie_rt.kernels.spatial_attention.cases import flex_attention_of
from genie_rt.kernels.temporal_attention.kernel import cost, temporal_attention
from genie_rt.kernels.temporal_attention.reference import indexable, paged_temporal_attention, to_page
from genie_rt.kernels.temporal_attention.reference import temporal_attention as attention

NUM_LAYERS = 4
"""Layers of the cases' pages. All of `genie-10b` would be 14 GB, and no layer reads another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Arguments of the operator."""

    qkv: Tensor
    q_weight: Tensor
    k_weight: Tensor
    bias: Tensor
    pages: Tensor
    table: Tensor
    layer: int
    index: Tensor | None

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, Tensor | None]:
        """Arguments in the operator's order."""
        return (
            self.qkv, self.q_weight, self.k_weight, self.bias, self.pages, self.table, self.layer, self.index
        )  # fmt: skip

    def outputs(self, out: Tensor) -> Outputs:
        """All that a case's call writes: with two frames the layer's pages come second."""
        return (out,) if self.qkv.shape[1] == 1 else (out, self.pages[:, self.layer])

    def widened(self) -> Inputs:
        """A copy in twice the precision, of this layer alone; pages in 8 bits stay as they are."""
        wide = torch.float64 if self.qkv.dtype == torch.float32 else torch.float32
        pages = self.pages[:, self.layer, None]
        return replace(
            self,
            qkv=self.qkv.to(wide), q_weight=self.q_weight.to(wide), k_weight=self.k_weight.to(wide),
            bias=self.bias.to(wide), pages=pages.clone() if pages.dtype == FP8.dtype else pages.to(wide),
            layer=0,
        )  # fmt: skip


def make_inputs(
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    batch: int = 1,
    frames: int = 1,
    positions: int,
    heads: int,
    head_width: int,
    window: int,
    num_layers: int = 1,
    queries: int | None = None,
    written: int = 0,
    page_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Inputs:
    """Pages are full of keys and values and lie in any order; every past frame exists.

    Args:
        queries: positions of them, other ones for every row; None, all of them.
        written: how many of the query frames are written, the oldest ones.
        page_dtype: of the pages; None, that of the rest.
    """
    generator = torch.Generator(device).manual_seed(seed)
    draw = partial(torch.randn, generator=generator, device=device)
    count = batch * (window - 1 + frames)
    order = torch.randperm(count + 1, generator=torch.Generator().manual_seed(seed))[:count]
    table = order.view(batch, -1).to(torch.int32)
    table[:, : frames - written] = -1
    index = None
    if queries is not None:
        index = draw(batch, positions).argsort(1)[:, :queries].to(torch.int32).contiguous()
    return Inputs(
        qkv=draw(batch, frames, queries or positions, 3, heads, head_width).to(dtype),
        q_weight=(1 + 0.3 * draw(head_width)).to(dtype),
        k_weight=(1 + 0.3 * draw(head_width)).to(dtype),
        bias=draw(heads, window).to(dtype),
        pages=to_page(draw(count + 1, num_layers, 2, positions, heads, head_width), page_dtype or dtype),
        table=table.to(device),
        layer=num_layers // 2,
        index=index,
    )


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """List every preset's cases: a frame, one with the last frame's commit, one at half its positions.

    With 16 bits the same again over pages in fp8, where there is fp8.
    """
    page_dtypes = [dtype]
    if dtype.itemsize == 2 and capability_of(device) >= FP8.capability:
        page_dtypes.append(FP8.dtype)
    for name, shape in SHAPES.items():
        for page_dtype in page_dtypes:
            pages = "" if page_dtype == dtype else ", fp8 pages"
            make = partial(make_case, shape=shape, dtype=dtype, device=device, page_dtype=page_dtype)
            yield make(f"{name} T=1{pages}")
            yield make(f"{name} T=2{pages}", frames=2)
            yield make(f"{name} Q=P/2{pages}", queries=shape.positions // 2)


def make_case(
    name: str,
    shape: ModelShape,
    dtype: torch.dtype,
    device: torch.device,
    *,
    frames: int = 1,
    queries: int | None = None,
    num_layers: int = NUM_LAYERS,
    page_dtype: torch.dtype | None = None,
) -> Case:
    """A full window of pages; the frame before the newest one is written, if it is a query frame."""
    inputs = make_inputs(
        dtype, device, frames=frames, positions=shape.positions, heads=shape.heads,
        head_width=shape.head_width, window=shape.window, num_layers=num_layers, queries=queries,
        written=frames - 1, page_dtype=page_dtype,
    )  # fmt: skip
    out = torch.empty_like(inputs.qkv[:, :, :, 0])

    def reference() -> Outputs:
        wide = inputs.widened()
        return wide.outputs(paged_temporal_attention(*wide.arguments))

    return Case(
        op="temporal_attention",
        name=name,
        dtype=dtype,
        run=lambda: inputs.outputs(temporal_attention(*inputs.arguments, out=out)),
        reference=reference,
        baselines=baselines(inputs),
        cost=cost(
            dtype, batch=1, frames=frames, queries=queries or shape.positions, heads=shape.heads,
            head_width=shape.head_width, window=shape.window, written=frames - 1,
            page_dtype=page_dtype,
        ),
    )  # fmt: skip


def baselines(inputs: Inputs) -> dict[str, Callable[[], Tensor]]:
    """Library calls that give the operator's output, where every past frame exists.

    "sdpa", "flex_attention" and "compile" do its whole job. "sdpa, stacked" is the attention alone: queries,
    keys and values are normed and lie in memory as it likes them best, and no page is read.
    """
    window = inputs.bias.shape[1]
    frames = inputs.qkv.shape[1]

    @cache
    def ages() -> Tensor:
        age = torch.arange(window - 1 + frames, device=inputs.qkv.device)
        to_query = age - age[:frames].flip(0)[:, None]
        return torch.where((to_query >= 0) & (to_query < window), to_query, -1)[None]  # [1, T, W-1+T]

    @cache
    def mask() -> Tensor:
        bias = inputs.bias[:, ages()[0].clamp(min=0)].masked_fill(ages() < 0, -torch.inf)  # [H, T, W-1+T]
        return bias.expand(len(inputs.qkv) * inputs.qkv.shape[2], -1, -1, -1)

    def by_position(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1, 4).flatten(0, 1)  # [B, T, Q, H, Dh] to [B*Q, H, T, Dh]

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask())
        return out.unflatten(0, (len(inputs.qkv), -1)).permute(0, 3, 1, 2, 4)

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = mask()[0]  # [H, T, W-1+T]
        out = flex_attention_of(q)(q, k, v, score_mod=lambda score, b, h, i, j: score + bias[h, i, j])
        return out.unflatten(0, (len(inputs.qkv), -1)).permute(0, 3, 1, 2, 4)

    @cache
    def stacked() -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (by_position(x).contiguous() for x in _gathered(inputs))
        return q, k, v

    @cache
    def compiled() -> Callable[[], Tensor]:
        visible = ages()
        return torch.compile(lambda: attention(*_gathered(inputs), inputs.bias, visible), dynamic=False)

    calls: dict[str, Callable[[], Tensor]] = {
        "sdpa": lambda: sdpa(*(by_position(x) for x in _gathered(inputs))),
        "sdpa, stacked": lambda: sdpa(*stacked()),
        "flex_attention": lambda: flex(*(by_position(x) for x in _gathered(inputs))),
    }
    if inputs.qkv.is_cuda:
        calls["compile"] = lambda: compiled()()
    return calls


def _gathered(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """q `[B, T, Q, H, Dh]`, k and v `[B, W - 1 + T, Q, H, Dh]` by age, normed; the older frame is written."""
    frames, dtype, page_dtype = inputs.qkv.shape[1], inputs.qkv.dtype, inputs.pages.dtype
    q, k, v = inputs.qkv.unbind(3)
    q, k = rms_norm(q, inputs.q_weight), rms_norm(k, inputs.k_weight)
    k, v = to_page(k, page_dtype), to_page(v, page_dtype)
    table, pages = inputs.table.long(), indexable(inputs.pages)
    past = pages[table[:, frames:], inputs.layer].view(page_dtype).to(dtype)  # [B, W-1, 2, P, H, Dh]
    if inputs.index is not None:
        past = past.take_along_dim(inputs.index.long()[:, None, None, :, None, None], 3)
    if frames == 2:
        pages[table[:, 1], inputs.layer] = indexable(torch.stack([k[:, 0], v[:, 0]], 1))
    k, v = k.to(dtype), v.to(dtype)
    return q, torch.cat([k.flip(1), past[:, :, 0]], 1), torch.cat([v.flip(1), past[:, :, 1]], 1)
